package rig

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sluicewal/sluice/internal/pgserver"
)

// ReceiveWAL is PostgreSQL's own receiver: what our files are compared with,
// and the checker's baseline.
type ReceiveWAL struct {
	install pgserver.Installation
	name    string // application_name, and the slot's
	base    string // the log, and the segments' directory
	sync    bool
	proc    *process
}

// NewReceiveWAL prepares a pg_receivewal into a directory of its own. With
// sync it syncs, and reports, whatever it received at once.
func NewReceiveWAL(t testing.TB, install pgserver.Installation, name string, sync bool) *ReceiveWAL {
	t.Helper()
	r := &ReceiveWAL{install: install, name: name, base: TempDir(t), sync: sync}
	t.Cleanup(func() {
		if err := r.Kill(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the end of pg_receivewal's log:\n%s", Tail(r.logFile(), 10))
		}
	})
	return r
}

// Dir is where the segments are.
func (r *ReceiveWAL) Dir() string { return filepath.Join(r.base, "wal") }

func (r *ReceiveWAL) logFile() string { return filepath.Join(r.base, "pg_receivewal.log") }

// Start makes the slot if it is not there, and starts receiving.
func (r *ReceiveWAL) Start(ctx context.Context, source string) error {
	if err := r.makeDir(); err != nil {
		return err
	}
	args := []string{filepath.Join(r.install.BinDir, "pg_receivewal"), "-D", r.Dir(), "--slot", r.name, "--no-password",
		"--dbname", source + " application_name=" + r.name}
	create, err := command(ctx, r.base, append(args, "--create-slot", "--if-not-exists"))
	if err != nil {
		return err
	}
	if out, err := create.CombinedOutput(); err != nil {
		return errors.Join(err, errors.New(string(out)))
	}
	if r.sync {
		args = append(args, "--synchronous")
	}
	cmd, err := command(context.Background(), r.base, args) // it outlives the time to start it
	if err != nil {
		return err
	}
	r.proc, err = spawn(cmd, r.logFile())
	return err
}

func (r *ReceiveWAL) makeDir() error {
	if _, err := MakeDir(r.Dir()); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// Pause freezes it; Resume ends that.
func (r *ReceiveWAL) Pause() error { return r.proc.signal(syscall.SIGSTOP) }

// Resume lets a paused one go on.
func (r *ReceiveWAL) Resume() error { return r.proc.signal(syscall.SIGCONT) }

// Kill ends it by SIGKILL. One that is not running is no error.
func (r *ReceiveWAL) Kill() error {
	if r.proc == nil {
		return nil
	}
	return r.proc.kill()
}

// PID is the process id of its last run; 0 before the first.
func (r *ReceiveWAL) PID() int {
	if r.proc == nil {
		return 0
	}
	return r.proc.cmd.Process.Pid
}
