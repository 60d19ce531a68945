package gate

import (
	"cmp"
	"slices"
	"time"
)

// HolderInfo describes one who is inside.
type HolderInfo struct {
	Name  Holder
	Since time.Time // up to 5 ms early, 15 where the gate has a [Clock]
	Trace
}

// Holders lists who is inside, the oldest first, by name where the clock cannot tell. It costs a copy of as many
// records; it may be called at any time.
func (g *Gate) Holders() []HolderInfo {
	r := g.room.Load()
	if r == nil {
		return nil
	}
	r.lock()
	defer r.mu.Unlock()
	return r.holdersLocked()
}

func (r *room) holdersLocked() []HolderInfo {
	records := r.recordsLocked()
	slices.SortStableFunc(records, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.since, b.since), cmp.Compare(a.holder, b.holder))
	})
	list := make([]HolderInfo, len(records))
	for i, one := range records {
		list[i] = HolderInfo{Name: one.holder, Since: r.clock.at(one.since), Trace: one.trace}
	}
	return list
}

// Stats is what a gate counts. Totals only grow.
type Stats struct {
	Entered uint64 // entries let in
	Refused uint64 // entries refused
	Misused uint64 // misuses, see [MisuseKind]
	Inside  int    // passes not yet left
	// Oldest is when the oldest of those inside entered; zero: nobody is inside.
	Oldest time.Time
	// ClosingSince is when the first Close began; zero: the gate is open.
	ClosingSince time.Time
	// Closed says that a close is complete.
	Closed bool
}

// Stats reads the gate's numbers. It waits for no holder.
func (g *Gate) Stats() Stats {
	r := g.room.Load()
	if r == nil {
		return Stats{}
	}
	r.lock()
	defer r.mu.Unlock()
	s := Stats{
		Entered: r.enteredLocked(), Refused: r.refused.Load(), Misused: r.misused.Load(),
		ClosingSince: r.closingSince, Closed: r.isClosed(),
	}
	inside := r.recordsLocked()
	s.Inside = len(inside)
	if s.Inside > 0 {
		oldest := slices.MinFunc(inside, func(a, b record) int { return cmp.Compare(a.since, b.since) })
		s.Oldest = r.clock.at(oldest.since)
	}
	return s
}
