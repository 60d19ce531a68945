package timeline_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// TestEveryStateIsReachedAndNoneIsLeftTwice: the table is whole, and life goes one way.
func TestEveryStateIsReachedAndNoneIsLeftTwice(t *testing.T) {
	order := map[timeline.State]int{
		timeline.StateCreating: 0, timeline.StateRunning: 1, timeline.StateStopping: 2, timeline.StateStopped: 3, timeline.StateBroken: 3,
	}
	reached := []timeline.State{timeline.StateCreating}
	for _, w := range timeline.Transitions() {
		if order[w.To] <= order[w.From] || w.When == "" {
			t.Errorf("%+v", w)
		}
		reached = append(reached, w.To)
	}
	for _, s := range timeline.States() {
		if !slices.Contains(reached, s) {
			t.Errorf("nothing leads to %s", s)
		}
	}
}

// TestStoppedTimelineLetsNobodyIn, says why, and its control file can be changed.
func TestStoppedTimelineLetsNobodyIn(t *testing.T) {
	w := source(1000, start+50_000)
	tl, fsys := received(t, w, w.End())
	fsys = shutdown(t, tl, fsys)
	tl, err := timeline.OpenStopped(t.Context(), config(fsys), id, errStop)
	must(t, err)
	if s, why := tl.State(); s != timeline.StateStopped || !errors.Is(why, errStop) {
		t.Errorf("it is %s: %v", s, why)
	}
	if _, err := tl.Enter(t.Context(), "request"); !errors.Is(err, errStop) || errors.Is(err, timeline.ErrShuttingDown) {
		t.Errorf("a newcomer: %v", err)
	}
	if tl.Log() != nil || fsys.OpenFiles() != 0 {
		t.Errorf("%d files are open", fsys.OpenFiles())
	}
	must(t, tl.MarkDeleting(t.Context(), true))
	must(t, tl.Shutdown(t.Context(), errStop))
	if c := control(t, fsys); !c.Deleting || !c.Clean || c.Flush != position(1, w.End()) {
		t.Errorf("durable is %+v", c)
	}
}

// TestNodeThatLeftTheSourceJoinsAnew: what it does not hold may exist, until it has caught up.
func TestNodeThatLeftTheSourceJoinsAnew(t *testing.T) {
	w := source(1000, start+50_000)
	left := w.End()
	tl, _ := received(t, w, left)
	if !tl.Qualified() {
		t.Fatal("not qualified at first")
	}
	must(t, tl.LeaveSource(t.Context()))
	if tl.Qualified() {
		t.Error("its word counts, and it was away")
	}
	if _, err := tl.Seal(t.Context(), false); err == nil {
		t.Error("it sealed with the word of one that was away")
	}
	recordsTo(w, 1000, left+50_000)
	must(t, tl.Returned(t.Context(), position(1, w.End())))
	receive(t, tl, w, left+10_000)
	if tl.Qualified() {
		t.Error("its word counts, and it has not caught up")
	}
	receive(t, tl, w, w.End())
	if !tl.Qualified() {
		t.Error("it has caught up, and its word does not count")
	}
}

// TestOnlyWhatObjectStorageHasIsDropped: and then it is a timeline that knows who it is and holds nothing.
func TestOnlyWhatObjectStorageHasIsDropped(t *testing.T) {
	w := source(1000, start+mib+50_000)
	tl, fsys := received(t, w, w.End())
	must(t, tl.Meet(t.Context(), timeline.Meeting{Incarnation: tl.Control().Incarnation, SystemID: systemID, SegmentSize: seg, StoreID: "x", Compression: "none"}))
	tl.BackedUp(position(1, start+mib))
	fsys = shutdown(t, tl, fsys)
	stopped := func() *timeline.Timeline {
		tl, err := timeline.OpenStopped(t.Context(), config(fsys), id, errStop)
		must(t, err)
		return tl
	}
	if err := stopped().DropWAL(t.Context()); !errors.Is(err, timeline.ErrOnlyHere) {
		t.Errorf("the open segment is only here: %v", err)
	}
	if left := names(t, fsys, dir+"/wal"); len(left) != 2 {
		t.Errorf("left: %q", left)
	}
	tl = stopped()
	must(t, tl.PartialStored(t.Context(), position(1, w.End()), tl.Control().CreatedAt))
	must(t, tl.DropWAL(t.Context()))
	must(t, tl.DropWAL(t.Context())) // it can be repeated
	fsys = fsys.Restart(crashfs.Survivors{})
	if left := names(t, fsys, dir+"/wal"); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
	again := open(t, fsys)
	if c := again.Control(); again.Log() != nil || c.SystemID != systemID || c.Stored.Backup != position(1, start+mib) || c.Start.TLI != 0 {
		t.Errorf("durable is %+v", c)
	}
}

// TestOperationOfAnotherIsNotTaken for one's own: neither when it is told of, nor when one's own ends.
func TestOperationOfAnotherIsNotTaken(t *testing.T) {
	tl := create(t, crashfs.New())
	end := tl.BeginOperation("seal", "decide")
	if op := tl.Operation(); op.Name != "seal" || op.Step != "decide" || op.Since.IsZero() {
		t.Errorf("it is %+v", op)
	}
	tl.BeginOperation("trim", "objects")()
	if op := tl.Operation(); op.Name != "seal" {
		t.Errorf("it is %+v", op)
	}
	tl.SetOperation("delete", "mark")
	end()
	if op := tl.Operation(); op.Name != "delete" {
		t.Errorf("it is %+v", op)
	}
}
