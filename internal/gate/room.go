package gate

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// room is where the holders of a gate are.
type room struct {
	clock   *Clock
	seats   []seat
	kinds   atomic.Pointer[[]Holder] // of holders that have come so far; it only grows, under mu
	closing atomic.Bool              // newcomers are refused; set under mu, once
	pause   pause
	counts  *Counts // nil: nobody counts

	begun chan struct{} // closed with closing
	ended chan struct{} // closed once the gate closes and nobody is inside; under mu

	mu           sync.Mutex // held for a few instructions, never over a callback or a wait
	crowd        crowd      // guarded by mu; those who found no seat
	closingSince time.Time  // guarded by mu; zero while newcomers are let in
	nextReport   time.Time  // guarded by mu; when a waiting Close names the holders again

	last    uint64        // guarded by mu; entries let in, once the close is complete
	refused atomic.Uint64 // entries refused so far
	misused atomic.Uint64 // misuses reported so far
}

// otherHolder is what those are called who come after so many kinds that there is
// no number for theirs.
const otherHolder Holder = "other"

// noKinds is the list of a room to which nobody has come.
var noKinds []Holder

func newRoom(hooks *Hooks, seats int) *room {
	r := &room{
		clock: hooks.Clock, seats: make([]seat, seats), pause: hooks.pause,
		begun: make(chan struct{}), ended: make(chan struct{}),
	}
	r.kinds.Store(&noKinds)
	if r.clock == nil {
		r.clock = exactClock()
	}
	return r
}

func (r *room) isClosing() bool {
	r.pause.memory()
	return r.closing.Load()
}

func (r *room) isClosed() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// lock locks mu.
func (r *room) lock() {
	r.pause.lock(&r.mu)
	r.mu.Lock()
}

// admit gives a newcomer the first free seat, or a place in the crowd; false: the
// gate closes. It begins to look at the seat first; no trace is nil.
func (r *room) admit(first uint, h Holder, trace *Trace) (place, token, bool) {
	if r.isClosing() {
		return 0, 0, false
	}
	who := visitor(r.kind(h), r.clock.since())
	if trace != nil {
		who |= traced
	}
	seats := r.seats
	for i := range uint(len(seats)) {
		n := (first + i) & uint(len(seats)-1)
		s := &seats[n]
		seen := s.peek()
		if !seen.is(empty) {
			continue
		}
		t := seen.next(who)
		if !s.take(r.pause, seen, t, trace) {
			continue
		}
		// Only now, with the seat taken, it tells anything that the gate does not close yet.
		if r.isClosing() && !r.admitLate(s, seen) {
			return 0, 0, false
		}
		return place(n), t, true
	}
	return r.stand(who, trace)
}

// admitLate decides on a newcomer that found the gate open, and took a seat while
// a close began. Whoever looks at the seats from now on sees it there, so it was
// faster; unless the close is complete already.
func (r *room) admitLate(s *seat, seen token) bool {
	r.lock()
	defer r.mu.Unlock()
	if r.isClosed() {
		s.store(r.pause, seen)
		return false
	}
	return true
}

// kind is the number of a kind of holder in the room's list.
func (r *room) kind(h Holder) int {
	for i, known := range *r.kinds.Load() {
		if known == h {
			return i
		}
	}
	return r.newKind(h)
}

func (r *room) newKind(h Holder) int {
	r.lock()
	defer r.mu.Unlock()
	known := *r.kinds.Load()
	if len(known) >= kindsMost-1 {
		h = otherHolder
	}
	if i := slices.Index(known, h); i >= 0 { // somebody else was faster, or others are there
		return i
	}
	more := append(slices.Clip(known), h)
	r.kinds.Store(&more)
	return len(known)
}

// holder is the kind that a token tells.
func (r *room) holder(t token) Holder { return (*r.kinds.Load())[t.kind()] }

// stand puts a newcomer into the crowd.
func (r *room) stand(who token, trace *Trace) (place, token, bool) {
	r.lock()
	defer r.mu.Unlock()
	if r.isClosing() {
		return 0, 0, false
	}
	return inCrowd, r.crowd.take(who, trace), true
}

// dismiss ends a stay and, if anybody wants to know, tells its trace; whoever
// leaves last ends the close. False: that pass was left before.
func (r *room) dismiss(where place, t token, trace *Trace) bool {
	if where == inCrowd {
		return r.leaveCrowd(t, trace)
	}
	s := &r.seats[where]
	if trace == nil || t&traced == 0 {
		if !s.swap(r.pause, t, t.with(empty)) && !r.swapUnread(s, t, t.with(empty)) {
			return false
		}
	} else {
		if !s.swap(r.pause, t, t.with(busy)) && !r.swapUnread(s, t, t.with(busy)) {
			return false
		}
		*trace = s.trace
		s.store(r.pause, t.with(empty))
	}
	if r.isClosing() {
		r.settle()
	}
	return true
}

// swapUnread is swap for a seat that somebody may be reading.
func (r *room) swapUnread(s *seat, seen, t token) bool {
	r.lock()
	defer r.mu.Unlock()
	return s.swap(r.pause, seen, t)
}

func (r *room) leaveCrowd(t token, trace *Trace) bool {
	r.lock()
	defer r.mu.Unlock()
	was, ok := r.crowd.free(t)
	if trace != nil {
		*trace = was
	}
	if ok && r.isClosing() {
		r.settleLocked()
	}
	return ok
}

// holds reports whether that pass was not left yet.
func (r *room) holds(where place, t token) bool {
	r.lock() // nobody reads the seat then, which hides its holder
	defer r.mu.Unlock()
	if where == inCrowd {
		_, ok := r.crowd.traces[t]
		return ok
	}
	return r.seats[where].load(r.pause) == t
}

// settle ends the close if nobody is inside.
func (r *room) settle() {
	if r.isClosed() {
		return // what comes now is refused, and may come often
	}
	r.lock()
	defer r.mu.Unlock()
	r.settleLocked()
}

func (r *room) settleLocked() {
	if len(r.crowd.traces) > 0 || r.isClosed() {
		return
	}
	entered, none := r.enteredIfEmpty()
	if !none {
		return
	}
	r.last = entered
	close(r.ended)
	if r.counts != nil {
		r.counts.end(r, entered)
	}
}

// enteredIfEmpty counts all entries once the seats are empty. They stay so when
// the gate closes: a newcomer that found it open may take a seat after the look
// at it, but gives it back, and was not counted.
func (r *room) enteredIfEmpty() (uint64, bool) {
	all := r.crowd.given
	for i := range r.seats {
		n, seen := r.seats[i].given(r.pause)
		if !seen.is(empty) {
			return 0, false
		}
		all += n
	}
	return all, true
}

// recordsLocked copies the records of all who are inside.
func (r *room) recordsLocked() []record {
	if r.isClosed() {
		return nil // who has a seat now is about to be refused
	}
	list := make([]record, 0, len(r.seats)+len(r.crowd.traces))
	add := func(t token, trace Trace) {
		since := t.since(r.clock.since()) // asked later than the holder did
		list = append(list, record{holder: r.holder(t), since: since, trace: trace})
	}
	for i := range r.seats {
		if t, trace, ok := r.seats[i].read(r.pause); ok {
			add(t, trace)
		}
	}
	for t, trace := range r.crowd.traces {
		add(t, trace)
	}
	return list
}
