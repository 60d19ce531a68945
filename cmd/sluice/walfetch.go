package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/sluicewal/sluice/internal/restore"
	"github.com/sluicewal/sluice/internal/timeline"
)

// walFetchCmd is a restore_command: it brings one WAL file to where PostgreSQL wants it. Its exit status decides what
// PostgreSQL does next; see walFetchMain.
type walFetchCmd struct {
	Timeline string `arg:"" help:"TENANT/TIMELINE, such as acme/main."`
	File     string `arg:"" help:"Name of the file: %f."`
	Path     string `arg:"" help:"Where to put it: %p."`

	Server  []string `sep:"," placeholder:"URL" help:"Nodes to ask, separated by commas. Default, unless another place is named: $$SLUICE_SERVER, or http://127.0.0.1:7070."`
	Token   string   `env:"SLUICE_TOKEN" help:"Bearer token for the nodes."`
	DataDir []string `sep:"none" placeholder:"DIR" help:"Data directory of a node that does not run; may be repeated."`

	ObjectStore string `placeholder:"URL" help:"Object storage, without any node: file:///dir, s3://bucket?region=…, gs://bucket, azblob://container. It has whole segments; the end of a timeline that is not sealed there needs --copy or --accept-data-loss."`

	Seal           bool `help:"Seal the timeline where its last commits are needed: a failover. Not done in a standby."`
	Copy           bool `help:"Make a copy of a timeline that lives on: it ends with the last whole segment."`
	AcceptDataLoss bool `help:"Take the word of one node, or of the object storage, for what does not exist. Where no node answers, also take the newest open segment in object storage as it was last stored, and end there."`

	RetryFor time.Duration `default:"10s" help:"How long to ask again where that may help. A standby asks once: PostgreSQL repeats it."`
}

// defaultServer is where a node listens that has an empty configuration file.
const defaultServer = "http://127.0.0.1:7070"

// The exit statuses of wal-fetch. PostgreSQL takes 1 to 125 for "the archive ends here", and promotes; above, recovery
// stops (wait_result_is_any_signal in RestoreArchivedFile, xlogarchive.c).
const (
	exitAbsent  = 1
	exitUnknown = 126
)

// exitStatus is the end of a command that has said all it had to say.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// ExitCode returns the status.
func (e exitStatus) ExitCode() int { return int(e) }

// Validate refuses combinations that mean nothing. Kong calls it.
func (c *walFetchCmd) Validate() error {
	switch {
	case c.Seal && c.Copy:
		return errors.New("--seal ends a timeline, and --copy leaves it alone: choose one")
	case c.RetryFor < 0:
		return errors.New("--retry-for: want a duration, such as 10s")
	}
	return nil
}

// Run fetches the file. It returns nil when the file is there, and otherwise the exit status.
func (c *walFetchCmd) Run(ctx context.Context, k *kong.Context) error {
	d := c.fetch(ctx)
	c.tell(k.Stderr, d)
	switch d.Kind {
	case restore.Present:
		return nil
	case restore.Absent:
		return exitStatus(exitAbsent)
	default:
		return exitStatus(exitUnknown)
	}
}

// tell prints one line, which ends up in PostgreSQL's log.
func (c *walFetchCmd) tell(w io.Writer, d restore.Decision) {
	outcome := map[restore.Kind]string{restore.Absent: "does not exist: ", restore.Unknown: "could not find out: "}[d.Kind]
	if d.Text != "" {
		fmt.Fprintf(w, "sluice wal-fetch: %s: %s%s\n", c.File, outcome, d.Text)
	}
}

func (c *walFetchCmd) fetch(ctx context.Context) restore.Decision {
	standby := inStandby()
	sources, err := c.sources(standby)
	if err != nil {
		return restore.Decision{Reason: restore.Refused, Text: err.Error()}
	}
	retryFor := c.RetryFor
	if standby {
		retryFor = 0
	}
	q := restore.Query{Name: c.File, Copy: c.Copy, AcceptDataLoss: c.AcceptDataLoss}
	d := restore.Fetch(ctx, q, c.Path, sources, retryFor)
	if d.Reason == restore.Unsealed && c.Seal && standby {
		d.Text += ". --seal has no effect in a standby, which meets the end of a living timeline all the time"
	}
	return d
}

// inStandby reports whether PostgreSQL calls us in a standby. It does so in its data directory.
func inStandby() bool {
	_, err := os.Stat("standby.signal")
	return err == nil
}

// sources returns the places that were named, or else the default server.
func (c *walFetchCmd) sources(standby bool) ([]restore.Source, error) {
	id, err := timeline.ParseID(c.Timeline)
	if err != nil {
		return nil, err
	}
	var all []restore.Source
	if servers := c.servers(); len(servers) > 0 {
		s, err := restore.NewServer(restore.ServerConfig{
			URLs: servers, Tenant: string(id.Tenant), Timeline: id.Name, Token: c.Token, Seal: c.Seal && !standby,
		})
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	if len(c.DataDir) > 0 || c.ObjectStore != "" {
		all = append(all, &offline{dirs: c.DataDir, store: c.ObjectStore, id: id, seal: c.Seal && !standby})
	}
	return all, nil
}

// servers returns the nodes to ask. The environment's default does not count where another place is named: a dead node is
// read, and not asked.
func (c *walFetchCmd) servers() []string {
	switch {
	case len(c.Server) > 0:
		return c.Server
	case len(c.DataDir) > 0 || c.ObjectStore != "":
		return nil
	}
	if env := os.Getenv("SLUICE_SERVER"); env != "" {
		return strings.Split(env, ",")
	}
	return []string{defaultServer}
}
