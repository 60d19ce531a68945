package timeline

import (
	"slices"

	"github.com/sluicewal/sluice/internal/pg"
)

// CommitBound says up to where enough of the other nodes that keep a timeline have
// a TLI, as far as they said: this node's record end, held below that, is its
// commit LSN. With several false nobody else keeps it, and this node's word is
// enough. It waits for no I/O, and is asked again when the control file or the TLI
// is another, or the timeline was told of the others ([Timeline.PeersSaid]).
type CommitBound func(t *Timeline, c *Control, tli pg.TLI) (lsn pg.LSN, several bool)

// bound is what a [CommitBound] said last, and what it was asked.
type bound struct {
	control *Control
	said    uint64 // how often the peers had said something
	several bool
	at      pg.Position // zero, where nothing is known
}

// commitEnd is the record end that is durable here, and on as many other nodes as
// have to vouch for it, as far as they said.
func (t *Timeline) commitEnd(flush pg.Position, recordEnd pg.LSN) pg.LSN {
	if t.cfg.CommitBound == nil || flush.TLI == 0 {
		return recordEnd
	}
	b := t.boundOf(flush.TLI)
	if !b.several {
		return recordEnd
	}
	return min(recordEnd, b.at.LSN)
}

// CommitEnd is the commit LSN, on the newest TLI, of what this node holds.
func (t *Timeline) CommitEnd() pg.LSN {
	l := t.Log()
	if l == nil {
		return 0
	}
	s := l.Stats()
	return t.commitEnd(s.Flush, s.CommitEnd)
}

// boundOf returns the bound of a TLI. What was known once stays known: a peer that
// is gone, or a setting that has become stricter, takes no commit back.
func (t *Timeline) boundOf(tli pg.TLI) *bound {
	for {
		last, said, c := t.bound.Load(), t.said.Load(), t.Control()
		if last != nil && last.control == c && last.said == said && (!last.several || last.at.TLI == tli) {
			return last
		}
		next := &bound{control: c, said: said}
		var lsn pg.LSN
		if lsn, next.several = t.cfg.CommitBound(t, c, tli); next.several {
			next.at = pg.Position{TLI: tli, LSN: max(lsn, t.known(c, tli, last))}
		}
		if t.bound.CompareAndSwap(last, next) {
			return next
		}
	}
}

// known is up to where a TLI is known to be committed whatever the peers say now.
func (t *Timeline) known(c *Control, tli pg.TLI, last *bound) pg.LSN {
	lsn := t.along(c.Commit, tli)
	if l := t.Log(); l != nil && last != nil && last.several {
		lsn = max(lsn, min(t.along(last.at, tli), l.Stats().CommitEnd)) // what is not here yet may need other nodes now
	}
	if c.Stored != nil { // only what is committed is brought there
		lsn = max(lsn, t.along(c.Stored.Backup, tli))
	}
	if seal, ok := c.SealOf(tli); ok {
		lsn = max(lsn, seal.End)
	}
	return lsn
}

// along is how far a position lies on the way to a TLI that is held.
func (t *Timeline) along(p pg.Position, tli pg.TLI) pg.LSN {
	if p.TLI == tli {
		return p.LSN
	}
	if l := t.Log(); l != nil {
		if end, left := l.Lineage().End(p.TLI); left {
			return min(p.LSN, end)
		}
	}
	return 0
}

// PeersSaid takes note that the other nodes that keep the timeline, of which these
// are heard now, have said something new. It wakes the manager if one of them was
// not known, or if the commit LSN has come to where that matters.
func (t *Timeline) PeersSaid(nodes []string) {
	isNew := t.learn(nodes)
	t.said.Add(1)
	if isNew {
		t.wake.Ring(ReasonPeerUpdate)
	}
	t.wake.Commit.SetFor(uint64(t.CommitEnd()), ReasonPeerUpdate)
}

// learn remembers nodes, and reports whether one of them is new.
func (t *Timeline) learn(nodes []string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	had := len(t.learned)
	for _, n := range nodes {
		if !slices.Contains(t.learned, n) && !slices.Contains(t.Control().Nodes, n) {
			t.learned = append(t.learned, n)
		}
	}
	return len(t.learned) > had
}

// takeSaid gives a control file that is about to be saved what the peers told. The
// caller holds the lock that is held over a save.
func (t *Timeline) takeSaid(c *Control) {
	c.Nodes = t.KnownNodes()
	slices.Sort(c.Nodes)
	switch b := t.bound.Load(); {
	case b == nil:
	case !b.several:
		c.Commit = pg.Position{}
	case b.at.TLI == c.Flush.TLI && later(c.Commit, b.at) == b.at:
		c.Commit = pg.Position{TLI: b.at.TLI, LSN: min(b.at.LSN, c.RecordEnd)}
	}
}

// forgetLearned drops what a control file that was saved has.
func (t *Timeline) forgetLearned(c *Control) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.learned = slices.DeleteFunc(t.learned, func(n string) bool { return slices.Contains(c.Nodes, n) })
}

// KnownNodes are the other nodes that were ever heard to keep this timeline. The
// list is the caller's.
func (t *Timeline) KnownNodes() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append(slices.Clone(t.Control().Nodes), t.learned...)
}
