package timeline

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/explore"
)

// watcher is a manager without tasks: it looks at the state, says what is worth
// waking for, and waits. What it saw last must be what there is when everybody
// else is done.
type watcher struct {
	order    *explore.Order
	ctx      context.Context // ends the watcher, when nobody can wake it any more
	stop     context.CancelFunc
	wake     *Wake
	writers  int    // who still has news to bring
	state    uint64 // the quantity; a step before each use makes it shared memory
	saw      uint64
	reasons  WakeReasons
	expected WakeReasons

	// What follows is the real code, or a bug that a test seeds instead.
	arm  func(w *watcher, threshold uint64)
	set  func(w *watcher, v uint64)
	ring func(w *Wake, r WakeReason)
}

func newWatcher(o *explore.Order, change func(*watcher)) *watcher {
	w := &watcher{
		order: o,
		wake:  NewWake(),
		arm:   func(w *watcher, threshold uint64) { w.wake.Flush.Arm(threshold, ReasonWALResumed, w.look) },
		set: func(w *watcher, v uint64) {
			w.store(v)
			w.wake.Flush.Set(v)
		},
		ring: (*Wake).Ring,
	}
	w.ctx, w.stop = context.WithCancel(context.Background())
	w.wake.pause = w.pause
	change(w)
	o.Go("watcher", w.watch)
	return w
}

// brings adds a goroutine that has news.
func (w *watcher) brings(name string, news func()) {
	w.writers++
	w.order.Go(name, func() { news(); w.writers-- })
}

func (w *watcher) look() uint64 {
	w.wake.yield(stepMemory)
	return w.state
}

func (w *watcher) store(v uint64) {
	w.wake.yield(stepMemory)
	w.state = v
}

func (w *watcher) watch() {
	for {
		w.saw = w.look()
		w.arm(w, w.saw+1)
		reasons, err := w.wake.Wait(w.ctx, time.Time{})
		if err != nil {
			return
		}
		w.reasons |= reasons
	}
}

// pause makes each step of the real code one of the order. The watcher is let go
// when it would sleep for ever: all news is out, and the bell did not ring.
func (w *watcher) pause(s step) {
	if s != stepBell {
		w.order.Step(nil)
		return
	}
	w.order.Step(func() bool { return len(w.wake.bell) > 0 || w.writers == 0 })
	if len(w.wake.bell) == 0 {
		w.stop()
	}
}

// verify fails if something was left that the watcher does not know.
func (w *watcher) verify() error {
	switch {
	case w.saw != w.state:
		return fmt.Errorf("sleeps having seen %d of %d", w.saw, w.state)
	case w.wake.Take() != 0:
		return errors.New("sleeps with a reason pending")
	case w.reasons&w.expected != w.expected:
		return fmt.Errorf("woke for %v, not for %v", w.reasons, w.expected)
	}
	return nil
}

type build = func(*explore.Order) (judge func() error)

// setsOnce has one writer that moves the mark once.
func setsOnce(change func(*watcher)) build {
	return func(o *explore.Order) func() error {
		w := newWatcher(o, change)
		w.brings("writer", func() { w.set(w, 1) })
		return w.verify
	}
}

// setsTwice has one writer that moves the mark twice.
func setsTwice(change func(*watcher)) build {
	return func(o *explore.Order) func() error {
		w := newWatcher(o, change)
		w.brings("writer", func() { w.set(w, 1); w.set(w, 2) })
		return w.verify
	}
}

// setsAndRings has a writer of the mark and one of an event.
func setsAndRings(change func(*watcher)) build {
	return func(o *explore.Order) func() error {
		w := newWatcher(o, change)
		w.expected = ReasonRequest.set()
		w.brings("writer", func() { w.set(w, 1) })
		w.brings("ringer", func() { w.ring(w.wake, ReasonRequest) })
		return w.verify
	}
}

// interruptions bounds the larger cases. All their orders, 2,101,716 and
// 29,351,950, take eight minutes:
//
//	go test ./internal/timeline -run TestNoNewsIsLost -wake.interruptions=1000 -v
var interruptions = flag.Int("wake.interruptions", 3, "how often a goroutine is interrupted in the larger models of Wake")

func TestNoNewsIsLost(t *testing.T) {
	for _, c := range []struct {
		name          string
		build         func(func(*watcher)) build
		interruptions int
	}{
		{"a mark set once", setsOnce, explore.All},
		{"a mark set twice", setsTwice, *interruptions},
		{"a mark and an event", setsAndRings, *interruptions},
	} {
		t.Run(c.name, func(t *testing.T) {
			orders, err := explore.Orders(c.interruptions, c.build(func(*watcher) {}))
			if err != nil {
				t.Fatalf("order %d: the manager %v", orders, err)
			}
			t.Logf("%d orders", orders)
		})
	}
}

// TestModelFindsSeededBugs shows that the model could find what it looks for:
// each of the orders that Dekker's argument forbids loses news.
func TestModelFindsSeededBugs(t *testing.T) {
	for name, build := range map[string]build{
		"the manager looks before it arms": setsTwice(func(w *watcher) {
			w.arm = func(w *watcher, threshold uint64) {
				v := w.look()
				w.wake.yield(stepMemory)
				w.wake.Flush.threshold.Store(threshold)
				if v >= threshold {
					w.wake.Ring(ReasonWALResumed)
				}
			}
		}),
		"the manager does not look again": setsTwice(func(w *watcher) {
			w.arm = func(w *watcher, threshold uint64) {
				w.wake.yield(stepMemory)
				w.wake.Flush.threshold.Store(threshold)
			}
		}),
		"the writer tells before it changes the state": setsTwice(func(w *watcher) {
			w.set = func(w *watcher, v uint64) {
				w.wake.Flush.Set(v)
				w.store(v)
			}
		}),
		"the bell comes before the reason": setsAndRings(func(w *watcher) {
			w.ring = func(wake *Wake, r WakeReason) {
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
			orders, err := explore.Orders(*interruptions, build)
			if err == nil {
				t.Fatalf("not found in %d orders", orders)
			}
			t.Logf("order %d: the manager %v", orders, err)
		})
	}
}
