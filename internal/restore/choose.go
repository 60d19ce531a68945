package restore

import (
	"fmt"
	"strings"

	"github.com/sluicewal/sluice/internal/pg"
)

// Choose decides what is answered to a request, from what the nodes and the object store (nil: none is configured) say. It
// is pure. Of the rules of hand-back it holds:
//
//   - Whole segments below the commit LSN go to anyone, and so do histories.
//   - All above is tail, and stays here until the TLI is sealed.
//   - A sealed TLI is served up to its end, and what is above does not exist.
//   - A parent's segment at the fork or above it goes out only if its child's can.
//   - What does not exist, the store and enough nodes have to say.
//   - Where only the store is left and loss is accepted, the timeline ends with what the store has.
func Choose(req Request, nodes []Answer, store *Answer, quorum Quorum) Decision {
	if req.File.History && req.File.TLI == 1 {
		return Decision{Kind: Absent, Text: "TLI 1 has no history: no server was promoted before it"}
	}
	c := chooser{req: req, nodes: nodes, store: store, quorum: quorum}
	var err error
	c.survey, err = newSurvey(c.answered())
	switch {
	case err != nil:
		return c.unknown(Conflict, "%v", err)
	case c.line.TLI == 0:
		return c.unknown(NotHeld, "nothing is known of its WAL: %s", c.whoHasNot())
	case req.File.History:
		return c.history()
	}
	return c.segment(req.File)
}

// chooser is one decision in the making.
type chooser struct {
	req    Request
	nodes  []Answer
	store  *Answer
	quorum Quorum
	survey
}

// all returns every place that was asked, the nodes first: they are nearer.
func (c *chooser) all() []Answer {
	all := c.nodes[:len(c.nodes):len(c.nodes)]
	if c.store != nil {
		all = append(all, *c.store)
	}
	return all
}

func (c *chooser) answered() []Answer {
	return filter(c.all(), func(a Answer) bool { return a.Err == nil })
}

func (c *chooser) silent() []Answer {
	return filter(c.all(), func(a Answer) bool { return a.Err != nil })
}

// history decides about the history of a TLI.
func (c *chooser) history() Decision {
	tli := c.req.File.TLI
	if from := names(filter(c.answered(), func(a Answer) bool { return a.HasHistory })); len(from) > 0 {
		return Decision{Kind: Present, From: from, Read: c.req.File}
	}
	switch {
	case tli > c.line.TLI:
		return c.absent("no server is known to have been promoted to TLI %d", tli)
	case c.onLine(tli):
		return c.unknown(NotHeld, "TLI %d existed, and %s", tli, c.whoHasNot())
	case c.req.Copy || c.req.AcceptDataLoss:
		return c.absent("TLI %d is not on the way to TLI %d", tli, c.line.TLI)
	}
	// The number was passed over. PostgreSQL counts up until it is told "does not exist": it would stop below the newest TLI.
	return c.unknown(NotInLine, "TLI %d was passed over on the way to TLI %d. To recover to the newest, set "+
		"recovery_target_timeline = '%d'; for a copy that ends on an older TLI, use wal-fetch --copy", tli, c.line.TLI, c.line.TLI)
}

// segment decides about a segment: by itself if it is the one that PostgreSQL asks for first at its number, otherwise with a
// look at that one.
func (c *chooser) segment(f File) Decision {
	switch at := c.newestAt(f); {
	case f.TLI > c.line.TLI:
		return c.absent("no server is known to have been promoted to TLI %d", f.TLI)
	case !c.onLine(f.TLI):
		return c.unknown(NotInLine, "TLI %d is not on the way to TLI %d, the newest that was followed", f.TLI, c.line.TLI)
	case f.TLI > at:
		begin, _ := c.begin(f.TLI)
		return c.unknown(NotInLine, "TLI %d begins at %s only; what is below is on TLI %d", f.TLI, begin, at)
	case f.TLI == at:
		return c.own(f)
	default:
		return c.parents(f, at)
	}
}

// own decides about a segment of the newest TLI that reaches so far down.
func (c *chooser) own(f File) Decision {
	end, sealed := c.sealed()
	switch {
	case sealed && f.Start() >= end:
		return c.behindSeal(end)
	case sealed:
		return c.orWhatIsLeft(f, c.present(f, min(f.End(), end)))
	case f.End() <= c.safe(f.TLI):
		return c.orWhatIsLeft(f, c.present(f, f.End()))
	case c.req.Copy && c.commit > 0:
		return c.absent("this copy ends at %s, the end of the last whole segment below the commit LSN %s", f.Size.StartOf(c.commit), c.commit)
	}
	return c.orWhatIsLeft(f, c.unsealed(f))
}

// behindSeal says that nothing is above the end of the newest TLI. It is handed out like tail, for that word is what a recovery
// ends with, and promotes: where the end is a segment's, all below may have gone out before the seal.
func (c *chooser) behindSeal(end pg.LSN) Decision {
	d := c.absent("TLI %d was sealed at %s", c.line.TLI, end)
	if d.Kind == Absent {
		d.Tail = c.line.TLI
		d.From = names(filter(c.answered(), func(a Answer) bool { _, sealed := a.Seals[d.Tail]; return sealed }))
	}
	return d
}

// parents decides about a segment at or above the point where the line left its TLI; at is the TLI whose segment goes on from
// there. PostgreSQL asks for the parent's where it did not find the child's, and would replay it past the fork.
func (c *chooser) parents(f File, at pg.TLI) Decision {
	childs, end := c.own(f.on(at)), c.end(f.TLI)
	switch {
	case childs.Kind == Unknown:
		childs.Text = fmt.Sprintf("TLI %d goes on from TLI %d here, and of its segment: %s", at, f.TLI, childs.Text)
		return childs
	case f.Start() >= end:
		return c.absent("TLI %d ended at %s", f.TLI, end)
	case childs.Kind == Absent && c.req.Copy:
		return childs
	case childs.Kind == Absent:
		return c.unknown(Conflict, "TLI %d was sealed at %s, but TLI %d was followed from below, and has nothing here. To recover along "+
			"TLI %d, set recovery_target_lsn to where it ends", f.TLI, end, at, at)
	}
	return c.present(f, min(f.End(), end))
}

// present hands out f up to an LSN, if somebody has so much of it.
func (c *chooser) present(f File, upTo pg.LSN) Decision {
	read := f
	from := c.holders(read, upTo)
	// A child's bytes below the point where it begins are its parent's, and one that wrote nothing else may have no file.
	for begin, parent := c.begin(read.TLI); len(from) == 0 && parent != 0 && upTo <= begin; begin, parent = c.begin(parent) {
		read = read.on(parent)
		from = c.holders(read, upTo)
	}
	if len(from) == 0 {
		return c.notHeld(f)
	}
	return Decision{Kind: Present, From: from, Read: read, UpTo: upTo, Tail: c.tail(f)}
}

// tail returns the newest TLI if it is its seal that lets f out; zero if the commit LSN does.
func (c *chooser) tail(f File) pg.TLI {
	if _, sealed := c.sealed(); !sealed || f.End() <= c.commit {
		return 0
	}
	return c.line.TLI
}

func (c *chooser) holders(f File, upTo pg.LSN) []string {
	return names(filter(c.answered(), func(a Answer) bool { return a.Segments[f.TLI] >= upTo }))
}

// unsealed refuses a tail, with both ways out.
func (c *chooser) unsealed(f File) Decision {
	if c.storeAlone() {
		return c.unsealedInStore(f)
	}
	return c.unknown(Unsealed, "TLI %d is not sealed, and above %s commits may still be acknowledged on it. For a failover: "+
		"sluice timeline seal %s (or wal-fetch --seal), then ask again. For a copy that ends at %s: wal-fetch --copy",
		f.TLI, f.Size.StartOf(c.commit), c.req.Timeline, f.Size.StartOf(c.commit))
}

func (c *chooser) unknown(reason Reason, format string, args ...any) Decision {
	return Decision{Reason: reason, Text: fmt.Sprintf(format, args...), Retry: len(c.silent()) > 0}
}

func names(answers []Answer) []string {
	var all []string
	for _, a := range answers {
		all = append(all, a.From)
	}
	return all
}

func filter(answers []Answer, keep func(Answer) bool) []Answer {
	var kept []Answer
	for _, a := range answers {
		if keep(a) {
			kept = append(kept, a)
		}
	}
	return kept
}

func list(words []string) string { return strings.Join(words, ", ") }
