package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/sluicewal/sluice/internal/pg"
)

// Result is how one run of the binary ended.
type Result struct {
	Stdout, Stderr string
	Code           int // the exit status; -1: ended by a signal
}

// Run runs the binary with arguments, as the unprivileged user, in dir (empty:
// the node's own). An error means that it could not be run at all.
func (n *Node) Run(ctx context.Context, dir string, args ...string) (Result, error) {
	if dir == "" {
		dir = n.dir
	}
	env := append(slices.Clone(n.opts.Env), "SLUICE_SERVER="+n.URL())
	cmd, err := command(ctx, dir, append([]string{n.opts.Binary}, args...), env...)
	if err != nil {
		return Result{}, err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return Result{}, err
	}
	return Result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}, nil
}

// Must is Run for what has to succeed; it returns what was printed.
func (n *Node) Must(ctx context.Context, args ...string) (string, error) {
	r, err := n.Run(ctx, "", args...)
	if err != nil {
		return "", err
	}
	if r.Code != 0 {
		return "", fmt.Errorf("sluice %s: exit status %d: %s", strings.Join(args, " "), r.Code, strings.TrimSpace(r.Stderr))
	}
	return r.Stdout, nil
}

// Create makes the timeline, with the word that nobody else ever held it.
func (n *Node) Create(ctx context.Context, source string) error {
	_, err := n.Must(ctx, "timeline", "create", Timeline, "--source", source, "--new")
	return err
}

// Join makes the timeline on a node that may not be the first to keep it: what
// was decided about it comes from object storage.
func (n *Node) Join(ctx context.Context, source string) error {
	_, err := n.Must(ctx, "timeline", "create", Timeline, "--source", source)
	return err
}

// Follow sets another source, which is how a failover ends.
func (n *Node) Follow(ctx context.Context, source string, flags ...string) error {
	_, err := n.Must(ctx, append([]string{"timeline", "set", Timeline, "--source", source}, flags...)...)
	return err
}

// Seal is a decided end.
type Seal struct {
	TLI pg.TLI `json:"tli"`
	End pg.LSN `json:"end"`
}

// Seal seals through the running node.
func (n *Node) Seal(ctx context.Context, flags ...string) (Seal, error) {
	return n.seal(ctx, append([]string{"timeline", "seal", Timeline, "-o", "json"}, flags...))
}

// SealOffline seals in the data directory of a node that is dead.
func (n *Node) SealOffline(ctx context.Context) (Seal, error) {
	return n.seal(ctx, []string{"timeline", "seal", "--data-dir", n.DataDir(), Timeline, "-o", "json"})
}

func (n *Node) seal(ctx context.Context, args []string) (s Seal, err error) {
	out, err := n.Must(ctx, args...)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return s, fmt.Errorf("sluice timeline seal printed %q: %w", out, err)
	}
	return s, nil
}

// WALEnd asks `sluice wal-end` about the data directory of a node that is not
// running.
func (n *Node) WALEnd(ctx context.Context) (pos pg.Position, err error) {
	out, err := n.Must(ctx, "wal-end", "--data-dir", n.DataDir(), Timeline)
	if err != nil {
		return pos, err
	}
	var lsn string
	if _, err := fmt.Sscan(out, &pos.TLI, &lsn); err != nil {
		return pos, fmt.Errorf("sluice wal-end printed %q: %w", out, err)
	}
	pos.LSN, err = pg.ParseLSN(lsn)
	return pos, err
}

// RestoreCommand is a restore_command that asks the running node.
func (n *Node) RestoreCommand(flags ...string) string {
	return n.fetch("--server "+n.URL(), flags)
}

// OfflineRestoreCommand is one that reads the data directory of a dead node.
func (n *Node) OfflineRestoreCommand(flags ...string) string {
	return n.fetch("--data-dir "+n.DataDir(), flags)
}

// StoreRestoreCommand is one that reads object storage, and knows of no node. What
// is a percent sign in the URL is two for PostgreSQL.
func (n *Node) StoreRestoreCommand(flags ...string) string {
	return n.fetch(`--object-store "`+strings.ReplaceAll(n.opts.Store, "%", "%%")+`"`, flags)
}

func (n *Node) fetch(from string, flags []string) string {
	// The tests' own patience is shorter than an operator's.
	words := append([]string{n.opts.Binary, "wal-fetch", "--retry-for 2s", from}, flags...)
	return strings.Join(append(words, Timeline, "%f", "%p"), " ")
}
