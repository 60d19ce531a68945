package e2e

import (
	"net/http"
	"os"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/test/rig"
)

// F1: the primary lives. After the seal nothing of its TLI is acknowledged any
// more, also not by a node that comes back.
func TestSealedPrimaryIsNeverAcknowledgedAgain(t *testing.T) {
	b := newBench(t)
	b.explains("the primary lives on a sealed TLI", "sealed")
	b.commit(b.primary, 3)
	first, err := b.node.Seal(b.ctx)
	b.do(err)
	b.hangs(b.primary, "INSERT INTO ledger VALUES (-1)")
	b.do(b.node.Kill())
	b.do(b.node.Start(b.ctx))
	b.hangs(b.primary, "INSERT INTO ledger VALUES (-2)")
	if again, err := b.node.Seal(b.ctx); err != nil || again != first {
		t.Errorf("a second seal answers %+v (%v), the first %+v", again, err, first)
	}
}

func TestUnsealedPrimaryGoesOnUnlessTheTailWasHandedOut(t *testing.T) {
	b := newBench(t)
	b.explains("the primary lives on a sealed TLI", "sealed")
	b.commit(b.primary, 3)
	_, err := b.node.Seal(b.ctx)
	b.do(err)
	_, err = b.node.Must(b.ctx, "timeline", "unseal", rig.Timeline)
	b.do(err)
	b.commit(b.primary, 3)

	seal, err := b.node.Seal(b.ctx)
	b.do(err)
	const size = pg.SegmentSize(segmentMiB << 20)
	if r, _ := b.fetch(pg.SegmentName(1, size.SegNo(seal.End), size)); r.Code != 0 {
		t.Fatalf("the tail of a sealed timeline: exit %d, %s", r.Code, r.Stderr)
	}
	if r, err := b.node.Run(b.ctx, "", "timeline", "unseal", rig.Timeline); err != nil || r.Code != 1 {
		t.Errorf("unseal after the tail was handed out: exit %d, %v", r.Code, err)
	}
	_, err = b.node.Must(b.ctx, "timeline", "unseal", rig.Timeline, "--force")
	b.do(err)
	b.commit(b.primary, 3)
}

// The sealed open segment is a whole one, with zeros above the end.
func TestTailOfASealedTimelineEndsInZeros(t *testing.T) {
	b := newBench(t)
	b.commit(b.primary, 3)
	b.do(b.primary.Kill())
	seal, err := b.node.Seal(b.ctx)
	b.do(err)
	const size = pg.SegmentSize(segmentMiB << 20)
	name := pg.SegmentName(1, size.SegNo(seal.End), size)
	r, out := b.fetch(name)
	if r.Code != 0 {
		t.Fatalf("exit %d: %s", r.Code, r.Stderr)
	}
	got, err := os.ReadFile(out)
	b.do(err)
	end := size.Offset(seal.End)
	if len(got) != int(size) || string(got[:end]) != string(b.ours(name)[:end]) {
		t.Errorf("%d bytes, want %d and equal to what was received below %s", len(got), size, seal.End)
	}
	for i, c := range got[end:] {
		if c != 0 {
			t.Fatalf("byte %d above the end is %#x", i, c)
		}
	}
}

func TestHTTPTellsAbsentFromUnknown(t *testing.T) {
	b := newBench(t)
	b.fill(b.primary, 1)
	open, err := b.primary.Value(b.ctx, "SELECT pg_walfile_name(pg_current_wal_lsn())")
	b.do(err)
	const size = pg.SegmentSize(segmentMiB << 20)
	s, err := b.node.Status(b.ctx)
	b.do(err)
	for file, want := range map[string]int{
		pg.SegmentName(1, size.SegNo(s.StartLSN), size): http.StatusOK,
		"00000002.history": http.StatusNotFound,
		open:               http.StatusServiceUnavailable,
	} {
		if code, body, err := b.node.Get(b.ctx, "/v1/tenants/acme/timelines/main/wal/"+file); err != nil || code != want {
			t.Errorf("%s: status %d (%v), want %d: %.200s", file, code, err, want, body)
		}
	}
}

// F16: the child dies before anything of it was received.
func TestChildThatNobodySawIsPromotedAnew(t *testing.T) {
	b := newBench(t)
	b.fill(b.primary, 1)
	b.do(b.primary.Kill())
	seal, err := b.node.Seal(b.ctx)
	b.do(err)
	unseen := b.restore(b.node.RestoreCommand(), nil)
	b.do(unseen.Kill())
	b.primary = b.restore(b.node.RestoreCommand(), map[string]string{"synchronous_standby_names": rig.NodeID})
	b.follow(b.primary, 2)
	if fork := b.fork(b.primary, 2); fork != seal.End {
		t.Errorf("fork %s, seal %s", fork, seal.End)
	}
	b.commit(b.primary, 3)
	b.has(b.primary)
}
