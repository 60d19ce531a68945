package gate

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestClockIsNeverFarBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClock()
		for i := range 1000 {
			now := time.Since(c.base)
			if told := c.since(); told > now+2 || told < now-tick {
				t.Fatalf("asked for the %d. time after %v, it says %v", i, now, told)
			}
			// Now and then for longer than it goes on by itself.
			time.Sleep(time.Duration(i%7) * 5 * time.Millisecond)
		}
	})
}

func TestClockStandsStillWhenNobodyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClock()
		c.since()
		if c.now.Load() == 0 {
			t.Fatal("it stands still, and somebody has asked")
		}
		time.Sleep(2 * tick)
		synctest.Wait()
		if c.now.Load() != 0 || c.timer.Stop() {
			t.Fatal("it goes on, and nobody asks")
		}
	})
}

func TestHoldersOfAGateWithAClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		g := New(Config{Hooks: &Hooks{Clock: NewClock()}})
		for _, holder := range []Holder{"first", "second", "third"} {
			mustEnter(t, g, holder)
			time.Sleep(time.Minute)
		}
		for i, h := range g.Holders() {
			entered := began.Add(time.Duration(i) * time.Minute)
			if behind := entered.Sub(h.Since); behind < -time.Nanosecond || behind > tick {
				t.Errorf("%s entered %v, and is said to have %v", h.Name, entered, h.Since)
			}
		}
	})
}

// TestClockNeverGoesBack: two may find it standing still, and the slower of them
// must not be told a time that the clock only reaches at its next tick. Whoever
// had entered then would be said to be inside for as long as a token's time takes
// to come round: two years.
func TestClockNeverGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const unit = time.Duration(1) << unitShift
		c := NewClock()
		c.wind() // the faster
		time.Sleep(unit + time.Microsecond)
		entered := c.wind() // the slower: it had seen the clock stand still
		now := c.since()
		if entered > now {
			t.Errorf("told %v, and %v after that", entered, now)
		}
		if age := token(0).next(visitor(0, entered)).age(now); age > tick {
			t.Errorf("who has just come is said to be inside for %v", age)
		}
		time.Sleep(2 * tick) // it stands still again
	})
}
