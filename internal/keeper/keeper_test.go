package keeper

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
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

// TestOneProcessPerDataDirectory (X6).
func TestOneProcessPerDataDirectory(t *testing.T) {
	h := newHome(t)
	first := h.start(t)
	_, err := Open(t.Context(), h.config())
	if locked := new(wal.LockedError); !errors.As(err, &locked) || !strings.Contains(err.Error(), h.dir) {
		t.Errorf("the second one: %v", err)
	}
	create(t, first, main1)
	stop(t, first)
	second := h.start(t)
	member(t, second, main1)
}

func TestNodeIDIsKept(t *testing.T) {
	h := newHome(t)
	stop(t, h.start(t))
	if id, err := NodeID(h.fs, h.dir); err != nil || id != "a" {
		t.Errorf("kept is %q, %v", id, err)
	}
	cfg := h.config()
	cfg.NodeID = "b"
	_, err := Open(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), `belongs to node "a"`) || !strings.Contains(err.Error(), `"b"`) {
		t.Errorf("another id: %v", err)
	}
	stop(t, h.start(t)) // the refusal let go of the lock
}

func TestNodeFileThatIsNone(t *testing.T) {
	h := newHome(t)
	must(t, h.fs.MkdirAll(h.dir))
	for _, text := range []string{"hello", "[]", `{"id":7}`, "{}"} {
		must(t, wal.WriteFileAtomic(h.fs, filepath.Join(h.dir, nodeFile), []byte(text)))
		if k, err := Open(t.Context(), h.config()); err == nil {
			stop(t, k)
			t.Errorf("%q was taken", text)
		}
	}
}

// TestNodeFileThatIsLost: WAL that was acknowledged under one name must not change hands.
func TestNodeFileThatIsLost(t *testing.T) {
	h := newHome(t)
	k := h.start(t)
	create(t, k, main1)
	stop(t, k)
	must(t, h.fs.Remove(filepath.Join(h.dir, nodeFile)))
	if _, err := Open(t.Context(), h.config()); err == nil || !strings.Contains(err.Error(), nodeFile) {
		t.Errorf("got %v", err)
	}
}

// TestOneBrokenDirectoryDisturbsNoOther (D8).
func TestOneBrokenDirectoryDisturbsNoOther(t *testing.T) {
	h := newHome(t)
	k := h.start(t)
	w := source(start + 50_000)
	names := []string{"a", "b", "c", "d", "e"}
	for _, name := range names {
		receive(t, create(t, k, timeline.ID{Tenant: "acme", Name: name}), w, w.End())
	}
	create(t, k, timeline.ID{Tenant: "other", Name: "a"})
	stop(t, k)
	bad := timeline.ID{Tenant: "acme", Name: "c"}
	h.damage(t, bad)
	must(t, h.fs.MkdirAll(filepath.Join(h.dir, "tenants", "acme", "timelines", "No Name")))
	must(t, h.fs.MkdirAll(filepath.Join(h.dir, "tenants", "..hidden")))
	must(t, wal.WriteFileAtomic(h.fs, filepath.Join(h.dir, "tenants", "README"), []byte("hello")))

	var log bytes.Buffer
	k = h.start(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	if got := k.Tenants(); !slices.Equal(got, []timeline.TenantID{"acme", "other"}) {
		t.Errorf("tenants %q", got)
	}
	if n := len(k.Members()); n != 6 {
		t.Errorf("%d timelines", n)
	}
	for _, m := range k.Members() {
		want := timeline.StateRunning
		if m.ID() == bad {
			want = timeline.StateBroken
		}
		if got := state(m); got != want {
			t.Errorf("%s is %s", m.ID(), got)
		}
	}
	st := member(t, k, bad).Status()
	if st.State != "broken" || !strings.Contains(st.Reason, "control file is damaged") || st.Tenant != "acme" || st.Timeline != "c" {
		t.Errorf("its status: %+v", st)
	}
	if _, err := k.OpenWAL(t.Context(), bad, WALRequest{File: "000000010000000000000001"}); !errors.Is(err, timeline.ErrBroken) {
		t.Errorf("it serves: %v", err)
	}
	if err := k.SetTimeline(t.Context(), bad, "host=a", false); !errors.Is(err, timeline.ErrBroken) {
		t.Errorf("it takes a source: %v", err)
	}
	for _, text := range []string{`level=ERROR msg="timeline is broken" timeline=acme/c`, `name="No Name"`, `name=..hidden`} {
		if !strings.Contains(log.String(), text) {
			t.Errorf("%s is not in the log:\n%s", text, &log)
		}
	}
}

// TestTenantThatCannotBeReadDisturbsNoOther: nor does what a crash left behind, if it cannot be removed.
func TestTenantThatCannotBeReadDisturbsNoOther(t *testing.T) {
	h := newHome(t)
	k := h.start(t)
	create(t, k, main1)
	create(t, k, timeline.ID{Tenant: "other", Name: "main"})
	stop(t, k)
	for name, match := range map[string]func(crashfs.Op) bool{
		"directory": func(op crashfs.Op) bool {
			return op.Name == "ReadDir" && op.Path == filepath.Join(h.dir, "tenants", "other", "timelines")
		},
		"remains": func(op crashfs.Op) bool { return strings.Contains(op.Path, timeline.TempPrefix) },
	} {
		must(t, h.fs.MkdirAll(filepath.Join(h.dir, "tenants", "other", "timelines", timeline.TempPrefix+"x")))
		h.disk().Inject(func(op crashfs.Op) error {
			if match(op) {
				return syscall.EACCES
			}
			return nil
		})
		k, err := Open(t.Context(), h.config())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		member(t, k, main1)
		h.disk().Inject(nil)
		stop(t, k)
	}
}

func TestWhatACrashLeftBehindIsRemoved(t *testing.T) {
	h := newHome(t)
	k := h.start(t)
	create(t, k, main1)
	stop(t, k)
	left := filepath.Join(h.dir, "tenants", "acme", "timelines", timeline.TempPrefix+"0197c0de")
	must(t, h.fs.MkdirAll(filepath.Join(left, "wal")))
	must(t, wal.WriteFileAtomic(h.fs, filepath.Join(left, "control"), []byte("half")))
	stop(t, h.start(t))
	if got := h.entries(t, "tenants", "acme", "timelines"); !slices.Equal(got, []string{"main"}) {
		t.Errorf("left are %q", got)
	}
}

// TestConfiguredTimelines: they are made when missing, and their source is the file's until somebody says otherwise.
func TestConfiguredTimelines(t *testing.T) {
	h := newHome(t)
	file := func(source string) func(*Config) {
		return func(c *Config) { c.Timelines = []TimelineConfig{{ID: main1, Source: source}} }
	}
	var incarnation timeline.Incarnation
	for _, step := range []struct{ file, api, want string }{
		{"host=file1 user=x", "", "host=file1 user=x"},
		{"host=file1 user=x", "host=api user=x", "host=api user=x"},
		{"host=file1 user=x", "", "host=api user=x"},
		{"host=file2 user=x", "", "host=file2 user=x"},
	} {
		k := h.start(t, file(step.file))
		m := member(t, k, main1)
		must(t, k.SetTimeline(t.Context(), main1, step.api, false))
		if got := m.Control().Source; got != step.want {
			t.Errorf("after %+v the source is %q", step, got)
		}
		if incarnation != "" && m.Control().Incarnation != incarnation {
			t.Error("it was made again")
		}
		incarnation = m.Control().Incarnation
		stop(t, k)
	}
	k := h.start(t) // the file does not name it any more
	if got := member(t, k, main1).Control().Source; got != "host=file2 user=x" {
		t.Errorf("the source is %q", got)
	}
}

// TestConfiguredTimelineThatCannotBeUsed disturbs no other; but one that never can be is said at the start.
func TestConfiguredTimelineThatCannotBeUsed(t *testing.T) {
	other := timeline.ID{Tenant: "acme", Name: "other"}
	wanted := func(source string) func(*Config) {
		return func(c *Config) { c.Timelines = []TimelineConfig{{ID: main1, Source: source}, {ID: other}} }
	}
	t.Run("a bad source of a new one", func(t *testing.T) {
		cfg := newHome(t).config()
		wanted("host=a application_name=x")(&cfg)
		if _, err := Open(t.Context(), cfg); !errors.Is(err, ErrBadConninfo) || !strings.Contains(err.Error(), "acme/main") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a bad source of one that is there", func(t *testing.T) {
		h := newHome(t)
		stop(t, h.start(t, wanted("host=a user=x")))
		cfg := h.config()
		wanted("host=a application_name=x")(&cfg)
		if _, err := Open(t.Context(), cfg); !errors.Is(err, ErrBadConninfo) || !strings.Contains(err.Error(), "acme/main") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a broken one", func(t *testing.T) {
		h := newHome(t)
		stop(t, h.start(t, wanted("host=a user=x")))
		h.damage(t, main1)
		k := h.start(t, wanted("host=b user=x"))
		if s := state(member(t, k, main1)); s != timeline.StateBroken {
			t.Errorf("it is %s", s)
		}
		member(t, k, other)
	})
	t.Run("no room for it", func(t *testing.T) {
		h := newHome(t)
		stop(t, h.start(t, func(c *Config) { c.Timelines = []TimelineConfig{{ID: other}} }))
		h.disk().Inject(func(op crashfs.Op) error {
			if op.Mutates && strings.Contains(op.Path, timeline.TempPrefix) {
				return syscall.ENOSPC
			}
			return nil
		})
		var log bytes.Buffer
		k := h.start(t, wanted("host=a user=x"), func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		member(t, k, other)
		if _, err := k.Member(main1); !errors.Is(err, ErrNoTimeline) {
			t.Errorf("got %v", err)
		}
		if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "acme/main") {
			t.Errorf("logged: %s", &log)
		}
		h.disk().Inject(nil)
		must(t, k.CreateTimeline(t.Context(), main1, "host=a user=x", false))
	})
}

// TestShutdownWithAStuckHolder (X2): the error says who, and a later one finishes.
func TestShutdownWithAStuckHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome(t)
		k := h.start(t)
		m := create(t, k, main1)
		create(t, k, timeline.ID{Tenant: "acme", Name: "other"})
		pass, err := m.Enter(t.Context(), holderWALDownload)
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = k.Shutdown(ctx)
		closing := new(gate.CloseError)
		if !errors.As(err, &closing) || !strings.Contains(err.Error(), "acme/main") || !strings.Contains(err.Error(), "wal_download") {
			t.Errorf("got %v", err)
		}
		if got := state(member(t, k, timeline.ID{Tenant: "acme", Name: "other"})); got != timeline.StateStopped {
			t.Errorf("the other one is %s", got)
		}
		if _, err := wal.Lock(filepath.Join(h.dir, timeline.LockFile)); err == nil {
			t.Error("the directory is free, and somebody is inside")
		}
		if got := member(t, k, main1).Status(); got.State != "stopping" || got.Gate.State != "closing" || len(got.Gate.Holders) != 1 {
			t.Errorf("status: %+v", got)
		}
		pass.Leave()
		must(t, k.Shutdown(t.Context()))
		must(t, k.Shutdown(t.Context())) // twice is legal
		if got := state(member(t, k, main1)); got != timeline.StateStopped {
			t.Errorf("it is %s", got)
		}
	})
}

// TestNothingBeginsAfterTheShutdown.
func TestNothingBeginsAfterTheShutdown(t *testing.T) {
	h := newHome(t)
	k := h.start(t)
	create(t, k, main1)
	stop(t, k)
	ops := h.disk().Ops()
	other := timeline.ID{Tenant: "acme", Name: "other"}
	for name, try := range map[string]func() error{
		"a tenant":   func() error { _, err := k.CreateTenant(t.Context(), "new"); return err },
		"a timeline": func() error { return k.CreateTimeline(t.Context(), other, "", false) },
		"a deletion": func() error { return k.DeleteTimeline(t.Context(), main1, false) },
		"a tenant's": func() error { return k.DeleteTenant(t.Context(), "acme", false) },
		"a seal":     func() error { _, err := k.Seal(t.Context(), main1, false); return err },
		"an unseal":  func() error { _, err := k.Unseal(t.Context(), main1, false); return err },
		"a source":   func() error { return k.SetTimeline(t.Context(), main1, "host=b user=x", false) },
		"a file": func() error {
			_, err := k.OpenWAL(t.Context(), main1, WALRequest{File: "00000002.history"})
			return err
		},
		"a mode":  func() error { return k.SetMode(t.Context(), "acme", timeline.ModeDetached, false) },
		"a check": func() error { _, err := k.Check(t.Context(), main1); return err },
	} {
		if err := try(); !errors.Is(err, timeline.ErrShuttingDown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := h.disk().Ops() - ops; n != 0 {
		t.Errorf("%d operations", n)
	}
}

func TestDataDirectoryThatCannotBeMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	_, err := Open(t.Context(), Config{NodeID: "a", DataDir: filepath.Join(file, "data")})
	if err == nil || !strings.Contains(err.Error(), "make data directory") {
		t.Errorf("got %v", err)
	}
}
