package crashfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Survivors says what a crash leaves of what was not synced.
type Survivors struct {
	// Seed chooses among pages and changes of names; each has an even chance. Zero: nothing survives.
	Seed uint64
	// Killed is for a process that died on a machine that goes on: all is there, and no more of it durable than before.
	Killed bool
}

// Restart returns the file system as it is found after a crash at this moment. The old one fails from now on.
func (f *FS) Restart(s Survivors) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed = true
	next := New()
	next.drop = f.drop
	if s.Killed {
		next.root, next.pending = f.root, f.pending
		return next
	}
	keep := s.chooser()
	for _, c := range f.pending {
		if !keep() {
			continue
		}
		for _, e := range c {
			e.apply((*node).durable)
		}
	}
	saveDirty(f.root, keep, map[*node]bool{})
	next.root = f.root.afterCrash(map[*node]*node{})
	return next
}

func (s Survivors) chooser() func() bool {
	if s.Seed == 0 {
		return func() bool { return false }
	}
	rng := rand.New(rand.NewPCG(s.Seed, 0))
	return func() bool { return rng.IntN(2) == 0 }
}

// saveDirty lets pages survive, of all files that still have a name after the crash.
func saveDirty(n *node, keep func() bool, seen map[*node]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	n.save(keep)
	for _, name := range slices.Sorted(maps.Keys(n.savedNames)) {
		saveDirty(n.savedNames[name], keep, seen)
	}
}
