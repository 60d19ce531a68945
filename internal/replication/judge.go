package replication

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluicewal/sluice/internal/pg"
)

// Held is what a sink holds and has promised: what a source is judged against.
type Held struct {
	SystemID    uint64 // 0: nothing yet, any source will do
	SegmentSize pg.SegmentSize
	// Position is the raw end: the first byte that is not held. Where nothing is, its LSN is 0, and its TLI the newest that
	// is known to have been followed; 0: none is.
	Position  pg.Position
	RecordEnd pg.LSN // end of the last complete record; at most Position.LSN
	// CompareFrom is where the sink begins to compare, if the source has that: the start of a segment at or below the one that
	// holds Position. Below it on a border, where nothing else could be compared.
	CompareFrom pg.LSN
	// Oldest is the first LSN that is still held; 0 if that is not known.
	Oldest pg.LSN
	// History of Position.TLI, which tells apart two promotions that chose one number; the zero value if it is not known.
	History pg.History
	// Seal of Position.TLI; nil if there is none.
	Seal *Seal
	// AcceptDataLoss is an operator's word that a source may lack what a seal promised, or what is between object storage
	// and its slot.
	AcceptDataLoss bool
	// Stored is how far object storage has an unbroken run of segments, on the history of its TLI; zero: it has nothing. A
	// sink that holds nothing begins there.
	Stored pg.Position
	// Newest is the history of the newest TLI that was followed by anybody; its TLI is 0 if that is not known.
	Newest pg.History
}

// Seal is a promise never again to acknowledge a TLI, with the record end that was decided.
type Seal struct {
	TLI pg.TLI
	End pg.LSN
}

// Start is where a stream begins.
type Start struct {
	TLI pg.TLI
	LSN pg.LSN // the start of a segment; 0 if nothing is held or stored, when the slot decides (firstPosition)
	// Adopt says that nothing is held, and that the sink begins here.
	Adopt bool
	// Open is the start of the segment that holds the end: where to begin if the source no longer has LSN. 0: there is no such way.
	Open pg.LSN
	// Follow says that TLI is a child of the one that is held, which is left first.
	Follow bool
}

// judge decides by FAILOVER.md, "Who is there" and "A new TLI", whether to stream from a source, and from where. Its errors
// are [*RefusedError]s.
func judge(held Held, src Source) (Start, error) {
	if err := judgeCluster(held, src); err != nil {
		return Start{}, err
	}
	if src.InRecovery {
		return Start{}, refuse(InRecovery, "it is in recovery, a standby or a restore that has not ended: commits on its "+
			"primary do not wait for what a standby passes on; name the primary, or promote it")
	}
	if held.Position.TLI == 0 { // and the LSN, too
		return Start{TLI: src.TLI, Adopt: true}, nil
	}
	if err := judgeHistory(held, src); err != nil {
		return Start{}, err
	}
	if err := judgeNewest(held, src); err != nil {
		return Start{}, err
	}
	if held.Position.LSN == 0 {
		return judgeEmpty(held, src)
	}
	if src.TLI == held.Position.TLI {
		return judgeSameTLI(held, src)
	}
	return judgeNewTLI(held, src)
}

// judgeCluster refuses another cluster.
func judgeCluster(held Held, src Source) error {
	switch {
	case held.SystemID == 0:
		return nil
	case src.SystemID != held.SystemID:
		return refuse(ForeignCluster, "it is another cluster: its system identifier is %d, that of what is kept here is %d",
			src.SystemID, held.SystemID)
	case src.SegmentSize != held.SegmentSize:
		return refuse(ForeignCluster, "it is another cluster: its segments have %s, those kept here %s",
			src.SegmentSize, held.SegmentSize)
	}
	return nil
}

// judgeHistory refuses a source that did not come by the way that what is held came.
func judgeHistory(held Held, src Source) error {
	tli := held.Position.TLI
	if _, left := src.History.End(tli); !left && src.TLI != tli {
		return refuse(Forked, "its history (TLI %s) does not contain TLI %s, the newest that is kept here, up to %s: "+
			"it is an old primary that came back, or was promoted elsewhere; rebuild it from the present primary",
			src.TLI, tli, held.Position.LSN)
	}
	for _, ours := range held.History.Forks {
		if theirs, _ := forkOf(src.History, ours.TLI); theirs.LSN != ours.LSN {
			return refuse(Forked, "two promotions chose TLI %s: on the way to it, what is kept here left TLI %s at %s, and the "+
				"source at %s (0/0: never)", tli, ours.TLI, ours.LSN, theirs.LSN)
		}
	}
	return judgeAncestors(held, src)
}

// judgeNewest refuses a source that did not come by the newest TLI that somebody followed.
func judgeNewest(held Held, src Source) error {
	newest := held.Newest
	if newest.TLI <= held.Position.TLI || src.TLI == newest.TLI {
		return nil
	}
	if _, passed := src.History.End(newest.TLI); passed {
		return nil
	}
	return refuse(Forked, "its history (TLI %s) does not contain TLI %s, which was followed already, as object storage says: it is an old "+
		"primary that came back, or was promoted elsewhere; rebuild it from the present primary", src.TLI, newest.TLI)
}

// judgeEmpty begins where object storage ends: what is between there and the slot would be nowhere. What was promised is known
// from there, and counts as if it were held.
func judgeEmpty(held Held, src Source) (Start, error) {
	tli := held.Position.TLI
	fork, left := src.History.End(tli)
	switch {
	case !left && held.sealed():
		return Start{}, sealedError(held)
	case left && held.sealed() && fork < held.Seal.End && !held.AcceptDataLoss:
		return Start{}, belowSealError(held, fork)
	case !left && held.Stored.TLI == tli && src.Flush < held.Stored.LSN:
		return Start{}, refuse(Behind, "it is at %s of TLI %s, behind %s, up to where object storage has it: it was restored from "+
			"something older and lacks acknowledged commits", src.Flush, tli, held.Stored.LSN)
	case held.Stored.LSN == 0 || held.AcceptDataLoss:
		return Start{TLI: src.TLI, Adopt: true}, nil
	}
	at := held.Stored.LSN
	if end, passed := src.History.End(held.Stored.TLI); passed {
		at = min(at, src.SegmentSize.StartOf(end))
	}
	return Start{TLI: newestAt(src.History, at, src.SegmentSize), LSN: at, Adopt: true}, nil
}

// newestAt returns the newest TLI that begins in the segment that starts at lsn, or below: it has the whole segment, and what is
// below its beginning is a copy of its parent's.
func newestAt(h pg.History, lsn pg.LSN, size pg.SegmentSize) pg.TLI {
	return h.At(lsn + pg.LSN(size) - 1)
}

// judgeAncestors refuses a source that has less of an older TLI than what is kept here went through: a recovery to a point
// below the last fork writes that fork into its history, and then its own, lower one.
func judgeAncestors(held Held, src Source) error {
	for _, fork := range held.History.Forks {
		ours, _ := held.History.End(fork.TLI)
		if theirs, _ := src.History.End(fork.TLI); theirs < ours {
			return refuse(Forked, "it has TLI %s up to %s only, and what is kept here has it up to %s, and then went on to TLI %s: "+
				"it was restored to a point before the last failover, and lacks what was committed since; give it a timeline of its own",
				fork.TLI, theirs, ours, held.Position.TLI)
		}
	}
	return nil
}

// forkOf finds where a history left a TLI.
func forkOf(h pg.History, tli pg.TLI) (pg.Fork, bool) {
	for _, fork := range h.Forks {
		if fork.TLI == tli {
			return fork, true
		}
	}
	return pg.Fork{}, false
}

// judgeSameTLI goes on where what is held ends.
func judgeSameTLI(held Held, src Source) (Start, error) {
	at := held.Position
	if held.sealed() {
		return Start{}, sealedError(held)
	}
	if src.Flush < at.LSN {
		return Start{}, refuse(Behind, "it is at %s of TLI %s, behind %s, which is kept here: it was restored from something "+
			"older and lacks acknowledged commits", src.Flush, at.TLI, at.LSN)
	}
	return held.start(), nil
}

func sealedError(held Held) error {
	end := fmt.Sprintf("sealed with the end %s", held.Seal.End)
	if held.Seal.End == 0 {
		end = "promised never to be acknowledged again, though its end is not decided yet (seal again)"
	}
	return refuse(Sealed, "it is still on TLI %s, which is %s: nothing of it may be acknowledged "+
		"any more; set the source to the server that took over, or unseal", held.Position.TLI, end)
}

func belowSealError(held Held, fork pg.LSN) error {
	return refuse(Behind, "it left TLI %s at %s, below %s, the end that TLI was sealed with: it lacks acknowledged "+
		"commits; restore it up to the end, or set the source with --accept-data-loss to follow it without them",
		held.Position.TLI, fork, held.Seal.End)
}

// start is where to go on with the TLI that is held.
func (h Held) start() Start {
	return Start{TLI: h.Position.TLI, LSN: h.CompareFrom, Open: h.SegmentSize.StartOf(h.Position.LSN)}
}

// judgeNewTLI follows a source that left our TLI: at once if what is held reaches the fork, else after the rest of our TLI.
// A fork below the record end is followed too, an operator or Patroni chose it, unless a seal promised more.
func judgeNewTLI(held Held, src Source) (Start, error) {
	at := held.Position
	fork, _ := src.History.End(at.TLI)
	if held.sealed() && fork < held.Seal.End && !held.AcceptDataLoss {
		return Start{}, belowSealError(held, fork)
	}
	if fork < held.Oldest {
		return Start{}, refuse(Behind, "it left TLI %s at %s, below %s, where what is kept here begins: it was restored to a point before "+
			"that, and none of this is its history; give it a timeline of its own", at.TLI, fork, held.Oldest)
	}
	if at.LSN < fork {
		return held.start(), nil
	}
	// Not always the next number: a TLI that was left where it began has no bytes.
	return Start{TLI: src.History.At(fork), LSN: held.SegmentSize.StartOf(fork), Follow: true}, nil
}

// judgeOnTheWay refuses the history of a TLI that the source went through, if it is not how the source's own begins: a file in
// pg_wal or in its archive may be that of another promotion. What was judged is the source's own.
func judgeOnTheWay(older pg.History, src Source) error {
	forks := src.History.Forks
	begins := forks[:slices.IndexFunc(forks, func(f pg.Fork) bool { return f.TLI == older.TLI })]
	if slices.EqualFunc(older.Forks, begins, func(a, b pg.Fork) bool { return a.TLI == b.TLI && a.LSN == b.LSN }) {
		return nil
	}
	return refuse(Forked, "its histories contradict each other: by that of TLI %s, it came to TLI %s over %s; by that of TLI %s itself, "+
		"over %s: two promotions chose TLI %s, and %s there is of the other one", src.TLI, older.TLI, way(begins), older.TLI,
		way(older.Forks), older.TLI, pg.HistoryName(older.TLI))
}

// way prints where each TLI was left.
func way(forks []pg.Fork) string {
	var left []string
	for _, f := range forks {
		left = append(left, fmt.Sprintf("TLI %s at %s", f.TLI, f.LSN))
	}
	return strings.Join(left, ", ")
}

// sealed says whether the TLI that is held was sealed.
func (h Held) sealed() bool { return h.Seal != nil && h.Seal.TLI == h.Position.TLI }
