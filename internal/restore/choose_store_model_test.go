package restore_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/restore"
)

// storage is the object store of a story: what got there before it was lost from sight, of what was allowed to.
type storage struct {
	whole     [3]point // by TLI: whole segments up to here; zero: none
	open      [3]point // by TLI: how far the open segment reaches that was stored last; zero: none
	sealed    [3]bool  // by TLI: the end was decided there
	claimed   bool     // TLI 2 was
	reachable bool
}

// newStoredStory tells a story in which segments were uploaded: whole ones below what was acknowledged, open ones as far as
// some node had them, which may be more. The store may have been away when a seal was decided or a child followed.
func newStoredStory(pick picker, n int) *story {
	s := newStory(pick, n)
	held := s.nodes[pick(n)].held
	st := &storage{claimed: s.fork != 0 && flip(pick), reachable: flip(pick)}
	for tli := 1; tli <= 2; tli++ {
		if tli == 2 && !st.claimed {
			break
		}
		st.sealed[tli] = s.ends[tli] != 0 && flip(pick)
		if flip(pick) {
			st.whole[tli] = s.acked[tli] / 2 * 2
		}
		if flip(pick) && held[tli] > 0 {
			st.open[tli] = held[tli]
		}
	}
	if s.acked[2] <= s.fork {
		st.whole[2] = 0
	}
	s.store = st
	return s
}

func (st *storage) scripted(fork point, ends [3]point) scripted {
	p := scripted{Answer: restore.Answer{From: "store", Seals: map[pg.TLI]pg.LSN{}}}
	if !st.reachable {
		p.Err = errors.New("no route to host")
		return p
	}
	for tli, sealed := range st.sealed {
		if sealed {
			p.Seals[pg.TLI(tli)] = ends[tli].lsn()
		}
	}
	if st.whole == [3]point{} && st.open == [3]point{} && !st.claimed {
		return p
	}
	p.History = pg.History{TLI: 1}
	if st.claimed {
		p.History = pg.History{TLI: 2, Forks: []pg.Fork{{TLI: 1, LSN: fork.lsn()}}}
	}
	first := [3]pg.LSN{1: point(base).lsn(), 2: size.StartOf(fork.lsn())}
	for tli := pg.TLI(1); tli <= 2; tli++ {
		if end := st.whole[tli].lsn(); end > first[tli] {
			p.held = append(p.held, extent{tli, first[tli], end})
			p.CommitLSN = max(p.CommitLSN, end)
		}
		if end := st.open[tli].lsn(); end > first[tli] {
			p.held = append(p.held, extent{tli, size.StartOf(end - 1), end})
		}
	}
	for _, x := range p.held {
		if p.OldestLSN == 0 || x.from < p.OldestLSN {
			p.OldestLSN = x.from
		}
	}
	return p
}

// TestWhatIsLeftIsUsedUp lets recoveries run that accept loss, with nothing but the object store: they end with all of what
// is there without a hole, never above a decided end, and on a way that a server can have gone.
func TestWhatIsLeftIsUsedUp(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var seen outcomes
	for range 20_000 {
		s := newStoredStory(rng.IntN, 1+rng.IntN(2))
		s.store.reachable = true
		for i := range s.nodes {
			s.nodes[i].reachable = false
		}
		r := &recovery{s: s, w: s.world(), way: pg.History{TLI: 1}, at: point(base).lsn(), loss: true}
		out := r.run()
		seen.count(out)
		if out == promoted {
			r.usedUp(t)
		}
	}
	seen.check(t)
}

func (r *recovery) usedUp(t *testing.T) {
	t.Helper()
	st, fork := r.s.store, r.s.fork
	wrong := func(why string) {
		t.Fatalf("recovery promoted from TLI %d at %s: %s: %+v, %+v", r.way.TLI, r.at, why, r.s, st)
	}
	switch newest := r.way.TLI; {
	case st.claimed != (newest == 2):
		wrong("it did not go the way that the store knows")
	case newest == 2 && r.at < fork.lsn():
		wrong("it left TLI 1 below the fork, and claims to be on TLI 2")
	case newest == 2 && r.read == 1 && r.at > fork.lsn():
		wrong("it replayed the parent past the fork")
	case r.at < st.whole[newest].lsn():
		wrong("a whole segment was not used")
	case st.sealed[newest] && r.at > max(r.s.ends[newest], fork).lsn():
		wrong("that is above the end")
	case st.open[newest] > st.whole[newest] && size.StartOf(st.open[newest].lsn()-1) <= r.at && r.at < st.open[newest].lsn() && !st.sealed[newest]:
		wrong("the open segment was not used")
	}
}
