package gate

import "time"

// HolderInfo describes one who is inside.
type HolderInfo struct {
	Name  Holder
	Since time.Time
	Trace
}

// Holders lists who is inside, the oldest first. It costs a copy of as many
// records; it may be called at any time.
func (g *Gate) Holders() []HolderInfo {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.holdersLocked()
}

func (g *Gate) holdersLocked() []HolderInfo {
	inside := g.seats.inside()
	list := make([]HolderInfo, len(inside))
	for i, s := range inside {
		list[i] = HolderInfo{Name: s.holder, Since: s.since, Trace: s.trace}
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
	g.mu.Lock()
	defer g.mu.Unlock()
	s := Stats{
		Entered: g.seats.serial, Refused: g.refused, Misused: g.misused, Inside: g.seats.taken,
		ClosingSince: g.closingSince, Closed: g.isClosing() && g.seats.taken == 0,
	}
	for _, one := range g.seats.all {
		if one.serial != 0 && (s.Oldest.IsZero() || one.since.Before(s.Oldest)) {
			s.Oldest = one.since
		}
	}
	return s
}
