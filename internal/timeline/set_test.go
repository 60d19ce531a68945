package timeline

import (
	"iter"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"weak"

	"pgregory.net/rapid"
)

func member(n int) *Timeline { return &Timeline{id: ID{Tenant: "acme", Name: strconv.Itoa(n)}} }

// fill puts n timelines into a new set.
func fill(n int) (*Set, []*Membership) {
	s := &Set{}
	ms := make([]*Membership, n)
	for i := range ms {
		ms[i] = s.Join(member(i))
		ms[i].SetActive(true)
	}
	return s, ms
}

// sameMembers compares without order.
func sameMembers(t rapid.TB, got, want []*Timeline) {
	t.Helper()
	count := map[*Timeline]int{}
	for _, tl := range got {
		count[tl]++
	}
	for _, tl := range want {
		count[tl]--
	}
	for tl, n := range count {
		if n != 0 {
			t.Fatalf("timeline %s: %+d times; %d members, want %d", tl.ID(), n, len(got), len(want))
		}
	}
}

func TestEdgesOfASetAreCountedOnce(t *testing.T) {
	var s Set
	m := s.Join(member(1))
	for i, step := range []struct {
		active, changed bool
		stats           SetStats
	}{
		{false, false, SetStats{}},
		{true, true, SetStats{Members: 1, Activated: 1}},
		{true, false, SetStats{Members: 1, Activated: 1}},
		{false, true, SetStats{Activated: 1, Ended: 1}},
		{false, false, SetStats{Activated: 1, Ended: 1}},
		{true, true, SetStats{Members: 1, Activated: 2, Ended: 1}},
	} {
		if changed := m.SetActive(step.active); changed != step.changed || s.Stats() != step.stats || m.Active() != step.active {
			t.Fatalf("step %d: changed %t, %+v, active %t; want changed %t, %+v", i, changed, s.Stats(), m.Active(), step.changed, step.stats)
		}
	}
}

func TestMembershipEndsForGood(t *testing.T) {
	s, ms := fill(2)
	if !ms[0].End() || ms[0].End() {
		t.Fatal("the end of an active membership is one edge")
	}
	if ms[0].SetActive(true) || ms[0].Active() {
		t.Fatal("a membership that ended put its timeline in again")
	}
	sameMembers(t, slices.Collect(s.All()), []*Timeline{ms[1].tl})
	if got, want := s.Stats(), (SetStats{Members: 1, Activated: 2, Ended: 1}); got != want {
		t.Fatalf("%+v, want %+v", got, want)
	}
}

func TestOldMembershipNeverRemovesARecreatedTimeline(t *testing.T) {
	for name, leave := range map[string]func(*Membership) bool{
		"inactive": func(m *Membership) bool { return m.SetActive(false) },
		"end":      (*Membership).End,
	} {
		t.Run(name, func(t *testing.T) {
			var s Set
			old, recreated := s.Join(member(1)), s.Join(member(1)) // the same name
			old.SetActive(true)
			recreated.SetActive(true)
			leave(old)
			sameMembers(t, slices.Collect(s.All()), []*Timeline{recreated.tl})
			if leave(old) || !recreated.Active() {
				t.Fatal("the old membership took out the new timeline")
			}
		})
	}
}

func TestIterationSeesTheMomentWhenItBegan(t *testing.T) {
	s, ms := fill(2*setChunkLen + 1)
	want := slices.Collect(s.All())
	var got []*Timeline
	i := 0
	for tl := range s.All() {
		got = append(got, tl)
		ms[i].End() // also of those that were not reached yet
		s.Join(member(-i)).SetActive(true)
		i++
	}
	sameMembers(t, got, want)
	if n := s.Stats().Members; n != len(ms) {
		t.Fatalf("%d members, want %d", n, len(ms))
	}
}

// TestSetBehavesLikeAMap changes a set at random while several iterations of it are under way.
func TestSetBehavesLikeAMap(t *testing.T) {
	type reader struct {
		next func() (*Timeline, bool)
		stop func()
		want []*Timeline
		got  []*Timeline
	}
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{3, setChunkLen + 1, 2 * setChunkLen}).Draw(t, "size")
		s, ms := fill(size)
		model := map[*Timeline]bool{}
		for _, m := range ms {
			model[m.tl] = true
		}
		members := func() (list []*Timeline) {
			for tl := range model {
				list = append(list, tl)
			}
			return list
		}
		var readers []*reader
		finish := func(i int) {
			r := readers[i]
			readers = slices.Delete(readers, i, i+1)
			for tl, ok := r.next(); ok; tl, ok = r.next() {
				r.got = append(r.got, tl)
			}
			r.stop()
			sameMembers(t, r.got, r.want)
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1, 2:
				m := ms[rapid.IntRange(0, size-1).Draw(t, "member")]
				active := rapid.Bool().Draw(t, "active")
				if changed := m.SetActive(active); changed != (model[m.tl] != active) {
					t.Fatalf("changed %t", changed)
				}
				delete(model, m.tl)
				if active {
					model[m.tl] = true
				}
			case 3:
				r := &reader{want: members()}
				r.next, r.stop = iter.Pull(s.All())
				readers = append(readers, r)
				if tl, ok := r.next(); ok {
					r.got = append(r.got, tl)
				}
			case 4:
				if len(readers) > 0 {
					finish(rapid.IntRange(0, len(readers)-1).Draw(t, "reader"))
				}
			case 5: // one that does not read to the end
				for range s.All() {
					break
				}
			}
		}
		for len(readers) > 0 {
			finish(0)
		}
		sameMembers(t, slices.Collect(s.All()), members())
	})
}

func TestSetIsChangedFromManyGoroutines(t *testing.T) {
	s, ms := fill(2 * setChunkLen)
	const writers = 4
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for round := range 20 {
				for i := w; i < len(ms); i += writers {
					ms[i].SetActive(round%2 == 1) // ends in the set
				}
			}
		})
	}
	wg.Go(func() {
		for range 50 {
			seen := map[*Timeline]bool{}
			for tl := range s.All() {
				if tl == nil || seen[tl] {
					t.Errorf("a view has %v twice, or an empty place", tl)
				}
				seen[tl] = true
			}
		}
	})
	wg.Wait()
	if got, want := s.Stats(), uint64(len(ms)*10); got.Members != len(ms) || got.Ended != want {
		t.Fatalf("%+v, want %d ended", got, want)
	}
}

func TestSetMakesNoGarbageWhileItChanges(t *testing.T) {
	s, ms := fill(10 * setChunkLen)
	n := 0
	allocs := testing.AllocsPerRun(100, func() {
		for range s.All() {
			n++
			if m := ms[(n*setChunkLen)%len(ms)]; n%setChunkLen == 0 { // while a view has each chunk
				m.SetActive(!m.Active())
			}
		}
	})
	if allocs > 0 {
		t.Fatalf("%.1f allocations for each iteration, want none", allocs)
	}
}

func TestSetForgetsWhoLeft(t *testing.T) {
	s, ms := fill(setChunkLen + 1)
	left := weak.Make(ms[setChunkLen].tl)
	for range s.All() { // so that it was in a view, and in a chunk that was replaced
		ms[setChunkLen].End()
	}
	ms[setChunkLen] = nil
	runtime.GC()
	if tl := left.Value(); tl != nil {
		t.Fatalf("the set keeps timeline %s in memory", tl.ID())
	}
	runtime.KeepAlive(s)
}

// BenchmarkSet iterates over 10,000 timelines, one of which leaves or comes back each time, and beside it, in the
// same run, over the copy of a map that a mutex guards. A ratio of 0.2 says that a member costs a fifth.
func BenchmarkSet(b *testing.B) {
	const size = 10_000
	s, ms := fill(size)
	m := lockedMap{members: map[ID]*Timeline{}}
	for _, member := range ms {
		m.set(member.tl, true)
	}
	var ofMap float64 // ns for each member
	for _, c := range []struct {
		name    string
		iterate func() int
		change  func(i int, active bool)
	}{
		{"mutex+map", func() (n int) {
			for _, tl := range m.copy() {
				if tl != nil {
					n++
				}
			}
			return n
		}, func(i int, active bool) { m.set(ms[i].tl, active) }},
		{"set", func() (n int) {
			for tl := range s.All() {
				if tl != nil {
					n++
				}
			}
			return n
		}, func(i int, active bool) { ms[i].SetActive(active) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				c.change(i%size, false)
				if c.iterate() != size-1 {
					b.Fatal("a member is missing")
				}
				c.change(i%size, true)
				i += 37
			}
			each := float64(b.Elapsed().Nanoseconds()) / float64(b.N) / size
			b.ReportMetric(each, "ns/member")
			if c.name == "set" && ofMap > 0 {
				b.ReportMetric(each/ofMap, "of-mutex+map")
				return
			}
			ofMap = each
		})
	}
}

// lockedMap is what the set replaces.
type lockedMap struct {
	mu      sync.Mutex
	members map[ID]*Timeline
}

func (m *lockedMap) set(tl *Timeline, active bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if active {
		m.members[tl.id] = tl
	} else {
		delete(m.members, tl.id)
	}
}

func (m *lockedMap) copy() []*Timeline {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]*Timeline, 0, len(m.members))
	for _, tl := range m.members {
		list = append(list, tl)
	}
	return list
}
