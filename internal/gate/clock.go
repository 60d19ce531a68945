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
	timer *time.Timer // runs while now is not 0
	// now is how long ago base was at the last tick, in nanoseconds, and odd once
	// somebody has asked for it; 0: the clock stands still.
	now atomic.Int64
}

const asked = 1

// exactClock stands for none.
var exactClock = new(Clock)

// NewClock makes a clock that stands still.
func NewClock() *Clock {
	c := &Clock{base: time.Now()}
	c.timer = time.AfterFunc(math.MaxInt64, c.tick)
	c.timer.Stop()
	return c
}

// start is the time that since counts from.
func (c *Clock) start() time.Time {
	if c == exactClock {
		return time.Now()
	}
	return c.base
}

// since is how long ago base was, which start has returned.
func (c *Clock) since(base time.Time) time.Duration {
	now := time.Duration(c.now.Load())
	if now&asked == 0 {
		now = c.ask(base)
	}
	return now
}

// ask is since for the first who asks after a tick.
func (c *Clock) ask(base time.Time) time.Duration {
	if c == exactClock {
		return time.Since(base)
	}
	now := c.now.Load()
	if now == 0 {
		return c.wind()
	}
	c.now.CompareAndSwap(now, now|asked) // if it fails, somebody else has done it, or it goes on anyway
	return time.Duration(now)
}

// wind starts a clock that stands still.
func (c *Clock) wind() time.Duration {
	now := time.Since(c.base) | asked
	if c.now.CompareAndSwap(0, int64(now)) {
		c.timer.Reset(tick)
	}
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
