package gate

import (
	"math"
	"sync/atomic"
	"time"
)

// tick is how far a [Clock] may be behind.
const tick = 10 * time.Millisecond

// Clock tells the time as it was at most 10 ms ago (more only where the process
// gets no CPU), for a fraction of what asking the system costs: most of an entry.
// A timer moves it on for as long as somebody asks; when nobody does it stands
// still and costs nothing. Many gates share one. Make one with [NewClock].
type Clock struct {
	base  time.Time
	timer *time.Timer // runs while now is not 0; nil: the clock tells the exact time
	// now is how long ago base was at the last tick, in nanoseconds, and odd once
	// somebody has asked for it; 0: the clock stands still.
	now atomic.Int64
}

const asked = 1

// NewClock makes a clock that stands still.
func NewClock() *Clock {
	c := exactClock()
	c.timer = time.AfterFunc(math.MaxInt64, c.tick)
	c.timer.Stop()
	return c
}

// exactClock makes a clock for a gate without.
func exactClock() *Clock { return &Clock{base: time.Now()} }

// since is how long ago base was.
func (c *Clock) since() time.Duration {
	if now := c.now.Load(); now&asked != 0 {
		return time.Duration(now)
	}
	return c.ask()
}

// at is the time that since has told.
func (c *Clock) at(since time.Duration) time.Time { return c.base.Add(since &^ asked) }

// ask is since for the first who asks after a tick.
func (c *Clock) ask() time.Duration {
	if c.timer == nil {
		return time.Since(c.base)
	}
	now := c.now.Load()
	if now == 0 {
		return c.wind()
	}
	c.now.CompareAndSwap(now, now|asked) // if it fails, somebody else has done it, or it goes on anyway
	return time.Duration(now)
}

// wind starts a clock that stands still. Of two who do so at once the slower has
// read a later time, which must not be told: whoever asks next would be told an
// earlier one, and would take a holder's age for years ([token.age]).
func (c *Clock) wind() time.Duration {
	now := time.Since(c.base) | asked
	if !c.now.CompareAndSwap(0, int64(now)) {
		return c.since()
	}
	c.timer.Reset(tick)
	return now
}

// tick moves the clock on, or stops it if nobody has asked.
func (c *Clock) tick() {
	if now := c.now.Load(); now&asked == 0 && c.now.CompareAndSwap(now, 0) {
		return
	}
	c.now.Store(max(2, int64(time.Since(c.base))&^asked))
	c.timer.Reset(tick)
}
