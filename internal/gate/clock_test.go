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
