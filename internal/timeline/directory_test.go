package timeline_test

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// eachFailure runs try with the n-th of its operations failing, for each n, until it needs no more of them.
func eachFailure(t *testing.T, prepare func() *crashfs.FS, try func(fsys *crashfs.FS) error, then func(t *testing.T, n int, fsys *crashfs.FS)) {
	t.Helper()
	for n := 1; ; n++ {
		fsys := prepare()
		before := fsys.Ops()
		fsys.Inject(crashfs.FailNth(before+n, syscall.ENOSPC))
		err := try(fsys)
		fsys.Inject(nil)
		if err == nil && fsys.Ops()-before < n {
			return
		}
		then(t, n, fsys)
	}
}

// TestCreateThatFailedCanBeRepeated: it leaves neither a timeline, nor anything in the way of the next try.
func TestCreateThatFailedCanBeRepeated(t *testing.T) {
	try := func(fsys *crashfs.FS) error {
		tl, err := timeline.Create(t.Context(), config(fsys), id, timeline.Creation{Source: "host=a"})
		if err == nil {
			err = tl.Shutdown(t.Context(), errStop)
		}
		return err
	}
	prepare := func() *crashfs.FS {
		fsys := crashfs.New()
		must(t, fsys.MkdirAll(timelinesDir))
		return fsys
	}
	tried := 0
	eachFailure(t, prepare, try, func(t *testing.T, n int, fsys *crashfs.FS) {
		tried++
		if left := names(t, fsys, timelinesDir); len(left) != 0 && !slices.Equal(left, []string{"main"}) {
			t.Errorf("operation %d: %q are left", n, left)
		}
		if slices.Contains(names(t, fsys, timelinesDir), "main") {
			return // it was made, and only opening or closing it failed
		}
		if err := try(fsys); err != nil {
			t.Errorf("operation %d: again: %v", n, err)
		}
	})
	if tried < 8 {
		t.Errorf("only %d operations were tried", tried)
	}
}

func TestCreateWhereOneIs(t *testing.T) {
	fsys := crashfs.New()
	first := create(t, fsys)
	if _, err := timeline.Create(t.Context(), config(fsys), id, timeline.Creation{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	if got := control(t, fsys).Incarnation; got != first.Control().Incarnation {
		t.Errorf("incarnation %s, was %s", got, first.Control().Incarnation)
	}
	if left := names(t, fsys, timelinesDir); !slices.Equal(left, []string{"main"}) {
		t.Errorf("%q are there", left)
	}
}

// TestOpenWhatCannotBeUsed (Z4, D8): a timeline that is seen and not served, or an error that names the file.
func TestOpenWhatCannotBeUsed(t *testing.T) {
	segment := dir + "/wal/000000010000000000000001.partial"
	for name, c := range map[string]struct {
		damage func(*crashfs.FS) error
		text   string
		broken bool // rather than an error
	}{
		"no control file":       {func(f *crashfs.FS) error { return f.Remove(dir + "/control") }, "not exist", false},
		"an empty control file": {func(f *crashfs.FS) error { return wal.WriteFileAtomic(f, dir+"/control", nil) }, "damaged", false},
		"a control file that cannot be read": {func(f *crashfs.FS) error {
			failOn(f, "Open", "control", syscall.EACCES)
			return nil
		}, "permission denied", false},
		"no segment":    {func(f *crashfs.FS) error { return f.Remove(segment) }, "damaged", true},
		"a cut segment": {func(f *crashfs.FS) error { return wal.WriteFileAtomic(f, segment, make([]byte, 100)) }, "damaged", true},
		"no WAL":        {func(f *crashfs.FS) error { return f.RemoveAll(dir + "/wal") }, "damaged", true},
		"WAL that cannot be read": {func(f *crashfs.FS) error {
			failOn(f, "OpenRW", "000000010000000000000001.partial", syscall.EACCES)
			return nil
		}, "permission denied", true},
	} {
		t.Run(name, func(t *testing.T) {
			w := source(1000, start+50_000)
			tl, fsys := received(t, w, w.End())
			fsys = shutdown(t, tl, fsys)
			must(t, c.damage(fsys))
			tl, err := timeline.Open(t.Context(), config(fsys), id)
			if !c.broken {
				if err == nil || !strings.Contains(err.Error(), c.text) {
					t.Errorf("got %v, want %q", err, c.text)
				}
				return
			}
			must(t, err)
			if s, why := tl.State(); s != timeline.StateBroken || !strings.Contains(why.Error(), c.text) {
				t.Errorf("it is %s: %v", s, why)
			}
			if tl.Control().SystemID != systemID {
				t.Error("what is known of it cannot be read")
			}
			must(t, tl.Shutdown(t.Context(), errStop))
			if n := fsys.OpenFiles(); n != 0 {
				t.Errorf("%d files are open", n)
			}
		})
	}
}

// TestGarbageBesideTheFilesIsLeftAlone (Z4).
func TestGarbageBesideTheFilesIsLeftAlone(t *testing.T) {
	w := source(1000, start+50_000)
	tl, fsys := received(t, w, w.End())
	fsys = shutdown(t, tl, fsys)
	for _, name := range []string{"/control.bak", "/core", "/wal/README", "/wal/000000010000000000000001.old", "/wal/archive_status"} {
		must(t, wal.WriteFileAtomic(fsys, dir+name, []byte("hello")))
	}
	tl = open(t, fsys)
	wantHeld(t, tl, w, position(1, w.End()))
	if got := names(t, shutdown(t, tl, fsys), dir+"/wal"); !slices.Contains(got, "README") || !slices.Contains(got, "archive_status") {
		t.Errorf("left are %q", got)
	}
}

// TestDirectoryOfAnotherTimeline: one that was copied or renamed by hand must not pass for the one whose name it has.
func TestDirectoryOfAnotherTimeline(t *testing.T) {
	fsys := crashfs.New()
	must(t, create(t, fsys).Shutdown(t.Context(), errStop))
	must(t, fsys.Rename(dir, timelinesDir+"/copy"))
	cfg := config(fsys)
	cfg.Dir = timelinesDir + "/copy"
	_, err := timeline.Open(t.Context(), cfg, timeline.ID{Tenant: "acme", Name: "copy"})
	if err == nil || !strings.Contains(err.Error(), "acme/main") || !strings.Contains(err.Error(), "acme/copy") {
		t.Errorf("got %v", err)
	}
}

// TestRemoveFilesCanBeRepeated: after an error at any operation, a second try removes all.
func TestRemoveFilesCanBeRepeated(t *testing.T) {
	w := source(1000, start+mib+50_000)
	var tl *timeline.Timeline
	prepare := func() *crashfs.FS {
		var fsys *crashfs.FS
		tl, fsys = received(t, w, w.End())
		must(t, tl.Shutdown(t.Context(), errStop))
		return fsys
	}
	tried := 0
	eachFailure(t, prepare, func(*crashfs.FS) error { return tl.RemoveFiles() }, func(t *testing.T, n int, fsys *crashfs.FS) {
		tried++
		must(t, tl.RemoveFiles())
		if left := names(t, fsys.Restart(crashfs.Survivors{Killed: true}), timelinesDir); len(left) != 0 {
			t.Errorf("operation %d: %q are left", n, left)
		}
		if left := names(t, fsys.Restart(crashfs.Survivors{}), timelinesDir); slices.Contains(left, "main") {
			t.Errorf("operation %d: after a crash %q are left", n, left)
		}
	})
	if tried < 5 {
		t.Errorf("only %d operations were tried", tried)
	}
}

// TestBrokenTimelinesAreRemovedSideBySide: they may have no incarnation to tell them apart by.
func TestBrokenTimelinesAreRemovedSideBySide(t *testing.T) {
	fsys := crashfs.New()
	var broken []*timeline.Timeline
	for _, name := range []string{"a", "b"} {
		cfg := config(fsys)
		cfg.Dir = timelinesDir + "/" + name
		must(t, fsys.MkdirAll(cfg.Dir+"/wal"))
		broken = append(broken, timeline.OpenBroken(t.Context(), cfg, timeline.ID{Tenant: "acme", Name: name}, errors.New("no control file")))
	}
	// The first gets stuck half way.
	fsys.Inject(func(op crashfs.Op) error {
		if op.Name == "Remove" {
			return syscall.EBUSY
		}
		return nil
	})
	if err := broken[0].RemoveFiles(); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("got %v", err)
	}
	fsys.Inject(nil)
	must(t, broken[1].RemoveFiles())
	must(t, broken[0].RemoveFiles())
	if left := names(t, fsys, timelinesDir); len(left) != 0 {
		t.Errorf("%q are left", left)
	}
}
