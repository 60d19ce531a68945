package restore

import (
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
)

// A seal whose end is a segment's hands out no tail in a file: what ends a recovery is the word that there is no more. Whoever
// gives it must know that the seal cannot be taken back any more.
func TestAbsentBehindASealIsTail(t *testing.T) {
	const size = pg.SegmentSize(1 << 20)
	end := size.Start(7)
	node := Answer{
		From: "node a", Qualified: true, SystemID: 1, History: pg.History{TLI: 1}, CommitLSN: end,
		Seals: map[pg.TLI]pg.LSN{1: end}, StartLSN: size.Start(1), OldestLSN: size.Start(1),
	}
	req := Request{File: File{TLI: 1, SegNo: 7, Size: size}, Timeline: "acme/main"}
	d := Choose(req, []Answer{node}, nil, Quorum{Required: 1})
	if d.Kind != Absent || d.Tail != 1 || len(d.From) != 1 {
		t.Fatalf("got %+v, want absent, as tail of TLI 1, from the node that knows the seal", d)
	}
	node.Seals = nil
	if d := Choose(req, []Answer{node}, nil, Quorum{Required: 1}); d.Kind != Unknown || d.Tail != 0 {
		t.Fatalf("without the seal: got %+v, want unknown", d)
	}
}

// A node that was sealed while it was joining has the last word there is; without it no recovery could end.
func TestJoiningNodeThatWasSealedIsTakenAtItsWordWhenLossIsAccepted(t *testing.T) {
	const size = pg.SegmentSize(1 << 20)
	node := Answer{
		From: "node a", SystemID: 1, History: pg.History{TLI: 1}, CommitLSN: size.Start(7),
		Seals: map[pg.TLI]pg.LSN{1: size.Start(7)}, StartLSN: size.Start(1), OldestLSN: size.Start(1),
	}
	req := Request{File: File{TLI: 1, SegNo: 7, Size: size}, Timeline: "acme/main"}
	if d := Choose(req, []Answer{node}, nil, Quorum{Required: 1}); d.Kind != Unknown {
		t.Fatalf("got %+v, want unknown", d)
	}
	req.AcceptDataLoss = true
	if d := Choose(req, []Answer{node}, nil, Quorum{Required: 1}); d.Kind != Absent {
		t.Fatalf("with --accept-data-loss: got %+v, want absent", d)
	}
}
