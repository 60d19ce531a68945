package timeline

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"testing"
	"time"
)

// watcher is a manager without tasks: it looks, says what is worth waking for,
// and waits. What it saw last must be what there is when everybody else is done.
type watcher struct {
	wake     *Wake
	saw      uint64
	reasons  WakeReasons
	wakeUps  int
	arm      func(m *Mark, threshold uint64) // how it arms; the model's own bugs sit here
	ringing  func(w *Wake, r WakeReason)     // how others ring
	sets     func(m *Mark, v uint64)         // how others set
	expected WakeReasons
}

func newWatcher() *watcher {
	return &watcher{
		wake: NewWake(),
		arm:  func(m *Mark, threshold uint64) { m.Arm(threshold, ReasonWALResumed) },
		ringing: func(w *Wake, r WakeReason) {
			w.Ring(r)
		},
		sets: func(m *Mark, v uint64) { m.Set(v) },
	}
}

func (w *watcher) watch() {
	for {
		w.wake.yield(stepMemory)
		w.saw = w.wake.Flush.Value()
		w.arm(&w.wake.Flush, w.saw+1)
		reasons, err := w.wake.Wait(context.Background(), time.Time{})
		if err != nil {
			return
		}
		w.reasons |= reasons
		w.wakeUps++
	}
}

// verify fails if something was left that the watcher does not know.
func (w *watcher) verify() error {
	switch {
	case w.saw != w.wake.Flush.Value():
		return fmt.Errorf("sleeps having seen %d of %d", w.saw, w.wake.Flush.Value())
	case w.wake.Take() != 0:
		return errors.New("sleeps with a reason pending")
	case w.reasons&w.expected != w.expected:
		return fmt.Errorf("woke for %v, not for %v", w.reasons, w.expected)
	}
	return nil
}

// setsOnce has one writer that moves the mark once.
func setsOnce(change func(*watcher)) func() model {
	return func() model {
		w := newWatcher()
		change(w)
		set := func() { w.sets(&w.wake.Flush, 1) }
		return model{wake: w.wake, threads: []func(){w.watch, set}, verify: w.verify}
	}
}

// setsTwice has one writer that moves the mark twice.
func setsTwice(change func(*watcher)) func() model {
	return func() model {
		w := newWatcher()
		change(w)
		set := func() { w.sets(&w.wake.Flush, 1); w.sets(&w.wake.Flush, 2) }
		return model{wake: w.wake, threads: []func(){w.watch, set}, verify: w.verify}
	}
}

// setsAndRings has a writer of the mark and one of an event.
func setsAndRings(change func(*watcher)) func() model {
	return func() model {
		w := newWatcher()
		w.expected = ReasonRequest.set()
		change(w)
		set := func() { w.sets(&w.wake.Flush, 1) }
		ring := func() { w.ringing(w.wake, ReasonRequest) }
		return model{wake: w.wake, threads: []func(){w.watch, set, ring}, verify: w.verify}
	}
}

// interruptions bounds the larger cases. All orders of them are
// 351,448 and 7,702,969 (57 s):
//
//	go test ./internal/timeline -run TestNoNewsIsLost -wake.interruptions=1000 -v
var interruptions = flag.Int("wake.interruptions", 4, "how often a goroutine is interrupted in the larger models of Wake")

func TestNoNewsIsLost(t *testing.T) {
	for _, c := range []struct {
		name          string
		build         func(func(*watcher)) func() model
		interruptions int
	}{
		{"a mark set once", setsOnce, math.MaxInt},
		{"a mark set twice", setsTwice, *interruptions},
		{"a mark and an event", setsAndRings, *interruptions},
	} {
		t.Run(c.name, func(t *testing.T) {
			schedules, err := explore(c.build(func(*watcher) {}), c.interruptions)
			if err != nil {
				t.Fatalf("order %d: the manager %v", schedules, err)
			}
			t.Logf("%d orders", schedules)
		})
	}
}

// TestModelFindsSeededBugs shows that the model could find what it looks for:
// each of the orders that Dekker's argument forbids loses news.
func TestModelFindsSeededBugs(t *testing.T) {
	for name, build := range map[string]func() model{
		"the manager looks before it arms": setsTwice(func(w *watcher) {
			w.arm = func(m *Mark, threshold uint64) {
				v := m.Value()
				w.wake.yield(stepMemory)
				m.threshold.Store(threshold)
				if v >= threshold {
					w.wake.Ring(ReasonWALResumed)
				}
			}
		}),
		"the manager does not look again": setsTwice(func(w *watcher) {
			w.arm = func(m *Mark, threshold uint64) {
				w.wake.yield(stepMemory)
				m.threshold.Store(threshold)
			}
		}),
		"the writer looks before it stores": setsTwice(func(w *watcher) {
			w.sets = func(m *Mark, v uint64) {
				w.wake.yield(stepMemory)
				threshold := m.threshold.Load()
				w.wake.yield(stepMemory)
				m.value.Store(v)
				if v >= threshold && m.disarm(threshold) {
					w.wake.Ring(ReasonWALResumed)
				}
			}
		}),
		"the bell comes before the reason": setsAndRings(func(w *watcher) {
			w.ringing = func(wake *Wake, r WakeReason) {
				wake.yield(stepMemory)
				select {
				case wake.bell <- struct{}{}:
				default:
				}
				wake.yield(stepMemory)
				wake.pending.Or(uint32(r.set()))
			}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			schedules, err := explore(build, *interruptions)
			if err == nil {
				t.Fatalf("not found in %d orders", schedules)
			}
			t.Logf("order %d: the manager %v", schedules, err)
		})
	}
}
