package timeline_test

import (
	"context"
	"errors"
	"reflect"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// TestSourceIsDurableBeforeItIsSeen: nobody streams from a server that the next start does not know.
func TestSourceIsDurableBeforeItIsSeen(t *testing.T) {
	fsys := crashfs.New()
	tl := create(t, fsys)
	seen := ""
	fsys.Inject(func(op crashfs.Op) error {
		if op.Name == "SyncDir" {
			seen = tl.Control().Source
		}
		return nil
	})
	must(t, tl.SetSource(t.Context(), "host=a", false))
	if seen != "" {
		t.Errorf("before it was durable the source was %q", seen)
	}
	if s := tl.Snapshot(); !s.HasSource || tl.Control().Source != "host=a" {
		t.Errorf("got %+v", s)
	}
	if c := control(t, fsys.Restart(crashfs.Survivors{})); c.Source != "host=a" {
		t.Errorf("durable is %q", c.Source)
	}
}

// TestWhatCannotBeSavedIsNotSo: in memory there is no more than on disk, and the next try can succeed.
func TestWhatCannotBeSavedIsNotSo(t *testing.T) {
	fsys := crashfs.New()
	tl := create(t, fsys)
	must(t, tl.SetSource(t.Context(), "host=a", false))
	generation := tl.Snapshot().SourceGeneration
	tl.Wake().Take()
	failOn(fsys, "Create", "control.tmp", syscall.ENOSPC)
	if err := tl.SetSource(t.Context(), "host=b", false); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if got := tl.Control().Source; got != "host=a" || tl.Snapshot().SourceGeneration != generation || tl.Wake().Take() != 0 {
		t.Errorf("the source is %q", got)
	}
	fsys.Inject(nil)
	must(t, tl.SetSource(t.Context(), "host=b", false))
	if tl.Control().Source != "host=b" || tl.Snapshot().SourceGeneration == generation || !tl.Wake().Take().Has(timeline.ReasonRequest) {
		t.Errorf("got %+v", tl.Snapshot())
	}
}

// TestSameSourceDisturbsNothing: a request that is repeated does not cut the stream.
func TestSameSourceDisturbsNothing(t *testing.T) {
	fsys := crashfs.New()
	tl := create(t, fsys)
	must(t, tl.SetSource(t.Context(), "host=a", false))
	before, ops := tl.Snapshot(), fsys.Ops()
	tl.Wake().Take()
	must(t, tl.SetSource(t.Context(), "host=a", false))
	must(t, tl.SetSource(t.Context(), "", false))
	if tl.Snapshot() != before || fsys.Ops() != ops || tl.Wake().Take() != 0 {
		t.Errorf("got %+v, was %+v", tl.Snapshot(), before)
	}
}

// TestFileSourceWinsWhenItChanges: the API's word stays until the file says something new, over restarts.
func TestFileSourceWinsWhenItChanges(t *testing.T) {
	fsys := crashfs.New()
	tl, err := timeline.Create(t.Context(), config(fsys), id, timeline.Creation{Source: "host=file1", FileSource: "host=file1"})
	must(t, err)
	restart := func(file string) {
		t.Helper()
		fsys = shutdown(t, tl, fsys)
		tl = open(t, fsys)
		must(t, tl.SetFileSource(t.Context(), file))
	}
	for _, step := range []struct{ api, file, want string }{
		{"", "host=file1", "host=file1"},
		{"host=api", "host=file1", "host=api"},
		{"", "host=file1", "host=api"},
		{"", "host=file2", "host=file2"},
		{"", "host=file2", "host=file2"},
		{"host=api", "host=file2", "host=api"},
		{"", "host=file1", "host=file1"},
	} {
		must(t, tl.SetSource(t.Context(), step.api, false))
		restart(step.file)
		if got := tl.Control().Source; got != step.want {
			t.Fatalf("after %+v the source is %q", step, got)
		}
	}
}

// TestWaitForASaveCanBeCancelled: a disk that hangs holds up the one who waits for it, and no other.
func TestWaitForASaveCanBeCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New()
		tl := create(t, fsys)
		hang := make(chan struct{})
		fsys.Inject(func(op crashfs.Op) error {
			if op.Name == "Sync" {
				<-hang
			}
			return nil
		})
		first := make(chan error, 1)
		go func() { first <- tl.SetSource(t.Context(), "host=a", false) }()
		synctest.Wait()

		ctx, cancel := context.WithCancelCause(t.Context())
		second := make(chan error, 1)
		go func() { second <- tl.SaveControl(ctx) }()
		synctest.Wait()
		cancel(errStop)
		if err := <-second; !errors.Is(err, errStop) {
			t.Errorf("got %v", err)
		}
		if tl.Snapshot().HasSource || !reflect.DeepEqual(tl.Held(), timeline.Held{}) {
			t.Error("what is not durable is seen")
		}
		close(hang)
		must(t, <-first)
		must(t, tl.SaveControl(t.Context()))
	})
}

// TestSavedPositionsLagTheLog: they are those of a finished sync.
func TestSavedPositionsLagTheLog(t *testing.T) {
	w := source(1000, start+50_000)
	end := w.End()
	recordsTo(w, 1000, w.End()+50_000)
	tl, fsys := received(t, w, end)
	must(t, tl.PrepareReceive(t.Context()))
	tl.Log().Rewind()
	must(t, tl.Log().Append(start, slice(w, start, w.End())))
	must(t, tl.SaveControl(t.Context()))
	if c := control(t, fsys); c.Flush != position(1, end) || c.RecordEnd != end || c.Clean {
		t.Errorf("saved %+v", c)
	}
	if s := tl.Snapshot(); s.ControlSaved != position(1, end) || s.WriteLSN != w.End() || s.FlushLSN != end {
		t.Errorf("snapshot: %+v", s)
	}
	must(t, sync(tl))
	must(t, tl.SaveControl(t.Context()))
	if c := control(t, fsys.Restart(crashfs.Survivors{})); c.Flush != position(1, w.End()) || c.RecordEnd != w.End() {
		t.Errorf("saved %+v", c)
	}
}
