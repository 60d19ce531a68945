package timeline_test

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

func state(tl *timeline.Timeline) timeline.State {
	s, _ := tl.State()
	return s
}

// TestShutdownWaitsForWhoIsInside: the context ends at once, the files are closed when the last one has left.
func TestShutdownWaitsForWhoIsInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := source(1000, start+50_000)
		tl, fsys := received(t, w, w.End())
		pass, err := tl.Enter(t.Context(), "wal_download")
		must(t, err)
		r, err := tl.Log().OpenSegment(1, 1)
		must(t, err)
		ended := make(chan error, 1)
		go func() { ended <- tl.Shutdown(t.Context(), errStop) }()
		synctest.Wait()

		if cause := context.Cause(tl.Context()); !errors.Is(cause, errStop) {
			t.Errorf("its context: %v", cause)
		}
		if s := state(tl); s != timeline.StateStopping {
			t.Errorf("it is %s", s)
		}
		if _, err := tl.Enter(t.Context(), "request"); !errors.Is(err, timeline.ErrShuttingDown) || !errors.Is(err, gate.ErrClosed) {
			t.Errorf("a newcomer: %v", err)
		}
		if control(t, fsys).Clean {
			t.Error("the log is said to be closed")
		}
		if _, err := r.ReadAt(make([]byte, 100), 0); err != nil {
			t.Errorf("who is inside reads: %v", err)
		}
		must(t, r.Close())
		pass.Leave()
		must(t, <-ended)
		if s := state(tl); s != timeline.StateStopped || fsys.OpenFiles() != 0 {
			t.Errorf("it is %s, and %d files are open", s, fsys.OpenFiles())
		}
		must(t, tl.Shutdown(t.Context(), errStop))
		if c := control(t, fsys.Restart(crashfs.Survivors{})); !c.Clean || c.Flush != position(1, w.End()) || c.RecordEnd != w.End() {
			t.Errorf("durable is %+v", c)
		}
	})
}

// TestShutdownThatRanOutOfTimeNamesTheHolder, stays closed, and can be finished.
func TestShutdownThatRanOutOfTimeNamesTheHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tl := create(t, crashfs.New())
		pass, err := tl.Enter(t.Context(), "wal_download")
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = tl.Shutdown(ctx, errStop)
		if closing := new(gate.CloseError); !errors.As(err, &closing) || !errors.Is(err, context.DeadlineExceeded) ||
			!strings.Contains(err.Error(), "acme/main") || !strings.Contains(err.Error(), "wal_download") {
			t.Errorf("got %v", err)
		}
		if s := state(tl); s != timeline.StateStopping {
			t.Errorf("it is %s", s)
		}
		if _, err := tl.Enter(t.Context(), "request"); !errors.Is(err, timeline.ErrShuttingDown) {
			t.Errorf("a newcomer: %v", err)
		}
		pass.Leave()
		must(t, tl.Shutdown(t.Context(), errStop))
		if s := state(tl); s != timeline.StateStopped {
			t.Errorf("it is %s", s)
		}
	})
}

// TestShutdownWhoseLastSyncFails does not claim to be clean, says what failed, and is over: the next one has nothing to do.
func TestShutdownWhoseLastSyncFails(t *testing.T) {
	w := source(1000, start+50_000)
	end := w.End()
	recordsTo(w, 1000, w.End()+50_000)
	tl, fsys := received(t, w, end)
	must(t, tl.PrepareReceive(t.Context()))
	tl.Log().Rewind()
	must(t, tl.Log().Append(start, slice(w, start, w.End())))
	failOn(fsys, "Datasync", "000000010000000000000001.partial", syscall.EIO)
	if err := tl.Shutdown(t.Context(), errStop); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v", err)
	}
	if n := fsys.OpenFiles(); n != 0 {
		t.Errorf("%d files are open", n)
	}
	fsys.Inject(nil)
	must(t, tl.Shutdown(t.Context(), errStop))
	if s := state(tl); s != timeline.StateStopped {
		t.Errorf("it is %s", s)
	}
	if c := control(t, fsys); c.Clean || c.Flush != position(1, end) {
		t.Errorf("saved %+v", c)
	}
	wantHeld(t, open(t, fsys.Restart(crashfs.Survivors{})), w, position(1, end))
}

// TestPoisonedLogIsNotClosedClean: beyond what was vouched for there may be anything.
func TestPoisonedLogIsNotClosedClean(t *testing.T) {
	w := source(1000, start+50_000)
	end := w.End()
	recordsTo(w, 1000, w.End()+50_000)
	tl, fsys := received(t, w, end)
	failOn(fsys, "Datasync", "000000010000000000000001.partial", syscall.EIO)
	if err := session(t.Context(), tl, w, w.End()); !errors.Is(err, wal.ErrPoisoned) {
		t.Fatalf("got %v", err)
	}
	fsys.Inject(nil)
	fsys = shutdown(t, tl, fsys)
	if c := control(t, fsys); c.Clean || c.Flush != position(1, end) {
		t.Errorf("saved %+v", c)
	}
	wantHeld(t, open(t, fsys), w, position(1, end))
}

// TestNothingIsWrittenAfterTheShutdown: the directory may belong to another life by then.
func TestNothingIsWrittenAfterTheShutdown(t *testing.T) {
	w := source(1000, start+50_000)
	tl, fsys := received(t, w, w.End())
	must(t, tl.Shutdown(t.Context(), errStop))
	ops := fsys.Ops()
	for name, write := range map[string]func() error{
		"the source":  func() error { return tl.SetSource(t.Context(), "host=late", false) },
		"the quorum":  func() error { return tl.SetQuorum(t.Context(), reading(tl, "ANY 1 (a, b)")) },
		"a save":      func() error { return tl.SaveControl(t.Context()) },
		"the mark":    func() error { return tl.MarkDeleting(t.Context(), false) },
		"a seal":      func() error { _, err := tl.Seal(t.Context(), true); return err },
		"preparation": func() error { return tl.PrepareReceive(t.Context()) },
	} {
		if err := write(); !errors.Is(err, timeline.ErrShuttingDown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := fsys.Ops() - ops; n != 0 {
		t.Errorf("%d operations", n)
	}
}

func TestBrokenTimelineCanBeShutDown(t *testing.T) {
	fsys := crashfs.New()
	why := errors.New("it smells")
	tl := timeline.OpenBroken(t.Context(), config(fsys), id, why)
	if s, reason := tl.State(); s != timeline.StateBroken || !errors.Is(reason, why) || tl.ID() != id {
		t.Errorf("%s is %s: %v", tl.ID(), s, reason)
	}
	if _, err := tl.Enter(t.Context(), "request"); !errors.Is(err, timeline.ErrBroken) || !errors.Is(err, why) {
		t.Errorf("entered: %v", err)
	}
	must(t, tl.Shutdown(t.Context(), errStop))
	if s := state(tl); s != timeline.StateBroken {
		t.Errorf("it is %s", s)
	}
	if fsys.Ops() != 0 {
		t.Error("its directory was touched")
	}
}

func TestTenantWaitsForItsTimelines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tenant := timeline.NewTenant(t.Context(), "acme", gate.Config{Kind: "tenant", Name: "acme"})
		pass, err := tenant.Enter(t.Context(), "timeline")
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := tenant.Shutdown(ctx, errStop); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "tenant acme") {
			t.Errorf("got %v", err)
		}
		if !errors.Is(context.Cause(tenant.Context()), errStop) {
			t.Error("its context goes on")
		}
		if _, err := tenant.Enter(t.Context(), "timeline"); !errors.Is(err, timeline.ErrShuttingDown) {
			t.Errorf("a newcomer: %v", err)
		}
		pass.Leave()
		must(t, tenant.Shutdown(t.Context(), errStop))
	})
}
