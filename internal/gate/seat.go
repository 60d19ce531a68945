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

// seat is a place for one holder: a cache line, so that holders on two cores do
// not slow each other down.
type seat struct {
	token  atomic.Uint64 // a token; whoever made it busy may use the trace
	rounds atomic.Uint64 // how often the token has run out of numbers for its passes
	trace  Trace         // of the holder, if its token is traced
	_      [64 - 8 - 8 - unsafe.Sizeof(Trace{})]byte
}

// token says all there is to say of a seat and of its holder, so that one locked
// instruction occupies the seat and tells who does. The pass of the holder has
// the same. From the low bits up:
//
//	state, traced   2 + 1 bits
//	kind            8 bits   the holder's number in the room's list
//	since          34 bits   in units of 4.2 ms on the room's clock
//	passes         19 bits   how many were given out for this seat, modulo 2^19
//
// So a pass that was left does not fit again: that would take another of the same
// kind, 2^19 passes of the seat later, while since stands: for 4.2 ms, or for a
// tick of the room's [Clock].
type token uint64

const (
	empty token = iota // nobody has the seat
	taken              // a holder has it; this token is in its pass
	busy               // somebody reads or writes the trace, for a moment

	stateMask   token = 1<<2 - 1
	traced      token = 1 << 2
	kindShift         = 3
	kindBits          = 8
	sinceShift        = kindShift + kindBits
	sinceBits         = 34
	sinceMask   token = 1<<sinceBits - 1
	passesShift       = sinceShift + sinceBits
	onePass     token = 1 << passesShift
	passesEach        = 1 << (64 - passesShift) // of the numbers of a round

	unitShift = 22 // a unit of since is 2^22 ns; 2^34 of them are two years
	kindsMost = 1 << kindBits

	seatsOfAGate = 8 // a power of two; a running timeline's manager and its tasks take up to six
)

// place is the number of a seat, or inCrowd.
type place uint8

const inCrowd place = 1<<8 - 1

// visitor is what the token of a newcomer says of it.
func visitor(kind int, since time.Duration) token {
	return token(since>>unitShift)&sinceMask<<sinceShift | token(kind)<<kindShift | taken
}

// next is the token of the newcomer who takes a seat that was seen empty.
func (t token) next(who token) token { return (t>>passesShift+1)<<passesShift | who }

func (t token) is(state token) bool { return t&stateMask == state }

// with is the same token in another state.
func (t token) with(state token) token { return t&^stateMask | state }

// kind is the holder's number in the room's list.
func (t token) kind() int { return int(t >> kindShift & (kindsMost - 1)) }

// age is how long ago the holder came, in whole units: now, on the same clock,
// tells which of the times that the bits stand for it was.
func (t token) age(now time.Duration) time.Duration {
	return time.Duration((token(now>>unitShift)-t>>sinceShift)&sinceMask) << unitShift
}

// since is when the holder came, rounded down to 4.2 ms.
func (t token) since(now time.Duration) time.Duration {
	return now>>unitShift<<unitShift - t.age(now)
}

// passes is how many were given out in this round.
func (t token) passes() uint64 { return uint64(t >> passesShift) }

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

// swap changes a seat that is still as it was seen.
func (s *seat) swap(p pause, seen, t token) bool {
	p.memory()
	return s.token.CompareAndSwap(uint64(seen), uint64(t))
}

// take gives a seat that was seen empty to a newcomer.
func (s *seat) take(p pause, seen, t token, trace *Trace) bool {
	if trace == nil && t.passes() != 0 {
		return s.swap(p, seen, t)
	}
	return s.takeBusy(p, seen, t, trace)
}

// takeBusy is take where more is to be written than the token.
func (s *seat) takeBusy(p pause, seen, t token, trace *Trace) bool {
	if !s.swap(p, seen, seen.with(busy)) {
		return false
	}
	if t.passes() == 0 {
		p.memory()
		s.rounds.Add(1)
	}
	if trace != nil {
		s.trace = *trace
	}
	s.store(p, t)
	return true
}

// read returns the token and the trace of whoever has the seat. For a trace it
// takes the seat from its holder for a moment, so only one may read at a time:
// under the room's lock, which a holder that wants to leave just then waits for.
func (s *seat) read(p pause) (t token, trace Trace, ok bool) {
	t = s.load(p)
	if !t.is(taken) || t&traced == 0 {
		return t, Trace{}, t.is(taken)
	}
	if !s.swap(p, t, t.with(busy)) {
		return t, Trace{}, false
	}
	trace = s.trace
	s.store(p, t)
	return t, trace, true
}

// given is how many passes were given out for the seat, as of the token that was
// seen with it; not to be counted on while that is busy: it may be between two
// rounds.
func (s *seat) given(p pause) (n uint64, seen token) {
	for {
		p.memory()
		rounds := s.rounds.Load()
		seen = s.load(p)
		p.memory()
		if s.rounds.Load() == rounds {
			return rounds*passesEach + seen.passes(), seen
		}
	}
}

// firstTry is where a goroutine begins to look for a seat. Goroutines that run at
// once should not meet at one seat, and what surely differs between them, and
// costs nothing to ask, is where their stacks are.
func firstTry() uint {
	var here byte
	const golden = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio: it spreads addresses that lie in a grid
	return uint(uint64(uintptr(unsafe.Pointer(&here))>>10) * golden >> 32)
}
