package gate

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// record is what is known of one holder.
type record struct {
	holder Holder
	since  time.Duration // on the room's clock
	trace  Trace
}

// seat is a place for one holder, and its record: a cache line, so that holders
// on two cores do not slow each other down.
type seat struct {
	token  atomic.Uint64 // a token; whoever made it busy may use the record
	record record
	_      [8]byte
}

// token is what a seat and the pass of its holder have in common: from the low
// bits up, the seat's state, its number, and how many passes were given out for
// it. So no two passes have the same token, and one that was left never fits
// again.
type token uint64

const (
	empty token = iota // nobody has the seat
	taken              // a holder has it; this token is in its pass
	busy               // somebody reads or writes the record, for a moment

	stateMask    = 1<<2 - 1
	numberShift  = 2
	numberMask   = 1<<6 - 1
	passesShift  = 8
	inCrowd      = numberMask // the number of those who have no seat
	onePass      = token(1) << passesShift
	seatsOfAGate = 8 // a power of two; a running timeline's manager and its tasks take up to six
)

func (t token) is(state token) bool { return t&stateMask == state }

// with is the same token in another state.
func (t token) with(state token) token { return t&^stateMask | state }

// number is that of the seat, or inCrowd.
func (t token) number() int { return int(t >> numberShift & numberMask) }

// passes is how many were given out.
func (t token) passes() uint64 { return uint64(t >> passesShift) }

func newSeats(n int) []seat {
	seats := make([]seat, n)
	for i := range seats {
		seats[i].token.Store(uint64(i) << numberShift)
	}
	return seats
}

// peek is load where what is seen is proved before it counts.
func (s *seat) peek() token { return token(s.token.Load()) }

func (s *seat) load(p pause) token {
	p.memory()
	return token(s.token.Load())
}

func (s *seat) store(p pause, t token) {
	p.memory()
	s.token.Store(uint64(t))
}

// swap changes the state of a seat that is still as it was seen.
func (s *seat) swap(p pause, seen, state token) bool {
	p.memory()
	return s.token.CompareAndSwap(uint64(seen), uint64(seen.with(state)))
}

// read copies the record of whoever has the seat. It takes the seat from its
// holder for a moment, so only one may read at a time: under the room's lock,
// which a holder that wants to leave just then waits for.
func (s *seat) read(p pause) (record, bool) {
	t := s.load(p)
	if !t.is(taken) || !s.swap(p, t, busy) {
		return record{}, false
	}
	copied := s.record
	s.store(p, t)
	return copied, true
}

// firstTry is where a goroutine begins to look for a seat. Goroutines that run at
// once should not meet at one seat, and what surely differs between them, and
// costs nothing to ask, is where their stacks are.
func firstTry() uint {
	var here byte
	const golden = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio: it spreads addresses that lie in a grid
	return uint(uint64(uintptr(unsafe.Pointer(&here))>>10) * golden >> 32)
}
