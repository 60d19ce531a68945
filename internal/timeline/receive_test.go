package timeline_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

func TestHeldFollowsTheLog(t *testing.T) {
	tl := create(t, crashfs.New())
	if h := tl.Held(); !reflect.DeepEqual(h, timeline.Held{}) {
		t.Errorf("of nothing: %+v", h)
	}
	w := source(1000, start+50_000)
	end := w.End()
	w.Record(30_000)
	receive(t, tl, w, end+10_000)
	want := timeline.Held{SystemID: systemID, SegmentSize: seg, Position: position(1, end+10_000), RecordEnd: end}
	if h := tl.Held(); !reflect.DeepEqual(h, want) {
		t.Errorf("got %+v, want %+v", h, want)
	}
}

func TestOneReceiverAtATime(t *testing.T) {
	tl := create(t, crashfs.New())
	end, err := tl.BeginReceive()
	must(t, err)
	if _, err := tl.BeginReceive(); err == nil {
		t.Error("a second one was let in")
	}
	end()
	end, err = tl.BeginReceive()
	must(t, err)
	end()
}

func TestAdoptTakesTheIdentityOnce(t *testing.T) {
	fsys := crashfs.New()
	tl := create(t, fsys)
	a := adoption(start + 12345)
	must(t, tl.Adopt(t.Context(), a))
	other := a
	other.SystemID++
	if err := tl.Adopt(t.Context(), other); err == nil || !strings.Contains(err.Error(), "7000000000000000001") {
		t.Errorf("adopted another cluster: %v", err)
	}
	c := control(t, fsys.Restart(crashfs.Survivors{}))
	if c.SystemID != systemID || c.SegmentSize != seg || c.Start != position(1, start) || c.Flush != c.Start ||
		c.JoinLSN != start+12345 || c.Clean {
		t.Errorf("durable is %+v", c)
	}
}

// TestAdoptAgainWhileNothingIsHeld: the source had nothing to send from where it was to begin, and the node begins elsewhere.
func TestAdoptAgainWhileNothingIsHeld(t *testing.T) {
	tl := create(t, crashfs.New())
	a := adoption(start + 12345)
	must(t, tl.Adopt(t.Context(), a))
	a.Start.LSN += pg.LSN(seg)
	must(t, tl.Adopt(t.Context(), a))
	if c := tl.Control(); c.Start != a.Start || tl.Log().Position() != a.Start {
		t.Errorf("it begins at %s and %s", c.Start, tl.Log().Position())
	}
	tl = create(t, crashfs.New())
	w := source(1000, start+50_000)
	receive(t, tl, w, w.End())
	if err := tl.Adopt(t.Context(), a); err == nil {
		t.Error("adopted again, and WAL is held")
	}
}

// TestAdoptMakesItsDirectory: nothing was in it.
func TestAdoptMakesItsDirectory(t *testing.T) {
	fsys := crashfs.New()
	tl := create(t, fsys)
	must(t, fsys.RemoveAll(dir+"/wal"))
	w := source(1000, start+10_000)
	receive(t, tl, w, w.End())
	wantHeld(t, open(t, shutdown(t, tl, fsys)), w, position(1, w.End()))
}

// TestQualifiedOnceItHoldsTheSourcesPosition: before that, its "not there" counts for nothing.
func TestQualifiedOnceItHoldsTheSourcesPosition(t *testing.T) {
	w := source(1000, start+50_000)
	tl := create(t, crashfs.New())
	if tl.Qualified() {
		t.Error("qualified with nothing")
	}
	must(t, tl.Adopt(t.Context(), adoption(w.End())))
	must(t, stream(tl, w, w.End()-8))
	if tl.Qualified() {
		t.Error("qualified below the source's position")
	}
	must(t, stream(tl, w, w.End()))
	if !tl.Qualified() {
		t.Errorf("not qualified at %s", tl.Log().Flushed())
	}
}

// TestAdoptOnALaterTLI keeps the history of the TLI that it begins on.
func TestAdoptOnALaterTLI(t *testing.T) {
	fsys := crashfs.New()
	tl := create(t, fsys)
	a, raw := laterAdoption(3, start+1000, start+2000)
	must(t, tl.Adopt(t.Context(), a))
	if got, err := tl.Log().History(3); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("history: %q, %v", got, err)
	}
	w := pgtest.NewWriter(start, seg, 3, systemID)
	recordsTo(w, 1000, start+50_000)
	must(t, stream(tl, w, w.End()))
	tl = open(t, shutdown(t, tl, fsys))
	if got := tl.Log().Position(); got != position(3, w.End()) {
		t.Errorf("opened at %s", got)
	}
}

func laterAdoption(tli pg.TLI, forks ...pg.LSN) (timeline.Adoption, []byte) {
	_, raw := history(tli, forks...)
	return timeline.Adoption{
		SystemID: systemID, SegmentSize: seg, Start: position(tli, start), SourceFlush: start, History: raw,
	}, raw
}

// TestAdoptionThatFailedLeavesNothingBehind: it may fail, or the process die, at any operation; then the operator names another
// cluster, and that is adopted as if nothing had been.
func TestAdoptionThatFailedLeavesNothingBehind(t *testing.T) {
	another := map[string]timeline.Adoption{}
	another["TLI 1"] = adoption(start)
	another["TLI 3, another history"], _ = laterAdoption(3, start+3000, start+4000)
	another["TLI 2"], _ = laterAdoption(2, start+500)
	first, _ := laterAdoption(3, start+1000, start+2000)
	for name, second := range another {
		second.SystemID++
		t.Run(name, func(t *testing.T) {
			for _, crash := range []bool{false, true} {
				n := 0
				for done := false; !done; {
					n++
					done = adoptAfterFailure(t, n, crash, first, second)
				}
				if n < 10 {
					t.Errorf("only %d operations were tried", n)
				}
			}
		})
	}
}

// adoptAfterFailure fails the n-th operation of the first adoption. It reports whether there was none.
func adoptAfterFailure(t *testing.T, n int, crash bool, first, second timeline.Adoption) (done bool) {
	t.Helper()
	fsys := crashfs.New()
	tl := create(t, fsys)
	injected := error(syscall.EIO)
	if crash {
		injected = crashfs.ErrCrashed
	}
	before := fsys.Ops()
	fsys.Inject(crashfs.FailNth(before+n, injected))
	err := tl.Adopt(t.Context(), first)
	fsys.Inject(nil)
	if err == nil {
		return fsys.Ops()-before < n
	}
	if crash {
		fsys = fsys.Restart(crashfs.Survivors{Seed: uint64(n)})
		tl = open(t, fsys)
	}
	if tl.Control().SystemID != 0 {
		return false // it was durable all the same
	}
	if err := tl.Adopt(t.Context(), second); err != nil {
		t.Fatalf("operation %d, crash %v: %v", n, crash, err)
	}
	w := pgtest.NewWriter(start, seg, second.Start.TLI, second.SystemID)
	recordsTo(w, 1000, start+10_000)
	must(t, stream(tl, w, w.End()))
	tl = open(t, shutdown(t, tl, fsys))
	if got := tl.Log().Position(); got != position(second.Start.TLI, w.End()) {
		t.Fatalf("operation %d, crash %v: opened at %s", n, crash, got)
	}
	must(t, tl.Shutdown(t.Context(), errStop))
	return false
}

// TestCleanIsTakenBackBeforeAnythingIsReceived: a mark that stays would make the next start trust what no sync has vouched for.
func TestCleanIsTakenBackBeforeAnythingIsReceived(t *testing.T) {
	w := source(1000, start+50_000)
	tl, fsys := received(t, w, w.End())
	fsys = shutdown(t, tl, fsys)
	if !control(t, fsys).Clean {
		t.Fatal("the shutdown was not clean")
	}
	tl = open(t, fsys)
	fsys.Inject(func(op crashfs.Op) error {
		if op.Name == "Rename" {
			return syscall.ENOSPC
		}
		return nil
	})
	if err := tl.PrepareReceive(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("received beside a mark that could not be taken back: %v", err)
	}
	fsys.Inject(nil)
	must(t, tl.PrepareReceive(t.Context()))
	if control(t, fsys.Restart(crashfs.Survivors{})).Clean {
		t.Error("still clean")
	}
}

func TestPrepareReceiveRecoversAPoisonedLog(t *testing.T) {
	w := source(1000, start+50_000)
	end := w.End()
	recordsTo(w, 1000, w.End()+50_000)
	tl, fsys := received(t, w, end)
	failOn(fsys, "Datasync", "000000010000000000000001.partial", syscall.EIO)
	if err := session(t.Context(), tl, w, w.End()); !errors.Is(err, wal.ErrPoisoned) {
		t.Fatalf("got %v", err)
	}
	if s := tl.Snapshot(); !s.Poisoned || !tl.Wake().Take().Has(timeline.ReasonStateChanged) {
		t.Errorf("the manager is not told: %+v", s)
	}
	fsys.Inject(nil)
	receive(t, tl, w, w.End())
	if tl.Snapshot().Poisoned {
		t.Error("still poisoned")
	}
	wantHeld(t, open(t, shutdown(t, tl, fsys)), w, position(1, w.End()))
}

// TestFollowKeepsWhatDiverged: the longer tail is named, the manager is told, the marks are the child's.
func TestFollowKeepsWhatDiverged(t *testing.T) {
	w := source(1000, start+50_000)
	fork := w.End()
	child := w.Fork(2)
	recordsTo(w, 1000, w.End()+2*mib)
	recordsTo(child, 1000, child.End()+50_000)
	tl, fsys := received(t, w, w.End())
	tl.Wake().Take()
	follow(t, tl, fork)
	if !tl.Wake().Take().Has(timeline.ReasonTLIChanged) {
		t.Error("the manager is not told")
	}
	if s := tl.Snapshot(); s.TLI != 2 || s.FlushLSN != fork || s.ControlSaved != position(2, fork) {
		t.Errorf("snapshot: %+v", s)
	}
	receive(t, tl, child, child.End())
	tl = open(t, shutdown(t, tl, fsys))
	wantHeld(t, tl, child, position(2, child.End()))
	if d := tl.Log().Stats().Diverged; len(d) != 1 || d[0].TLI != 1 || d[0].From != fork || d[0].To != w.End() {
		t.Errorf("diverged: %+v", d)
	}
}

func TestFollowNeedsALog(t *testing.T) {
	tl := create(t, crashfs.New())
	h, raw := history(2, start)
	if err := tl.Follow(t.Context(), h, raw); !errors.Is(err, timeline.ErrEmpty) {
		t.Errorf("got %v", err)
	}
}

// TestAcceptedDataLossIsUsedUp: the word that a source may lack what a seal promised holds for the next TLI and no other, also
// where the disk fails between going over to it and saying so.
func TestAcceptedDataLossIsUsedUp(t *testing.T) {
	for name, fail := range map[string]bool{"at once": false, "although the control file could not be saved": true} {
		t.Run(name, func(t *testing.T) {
			w := source(1000, start+50_000)
			tl, fsys := received(t, w, w.End())
			seal(t, tl)
			must(t, tl.SetSource(t.Context(), "host=b", true))
			if !tl.Held().AcceptDataLoss {
				t.Fatal("it is not held")
			}
			must(t, tl.PrepareReceive(t.Context()))
			if fail {
				failOn(fsys, "Create", "control.tmp", syscall.EIO)
			}
			h, raw := history(2, start+30_000)
			if err := tl.Follow(t.Context(), h, raw); (err != nil) != fail {
				t.Fatalf("got %v", err)
			}
			fsys.Inject(nil)
			if tl.Held().AcceptDataLoss {
				t.Error("it is held on the child too")
			}
			tl = open(t, shutdown(t, tl, fsys))
			if h := tl.Held(); h.AcceptDataLoss || h.Position.TLI != 2 {
				t.Errorf("after a restart: %+v", h)
			}
		})
	}
}
