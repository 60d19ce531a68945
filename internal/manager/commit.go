package manager

import (
	"cmp"
	"slices"

	"github.com/sluicewal/sluice/internal/pg"
)

// CommitLSN is the record end on a TLI that is durable on min(k, m) of the timeline's m nodes, as far as they said,
// this node among them; false if too few have said anything on that TLI. k is how many standbys a commit waits for, of
// which others than the m may be a part: then fewer than k of the m have it.
//
// What a node holds of another TLI counts for nothing here: whether it lies on the way to this one is not known from a
// position. It is too low for a moment after a promotion, never too high.
func CommitLSN(tli pg.TLI, recordEnds []pg.Position, k, m int) (pg.LSN, bool) {
	need := max(min(k, m), 1)
	var ends []pg.LSN
	for _, end := range recordEnds {
		if end.TLI == tli {
			ends = append(ends, end.LSN)
		}
	}
	if len(ends) < need {
		return 0, false
	}
	slices.SortFunc(ends, func(a, b pg.LSN) int { return cmp.Compare(b, a) })
	return ends[need-1], true
}
