package timeline

import (
	"iter"
	"sync"
)

// Set is a set of timelines that is iterated without a lock while it changes: the active ones, which the broker
// tells the peers about once a second. The zero value is an empty set. All methods may be called at once, from any
// goroutine.
//
// A timeline is put in and taken out through a [Membership] alone, which its manager holds. A membership knows its
// own place and nothing of names: one of a timeline that was deleted cannot take out the timeline that was created
// under the same name since.
//
// The members stand densely in chunks. A view of the set is a copy of the list of chunks; whoever changes a chunk
// that a view has, changes a copy. A chunk that no view has any more is used for the next copy, so that a set that
// is iterated and changed for ever makes no garbage.
type Set struct {
	mu      sync.Mutex    // never held over a callback: for a few instructions, and to copy one chunk or the list
	chunks  []*setChunk   // guarded by mu
	members []*Membership // guarded by mu; by place, as the chunks have their timelines
	spare   []*setChunk   // guarded by mu; in no view, and not in chunks
	views   []*setView    // guarded by mu; not in use
	stats   SetStats      // guarded by mu
}

// setChunkLen is the size of a chunk: 4 KiB is copied for the first change after a view.
const setChunkLen = 512

// setChunk is a part of the set. Its members are written under the set's mu while no view has it, and never again
// until the last view has let go of it.
type setChunk struct {
	timelines [setChunkLen]*Timeline
	views     int  // guarded by the set's mu; how many have it
	replaced  bool // guarded by the set's mu; the set has another in its place
}

// setView is the set as it was at one moment.
type setView struct {
	chunks []*setChunk
	len    int
}

// SetStats counts a set's members, and real edges: what was active already does not become active.
type SetStats struct {
	Members   int
	Activated uint64 // timelines that were put in
	Ended     uint64 // and out
}

// Stats returns what was counted so far.
func (s *Set) Stats() SetStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Membership is the right of a timeline's manager to put it into a set and out of it. Make one with [Set.Join].
type Membership struct {
	set   *Set
	tl    *Timeline
	place int  // guarded by the set's mu; -1 while the timeline is not in the set
	ended bool // guarded by the set's mu
}

// Join returns a membership for a timeline, which is not in the set yet.
func (s *Set) Join(tl *Timeline) *Membership {
	return &Membership{set: s, tl: tl, place: -1}
}

// SetActive puts the timeline into the set or takes it out, and reports whether that was a change. After [End]
// nothing puts it in any more.
func (m *Membership) SetActive(active bool) (changed bool) {
	m.set.mu.Lock()
	defer m.set.mu.Unlock()
	switch {
	case active == (m.place >= 0), active && m.ended:
		return false
	case active:
		m.set.addLocked(m)
	default:
		m.set.removeLocked(m)
	}
	return true
}

// End takes the timeline out for good, and reports whether it was in. Ending twice does nothing.
func (m *Membership) End() (changed bool) {
	m.set.mu.Lock()
	defer m.set.mu.Unlock()
	m.ended = true
	if m.place < 0 {
		return false
	}
	m.set.removeLocked(m)
	return true
}

// Active reports whether the timeline is in the set.
func (m *Membership) Active() bool {
	m.set.mu.Lock()
	defer m.set.mu.Unlock()
	return m.place >= 0
}

func (s *Set) addLocked(m *Membership) {
	m.place = len(s.members)
	s.members = append(s.members, m)
	if m.place/setChunkLen == len(s.chunks) {
		s.chunks = append(s.chunks, s.freshLocked())
	}
	s.putLocked(m.place, m.tl)
	s.stats.Members++
	s.stats.Activated++
}

// removeLocked fills m's place with the last member.
func (s *Set) removeLocked(m *Membership) {
	last := len(s.members) - 1
	if moved := s.members[last]; moved != m {
		s.members[m.place], moved.place = moved, m.place
		s.putLocked(m.place, moved.tl)
	}
	s.members[last] = nil
	s.members = s.members[:last]
	s.putLocked(last, nil) // or a timeline that is gone would be kept in memory
	if last%setChunkLen == 0 {
		s.dropLastLocked()
	}
	m.place = -1
	s.stats.Members--
	s.stats.Ended++
}

// putLocked writes a place, in a copy of its chunk if a view has that.
func (s *Set) putLocked(place int, tl *Timeline) {
	at := &s.chunks[place/setChunkLen]
	if old := *at; old.views > 0 {
		fresh := s.freshLocked()
		fresh.timelines = old.timelines
		*at, old.replaced = fresh, true
	}
	(*at).timelines[place%setChunkLen] = tl
}

// dropLastLocked takes out the last chunk, which putLocked has emptied: no view has it.
func (s *Set) dropLastLocked() {
	last := len(s.chunks) - 1
	s.keepSpareLocked(s.chunks[last])
	s.chunks[last] = nil
	s.chunks = s.chunks[:last]
}

// freshLocked returns an empty chunk that nobody has.
func (s *Set) freshLocked() *setChunk {
	last := len(s.spare) - 1
	if last < 0 {
		return &setChunk{}
	}
	c := s.spare[last]
	s.spare[last] = nil
	s.spare = s.spare[:last]
	return c
}

// keepSpareLocked keeps a chunk for the next copy. It is emptied, so that it keeps no timeline in memory; and there
// are never more than the set has chunks.
func (s *Set) keepSpareLocked(c *setChunk) {
	if len(s.spare) > len(s.chunks) {
		return
	}
	*c = setChunk{}
	s.spare = append(s.spare, c)
}

// All iterates over the timelines that are in the set at the moment when the iteration begins, in no order. The set
// may change meanwhile, through the loop's body too. A timeline that is iterated over may have begun to shut down:
// its gate tells. The timelines of one iteration are kept in memory until it ends.
func (s *Set) All() iter.Seq[*Timeline] {
	return func(yield func(*Timeline) bool) { s.each(yield) }
}

func (s *Set) each(yield func(*Timeline) bool) {
	v := s.view()
	defer s.release(v)
	left := v.len
	for _, c := range v.chunks {
		for _, tl := range c.timelines[:min(left, setChunkLen)] {
			if !yield(tl) {
				return
			}
		}
		left -= setChunkLen
	}
}

func (s *Set) view() *setView {
	s.mu.Lock()
	defer s.mu.Unlock()
	var v *setView
	if last := len(s.views) - 1; last >= 0 {
		v, s.views = s.views[last], s.views[:last]
	} else {
		v = &setView{}
	}
	v.chunks, v.len = append(v.chunks, s.chunks...), len(s.members)
	for _, c := range v.chunks {
		c.views++
	}
	return v
}

// maxIdleViews is how many lists are kept for the next iterations.
const maxIdleViews = 4

func (s *Set) release(v *setView) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range v.chunks {
		c.views--
		if c.views == 0 && c.replaced {
			s.keepSpareLocked(c)
		}
	}
	clear(v.chunks)
	v.chunks, v.len = v.chunks[:0], 0
	if len(s.views) < maxIdleViews {
		s.views = append(s.views, v)
	}
}
