package restore_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/restore"
)

// TestRecoveryLosesNothing lets a model of PostgreSQL's archive recovery run against Choose in every small world of two
// nodes, and in many of three: nodes that stopped anywhere, lost their disk, sealed or did not hear of it, went on with the
// old primary, followed a child or did not, and can be asked or not. Wherever the recovery is allowed to end and promote,
// every acknowledged commit must have been replayed, and nothing that was never decided.
func TestRecoveryLosesNothing(t *testing.T) {
	t.Run("two nodes", func(t *testing.T) {
		var seen outcomes
		everyPath(func(pick picker) { seen.count(recoverIn(t, newStory(pick, 2), nil)) })
		seen.check(t)
	})
	t.Run("three nodes", func(t *testing.T) {
		var seen outcomes
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 0))
		for range 20_000 {
			seen.count(recoverIn(t, newStory(rng.IntN, 3), nil))
			seen.count(recoverIn(t, newStory(rng.IntN, 3), rng.IntN))
		}
		seen.check(t)
	})
	t.Run("with object storage", func(t *testing.T) {
		var seen outcomes
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 0))
		for range 20_000 {
			seen.count(recoverIn(t, newStoredStory(rng.IntN, 1+rng.IntN(2)), nil))
			seen.count(recoverIn(t, newStoredStory(rng.IntN, 1+rng.IntN(2)), rng.IntN))
		}
		seen.check(t)
	})
}

// picker picks a number below n: at random, or one after the other.
type picker func(n int) int

// everyPath calls f with each sequence of picks that it can make.
func everyPath(f func(picker)) {
	var path, widths []int
	for {
		depth := 0
		f(func(n int) int {
			if depth == len(path) {
				path, widths = append(path, 0), append(widths, n)
			}
			depth++
			return path[depth-1]
		})
		for len(path) > 0 && path[len(path)-1] == widths[len(path)-1]-1 {
			path, widths = path[:len(path)-1], widths[:len(path)-1]
		}
		if len(path) == 0 {
			return
		}
		path[len(path)-1]++
	}
}

func flip(pick picker) bool { return pick(2) == 1 }

// A story happens on a grid of half segments, so that a point is on a border or in the middle of a segment. Zero is "nowhere".
type point int

func (p point) lsn() pg.LSN { return pg.LSN(p) * pg.LSN(size/2) }

// story is a world, and what is true in it.
type story struct {
	nodes []actor
	k     int
	acked [3]point // by TLI: highest acknowledged commit; zero: none
	ends  [3]point // by TLI: what was decided; zero: it lives
	fork  point    // where TLI 2 left TLI 1; zero: there is none
	store *storage // nil: none is configured
}

type actor struct {
	held      [3]point // by TLI: end of what it has
	gap       bool     // the first segment of TLI 2 is gone
	replaced  bool     // its disk is new: it has nothing, and is not qualified
	sealed    [3]bool  // by TLI: it knows the end
	followed  bool     // it knows TLI 2
	reachable bool
}

const base = 2 // where all WAL of a story begins, in grid points: at segment 1

// newStory tells one: TLI 1 under k of n, a seal, what happens behind its back, a child, its seal.
func newStory(pick picker, n int) *story {
	s := &story{nodes: make([]actor, n), k: 1 + pick(n)}
	for i := range s.nodes {
		s.nodes[i].held[1] = point(base + 1 + pick(n))
	}
	s.acked[1] = s.quorumEnd(1)
	if flip(pick) {
		s.nodes[pick(n)].lose()
	}
	if flip(pick) {
		s.seal(pick, 1)
		s.goOn(pick)
	}
	if flip(pick) {
		s.promote(pick)
		s.damage(pick)
	}
	s.reach(pick)
	return s
}

func (s *story) reach(pick picker) {
	for i := range s.nodes {
		s.nodes[i].reachable = flip(pick)
	}
	if s.store != nil {
		s.store.reachable = flip(pick)
	}
}

func (a *actor) lose() { *a = actor{replaced: true} }

// quorumEnd returns how far at least k nodes hold a TLI.
func (s *story) quorumEnd(tli int) point {
	var held []point
	for _, a := range s.nodes {
		held = append(held, a.held[tli])
	}
	slices.Sort(held)
	return held[len(held)-s.k]
}

// seal asks a set of nodes for their promise. Too few decide nothing, and neither do nodes of which two such sets may have none
// in common: then a store is needed, and there is none here.
func (s *story) seal(pick picker, tli int) {
	var promised []int
	for i, a := range s.nodes {
		if flip(pick) && !a.replaced && (tli == 1 || a.followed) {
			promised = append(promised, i)
		}
	}
	n := len(s.nodes)
	if need := n - s.k + 1; len(promised) < need || 2*need <= n {
		return
	}
	for _, i := range promised {
		s.ends[tli] = max(s.ends[tli], s.nodes[i].held[tli])
		s.nodes[i].sealed[tli] = true
	}
}

// goOn lets nodes that did not promise receive more from the old primary. Nothing of it is acknowledged: they are fewer than k.
func (s *story) goOn(pick picker) {
	on := flip(pick)
	for i := range s.nodes {
		if a := &s.nodes[i]; on && !a.replaced && !a.sealed[1] {
			a.held[1] = base + 5
		}
	}
}

// promote makes TLI 2: of what the seal decided, or, where nobody sealed, by a standby that had every acknowledged commit. Some
// nodes follow, and hold some of it.
func (s *story) promote(pick picker) {
	s.fork = max(s.ends[1], s.acked[1])
	for i := range s.nodes {
		a := &s.nodes[i]
		if a.replaced || !flip(pick) {
			continue
		}
		a.followed = true
		a.held[1] = s.fork
		a.held[2] = s.fork + point(pick(3))
	}
	s.acked[2] = s.quorumEnd(2)
	if flip(pick) {
		s.seal(pick, 2)
	}
}

// damage takes away what a node had of TLI 2: its first segment, or the whole disk.
func (s *story) damage(pick picker) {
	a := &s.nodes[pick(len(s.nodes))]
	if !a.followed {
		return
	}
	switch pick(3) {
	case 1:
		a.gap = true
	case 2:
		a.lose()
	}
}

// world is what can be asked in a story.
func (s *story) world() *world {
	w := &world{quorum: restore.Quorum{Required: len(s.nodes) - s.k + 1}}
	for i, a := range s.nodes {
		w.nodes = append(w.nodes, s.scripted(fmt.Sprint("node ", i), a))
	}
	if s.store != nil {
		p := s.store.scripted(s.fork, s.ends)
		w.store = &p
	}
	return w
}

func (s *story) scripted(name string, a actor) scripted {
	p := scripted{Answer: restore.Answer{From: name}}
	if !a.reachable {
		p.Err = fmt.Errorf("no route to host")
		return p
	}
	if a.replaced {
		return p
	}
	p.Qualified, p.Seals = true, map[pg.TLI]pg.LSN{}
	p.History, p.CommitLSN = pg.History{TLI: 1}, s.acked[1].lsn()
	p.held = append(p.held, extent{1, point(base).lsn(), a.held[1].lsn()})
	if a.followed {
		p.History = pg.History{TLI: 2, Forks: []pg.Fork{{TLI: 1, LSN: s.fork.lsn()}}}
		p.CommitLSN = max(s.acked[1], s.acked[2]).lsn()
		p.held = append(p.held, extent{2, s.firstOfChild(a), a.held[2].lsn()})
	}
	for tli, sealed := range a.sealed {
		if sealed {
			p.Seals[pg.TLI(tli)] = s.ends[tli].lsn()
		}
	}
	return p
}

func (s *story) firstOfChild(a actor) pg.LSN {
	if a.gap {
		return size.StartOf(s.fork.lsn()) + pg.LSN(size)
	}
	return size.StartOf(s.fork.lsn())
}

// TestAnswersAreTrue asks for every file of every story, with every flag, and holds the answers against what is true.
func TestAnswersAreTrue(t *testing.T) {
	var count [3]int
	ask := func(s *story) {
		w := s.world()
		for req := range everyRequest {
			d := w.choose(req)
			count[d.Kind]++
			s.judge(t, req, d)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 2_000 {
		ask(newStory(rng.IntN, 2+rng.IntN(2)))
		ask(newStoredStory(rng.IntN, 1+rng.IntN(3)))
	}
	t.Logf("unknown, present, absent: %d", count)
	if slices.Contains(count[:], 0) {
		t.Errorf("unknown, present, absent: %d; want all", count)
	}
}

// everyRequest yields requests for what there is in a story, and around it.
func everyRequest(yield func(restore.Request) bool) {
	for flags := range 4 {
		req := restore.Request{Timeline: "acme/main", Copy: flags&1 != 0, AcceptDataLoss: flags&2 != 0}
		for tli := pg.TLI(1); tli <= 3; tli++ {
			req.File = restore.File{TLI: tli, History: true}
			if !yield(req) {
				return
			}
			for segno := pg.SegNo(0); segno < 6; segno++ {
				req.File = restore.File{TLI: tli, SegNo: segno, Size: size}
				if !yield(req) {
					return
				}
			}
		}
	}
}

func (s *story) judge(t *testing.T, req restore.Request, d restore.Decision) {
	t.Helper()
	f, tli := req.File, int(req.File.TLI)
	wrong := func(why string) { t.Fatalf("%s, %+v: %v, but %s: %+v", f.Name(), req, d, why, s) }
	sealed := tli < 3 && s.ends[tli] != 0
	switch {
	case d.Text == "" && d.Kind != restore.Present:
		wrong("it does not say why")
	case d.Loss && (!req.AcceptDataLoss || s.agreeing() > 0 || s.reachableNodes() > 0):
		wrong("nobody accepted that, or a node can be asked")
	case d.Loss && d.Kind == restore.Present && s.store.sealed[tli] && d.UpTo > max(s.ends[tli], s.fork).lsn():
		wrong("it is above the end")
	case d.Loss:
	case d.Kind == restore.Absent && !f.History && !req.Copy && sealed && f.Start() < s.ends[tli].lsn() && (s.knowsEnd(tli) || !req.AcceptDataLoss):
		wrong("there are bytes below the end")
	case d.Kind == restore.Absent && !req.Copy && !req.AcceptDataLoss && s.agreeing() < len(s.nodes)-s.k+1 && f.Name() != "00000001.history":
		wrong("too few say so")
	case d.Kind == restore.Absent && !req.Copy && !req.AcceptDataLoss && s.store != nil && !s.store.reachable && f.Name() != "00000001.history":
		wrong("the store does not say so")
	case d.Kind == restore.Absent && f.History && tli == 2 && s.knowsChild():
		wrong("somebody has it")
	case d.Kind != restore.Present || f.History:
	case d.UpTo > f.End() || d.UpTo <= f.Start():
		wrong("it holds no byte, or those of others")
	case d.UpTo > max(s.ends[tli], s.acked[tli], s.fork*point(2-tli)).lsn():
		wrong("that is above the end, or tail")
	case d.UpTo < f.End() && d.UpTo != max(s.ends[tli], s.fork*point(2-tli)).lsn():
		wrong("it ends early")
	}
}

func (s *story) agreeing() int {
	n := 0
	for _, a := range s.nodes {
		if a.reachable && !a.replaced {
			n++
		}
	}
	return n
}

func (s *story) reachableNodes() int {
	n := 0
	for _, a := range s.nodes {
		if a.reachable {
			n++
		}
	}
	return n
}

func (s *story) knowsChild() bool {
	return s.store != nil && s.store.reachable && s.store.claimed || slices.ContainsFunc(s.nodes, func(a actor) bool { return a.reachable && a.followed })
}

func (s *story) knowsEnd(tli int) bool {
	return s.store != nil && s.store.reachable && s.store.sealed[tli] || slices.ContainsFunc(s.nodes, func(a actor) bool { return a.reachable && a.sealed[tli] })
}

// A recovery is PostgreSQL's archive recovery to the newest TLI, from a base backup at the beginning (xlogrecovery.c).
type recovery struct {
	s    *story
	w    *world
	pick picker     // of who can be reached, anew at each request; nil: always the same
	way  pg.History // that it decided to follow
	at   pg.LSN     // replayed up to here
	read pg.TLI     // of the last file; older ones are no longer asked for
	loss bool       // is accepted
}

// outcome is how a recovery ended.
type outcome int

const (
	stopped  outcome = iota // restore_command did not know, and the server went down
	promoted                // it was told that there is no more
	outcomeN
)

func (r *recovery) run() outcome {
	for {
		next := r.way.TLI + 1
		switch d := r.ask(restore.File{TLI: next, History: true}); d.Kind {
		case restore.Unknown:
			return stopped
		case restore.Absent:
			return r.replay()
		case restore.Present:
			r.way = r.historyOf(d.From[0])
		}
	}
}

func (r *recovery) historyOf(place string) pg.History {
	if r.w.store != nil && r.w.store.From == place {
		return r.w.store.History
	}
	i := slices.IndexFunc(r.w.nodes, func(p scripted) bool { return p.From == place })
	return r.w.nodes[i].History
}

func (r *recovery) ask(f restore.File) restore.Decision {
	if r.pick != nil {
		r.s.reach(r.pick)
		r.w = r.s.world()
	}
	return r.w.choose(restore.Request{File: f, Timeline: "acme/main", AcceptDataLoss: r.loss})
}

// replay reads segment after segment, each from the newest TLI that has it.
func (r *recovery) replay() outcome {
	for segno := size.SegNo(r.at); ; segno++ {
		d, end := r.readAny(segno)
		if end != nil {
			return *end
		}
		if r.at = d.UpTo; r.at < size.Start(segno+1) {
			return promoted // zeros are the end of WAL
		}
	}
}

func (r *recovery) readAny(segno pg.SegNo) (restore.Decision, *outcome) {
	end := promoted
	for tli := r.way.TLI; tli >= max(r.read, 1); tli-- {
		if parent, _ := r.way.Parent(); tli == r.way.TLI && segno < size.SegNo(parent.LSN) {
			continue
		}
		switch d := r.ask(restore.File{TLI: tli, SegNo: segno, Size: size}); d.Kind {
		case restore.Present:
			r.read = tli
			return d, nil
		case restore.Unknown:
			end = stopped
			return d, &end
		}
	}
	return restore.Decision{}, &end
}

func recoverIn(t *testing.T, s *story, pick picker) outcome {
	t.Helper()
	r := &recovery{s: s, w: s.world(), pick: pick, way: pg.History{TLI: 1}, at: point(base).lsn()}
	out := r.run()
	if out == stopped {
		return out
	}
	for tli, acked := range s.acked {
		if acked == 0 || acked <= s.fork && tli == 2 {
			continue
		}
		if r.at < acked.lsn() || r.way.TLI < pg.TLI(tli) {
			t.Fatalf("recovery promoted from TLI %d at %s, and TLI %d was acknowledged up to %s: %+v", r.way.TLI, r.at, tli, acked.lsn(), s)
		}
	}
	if r.at != s.ends[r.read].lsn() && r.at != s.ends[r.way.TLI].lsn() {
		t.Fatalf("recovery promoted from TLI %d at %s, which nobody decided: %+v", r.way.TLI, r.at, s)
	}
	return out
}

// outcomes counts, so that a model in which nothing ever happens fails.
type outcomes [outcomeN]int

func (o *outcomes) count(out outcome) { o[out]++ }

func (o *outcomes) check(t *testing.T) {
	t.Logf("recoveries that stopped: %d, that promoted: %d", o[stopped], o[promoted])
	if o[stopped] == 0 || o[promoted] == 0 {
		t.Errorf("recoveries that stopped: %d, that promoted: %d; want both", o[stopped], o[promoted])
	}
}
