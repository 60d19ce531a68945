package gate

import (
	"sync"
	"sync/atomic"
	"time"
)

// room is where the holders of a gate are.
type room struct {
	clock   *Clock
	seats   []seat
	closing atomic.Bool // newcomers are refused; set under mu, once
	pause   pause
	counts  *Counts // nil: nobody counts

	begun chan struct{} // closed with closing
	ended chan struct{} // closed once the gate closes and nobody is inside; under mu

	mu           sync.Mutex // held for a few instructions, never over a callback or a wait
	crowd        crowd      // guarded by mu; those who found no seat
	closingSince time.Time  // guarded by mu; zero while newcomers are let in
	nextReport   time.Time  // guarded by mu; when a waiting Close names the holders again

	refused atomic.Uint64 // entries refused so far
	misused atomic.Uint64 // misuses reported so far
}

func newRoom(hooks *Hooks, seats int) *room {
	r := &room{
		clock: hooks.Clock, seats: newSeats(seats), pause: hooks.pause,
		begun: make(chan struct{}), ended: make(chan struct{}),
	}
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
func (r *room) admit(first uint, h Holder, now time.Duration, trace *Trace) (token, bool) {
	seats := r.seats
	for i := range uint(len(seats)) {
		s := &seats[(first+i)&uint(len(seats)-1)]
		seen := s.peek()
		if !seen.is(empty) || !s.swap(r.pause, seen, busy) {
			continue
		}
		// Only now, with the seat occupied, it tells anything that the gate does not close yet.
		if r.isClosing() {
			s.store(r.pause, seen)
			r.settle()
			return 0, false
		}
		s.record.holder, s.record.since = h, now
		if trace != nil {
			s.record.trace = *trace
		}
		t := (seen + onePass).with(taken)
		s.store(r.pause, t)
		return t, true
	}
	return r.stand(h, now, trace)
}

// stand puts a newcomer into the crowd.
func (r *room) stand(h Holder, now time.Duration, trace *Trace) (token, bool) {
	r.lock()
	defer r.mu.Unlock()
	if r.isClosing() {
		return 0, false
	}
	rec := record{holder: h, since: now}
	if trace != nil {
		rec.trace = *trace
	}
	return r.crowd.take(rec), true
}

// dismiss ends a stay and, if anybody wants to know, returns its record; whoever
// leaves last ends the close. False: that pass was left before.
func (r *room) dismiss(t token, stay *record) bool {
	if t.number() == inCrowd {
		return r.leaveCrowd(t, stay)
	}
	s := &r.seats[t.number()]
	if stay == nil {
		if !s.swap(r.pause, t, empty) && !r.swapUnread(s, t, empty) {
			return false
		}
	} else {
		if !s.swap(r.pause, t, busy) && !r.swapUnread(s, t, busy) {
			return false
		}
		*stay = s.record
		s.store(r.pause, t.with(empty))
	}
	if r.isClosing() {
		r.settle()
	}
	return true
}

// swapUnread is swap for a seat that somebody may be reading.
func (r *room) swapUnread(s *seat, seen, state token) bool {
	r.lock()
	defer r.mu.Unlock()
	return s.swap(r.pause, seen, state)
}

func (r *room) leaveCrowd(t token, stay *record) bool {
	r.lock()
	defer r.mu.Unlock()
	rec, ok := r.crowd.free(t)
	if stay != nil {
		*stay = rec
	}
	if ok && r.isClosing() {
		r.settleLocked()
	}
	return ok
}

// holds reports whether that pass was not left yet.
func (r *room) holds(t token) bool {
	r.lock() // nobody reads the seat then, which hides its holder
	defer r.mu.Unlock()
	if t.number() == inCrowd {
		_, ok := r.crowd.records[t]
		return ok
	}
	return r.seats[t.number()].load(r.pause) == t
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
	if len(r.crowd.records) == 0 && r.seatsAreEmpty() && !r.isClosed() {
		close(r.ended)
		if r.counts != nil {
			r.counts.end(r, r.enteredLocked())
		}
	}
}

// seatsAreEmpty stays so once the gate closes: a newcomer may make a seat busy
// after that, but gives it back.
func (r *room) seatsAreEmpty() bool {
	for i := range r.seats {
		if !r.seats[i].load(r.pause).is(empty) {
			return false
		}
	}
	return true
}

// recordsLocked copies the records of all who are inside.
func (r *room) recordsLocked() []record {
	list := make([]record, 0, len(r.seats)+len(r.crowd.records))
	for i := range r.seats {
		if one, ok := r.seats[i].read(r.pause); ok {
			list = append(list, one)
		}
	}
	for _, one := range r.crowd.records {
		list = append(list, one)
	}
	return list
}
