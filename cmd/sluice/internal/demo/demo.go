// Package demo shows Sluice's main job on real parts: rows are committed to a
// throw-away PostgreSQL with Sluice as its synchronous standby; under load the
// primary is killed and its data directory removed; a new PostgreSQL is
// restored through Sluice, and every acknowledged row is counted.
//
// It does what an operator would do, with the commands that an operator would
// type, and shows them: the verbs of sluice run as child processes.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sluicewal/sluice/internal/pgserver"
)

// ErrLost says that an acknowledged row is missing, or not what was committed.
var ErrLost = errors.New("acknowledged rows are lost")

// Options of a demo. Only Out is required.
type Options struct {
	// Out gets the story, line by line.
	Out io.Writer
	// Keep leaves everything running at the end, until the context ends.
	Keep bool
	// Binary is the sluice to run; empty: this one.
	Binary string
}

const (
	timelineName = "demo/main"
	nodeID       = "demo" // also what Sluice calls itself to PostgreSQL
	sessions     = 8      // that commit rows at once

	firstLoad  = 6 * time.Second // before the disaster
	secondLoad = 3 * time.Second // after the failover

	// atMost bounds the whole demo; it takes about a third of it.
	atMost = 90 * time.Second
)

// demo is one run of it.
type demo struct {
	say     *narrator
	keep    bool
	dir     string // everything is in here
	binary  string
	node    *node
	primary *pgserver.Server // the one that takes writes; nil: none
	ledger  *ledger
}

// Run tells and does it all. It returns nil only if no acknowledged row is
// lost. When ctx ends, everything is cleaned up and its cause returned.
func Run(ctx context.Context, opts Options) error {
	d, err := prepare(opts)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	err = d.run(ctx)
	if err == nil && d.keep {
		d.say.line("")
		d.addresses()
		<-ctx.Done()
	}
	return errors.Join(err, d.cleanUp(err != nil && ctx.Err() == nil))
}

// prepare makes the directory, and finds the binary.
func prepare(opts Options) (*demo, error) {
	binary := opts.Binary
	if binary == "" {
		var err error
		if binary, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp("", "sluice-demo-")
	if err != nil {
		return nil, err
	}
	binary, err = reachable(binary, dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &demo{
		say: &narrator{out: opts.Out}, keep: opts.Keep, dir: dir, binary: binary, ledger: newLedger(),
	}, nil
}

// reachable returns a path of the binary at which PostgreSQL can run it, for
// restore_command. As root, PostgreSQL runs as another user, who may not be
// able to enter the directory of the binary: a copy then.
func reachable(binary, dir string) (string, error) {
	if os.Geteuid() != 0 {
		return filepath.Abs(binary)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "sluice")
	return path, os.WriteFile(path, content, 0o755)
}

// run is the story. Its chapters are in steps.go.
func (d *demo) run(ctx context.Context) error {
	limited, cancel := context.WithTimeoutCause(ctx, atMost, fmt.Errorf("the demo took longer than %v", atMost))
	defer cancel()
	d.say.line("A PostgreSQL primary is destroyed under load. Nothing that it acknowledged may be lost.")
	d.say.line("Everything is in %s.", d.dir)
	// The servers live as long as ctx: with Keep, longer than the story.
	for _, step := range []func(life, story context.Context) error{
		d.startPrimary, d.startNode, d.createTimeline, d.takeBackup, d.makeSynchronous,
		d.destroyUnderLoad, d.seal, d.restore, d.moveOn, d.count,
	} {
		if err := step(ctx, limited); err != nil {
			return err
		}
	}
	return nil
}

// addresses tells where to look, of what goes on running.
func (d *demo) addresses() {
	d.say.line("Everything goes on running, until Ctrl-C:")
	d.say.line("  Sluice      %s  (%s/metrics)", d.node.url, d.node.url)
	d.say.line("  PostgreSQL  psql '%s'", d.primary.Conninfo())
	d.say.line("  sluice      export SLUICE_SERVER=%s; %s timeline show %s", d.node.url, d.binary, timelineName)
}

// cleanUp ends what runs. After a failure it leaves the files for a look, and
// shows the ends of the logs.
func (d *demo) cleanUp(failed bool) error {
	var errs []error
	if d.node != nil {
		errs = append(errs, d.node.stop())
	}
	if d.primary != nil {
		errs = append(errs, d.primary.Close())
	}
	if failed {
		d.autopsy()
		return errors.Join(errs...)
	}
	return errors.Join(append(errs, os.RemoveAll(d.dir))...)
}

func (d *demo) autopsy() {
	d.say.line("")
	if d.primary != nil {
		d.say.line("PostgreSQL's log ends:")
		d.say.indented(d.primary.Log(15))
	}
	if d.node != nil {
		d.say.line("Sluice's log ends:")
		d.say.indented(d.node.logTail(15))
	}
	d.say.line("The files are left in %s.", d.dir)
}
