package timeline_test

import (
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// Whoever changes what the manager plans by wakes it, with the reason.
func TestEachChangeWakesTheManager(t *testing.T) {
	fsys := crashfs.New()
	tl := create(t, fsys)
	w := source(1000, start+2*mib)
	ctx := t.Context()
	wakes := func(what string, why timeline.WakeReason, change func() error) {
		t.Helper()
		tl.Wake().Take()
		must(t, change())
		if got := tl.Wake().Take(); !got.Has(why) {
			t.Errorf("%s woke for %q, want %s", what, got, why)
		}
	}
	wakes("the first source", timeline.ReasonTLIChanged, func() error { return tl.Adopt(ctx, adoption(start+mib)) })
	receive(t, tl, w, start+mib+50_000)
	meeting := timeline.Meeting{
		Incarnation: tl.Control().Incarnation, SystemID: systemID, SegmentSize: seg, StoreID: "x", Compression: "none",
	}
	wakes("what object storage has decided", timeline.ReasonStateChanged, func() error { return tl.Meet(ctx, meeting) })
	wakes("a claim", timeline.ReasonBackupAdvanced, func() error { return tl.Claimed(ctx, 2) })
	wakes("a conflict", timeline.ReasonStateChanged, func() error { return tl.SetConflict(ctx, 3, "two promotions") })
	wakes("draining", timeline.ReasonRequest, func() error { tl.SetDraining(true); return nil })
	wakes("a node that was not known", timeline.ReasonPeerUpdate, func() error { tl.PeersSaid([]string{"b"}); return nil })

	setQuorum(t, tl, "a")
	_, err := tl.Seal(ctx, true)
	must(t, err)
	wakes("a seal that is taken back", timeline.ReasonRequest, func() error { _, err := tl.Unseal(ctx, false); return err })
}

// The first byte after a time without is worth waking for.
func TestFlushLSNWakesTheManager(t *testing.T) {
	tl := create(t, crashfs.New())
	w := source(1000, start+2*mib)
	receive(t, tl, w, start+5000)
	held := tl.Held().Position.LSN
	tl.Wake().Take()
	tl.Wake().Flush.Arm(uint64(held)+1, timeline.ReasonWALResumed, func() uint64 { return uint64(tl.Snapshot().FlushLSN) })
	receive(t, tl, w, start+6000)
	if got := tl.Wake().Take(); !got.Has(timeline.ReasonWALResumed) {
		t.Errorf("what was synced woke for %q", got)
	}
}

// The commit LSN moves with what is synced here, and with what others say.
func TestCommitLSNWakesTheManager(t *testing.T) {
	bound := start + mib/2
	cfg := config(crashfs.New())
	cfg.CommitBound = func(*timeline.Timeline, *timeline.Control, pg.TLI) (pg.LSN, bool) { return bound, true }
	tl, err := timeline.Create(t.Context(), cfg, id, timeline.Creation{})
	must(t, err)
	t.Cleanup(func() { _ = tl.Shutdown(t.Context(), errStop) })
	w := source(1000, start+3*mib)
	receive(t, tl, w, start+mib)
	arm := func() {
		tl.Wake().Take()
		tl.Wake().Commit.Arm(uint64(tl.CommitEnd())+1, timeline.ReasonSegmentComplete, func() uint64 { return uint64(tl.CommitEnd()) })
	}
	arm()
	bound = start + 2*mib
	tl.PeersSaid(nil)
	if got := tl.Wake().Take(); !got.Has(timeline.ReasonPeerUpdate) {
		t.Errorf("what others said woke for %q", got)
	}
	arm()
	receive(t, tl, w, start+2*mib)
	if got := tl.Wake().Take(); !got.Has(timeline.ReasonSegmentComplete) {
		t.Errorf("what was synced here woke for %q", got)
	}
}
