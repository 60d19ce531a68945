package timeline

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// Wake is what the manager of a timeline waits on: the only thing that whoever
// changes the state has to tell, and a thing that nobody can tell too often.
//
// There are two kinds of news. An event ([Wake.Ring]) is worth waking for by
// itself: the source was changed, a task ended. A quantity ([Mark]) changes a
// hundred thousand times a second, and is worth waking for once it crosses the
// threshold at which the manager's decision could be another. Both leave a
// reason and ring one bell; reasons that nobody has taken yet coalesce.
//
// No news is lost. A writer first changes the state and then looks whether the
// manager wants to know (loads the threshold, sets a reason); the manager first
// says what it wants to know (takes the reasons, stores the threshold) and then
// looks at the state. Go's atomics are sequentially consistent, so of the two
// stores one is first, and whoever stores second sees it: Dekker's argument.
// TestNoNewsIsLost runs this code through all interleavings of a small case.
//
// Any goroutine may ring and set; one goroutine, the manager's, takes, waits and
// arms.
type Wake struct {
	// Flush watches the flush LSN, Commit the commit LSN, each of the newest TLI.
	Flush, Commit Mark

	pending atomic.Uint32 // the reasons not yet taken, as a WakeReasons
	bell    chan struct{} // has room for one; rung after a reason was left
	counts  [numReasons][numResults]atomic.Uint64

	// pause is nil but in the model test, which decides at each step on shared
	// memory who goes next.
	pause func(step)
}

// step names the points where another goroutine may come in between.
type step string

const (
	stepMemory step = "memory" // before an atomic operation
	stepBell   step = "bell"   // before waiting for the bell
)

// NewWake makes a Wake that nobody has rung, with no threshold armed.
func NewWake() *Wake {
	w := &Wake{bell: make(chan struct{}, 1)}
	w.Flush.init(w, ReasonWALResumed)
	w.Commit.init(w, ReasonSegmentComplete)
	return w
}

// Ring leaves a reason for the manager's next iteration and wakes it. It never
// blocks.
func (w *Wake) Ring(r WakeReason) {
	w.yield(stepMemory)
	if old := WakeReasons(w.pending.Or(uint32(r.set()))); old.Has(r) {
		w.count(r, Coalesced)
		return
	}
	w.yield(stepMemory)
	select {
	case w.bell <- struct{}{}:
		w.count(r, Woke)
	default:
		w.count(r, Coalesced)
	}
}

// Take takes the reasons that are pending.
func (w *Wake) Take() WakeReasons {
	w.yield(stepMemory)
	return WakeReasons(w.pending.Swap(0))
}

// Wait returns the reasons for the next iteration as soon as there are any; at
// the given time, unless it is zero, that is [ReasonTimer]. It fails with the
// cause of ctx when that ends first.
func (w *Wake) Wait(ctx context.Context, at time.Time) (WakeReasons, error) {
	var timer <-chan time.Time
	if !at.IsZero() {
		timer = time.After(time.Until(at))
	}
	for {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		// A bell without a reason is the echo of one that was taken already.
		if reasons := w.Take(); reasons != 0 {
			return reasons, nil
		}
		w.yield(stepBell)
		select {
		case <-w.bell:
		case <-timer:
			return ReasonTimer.set() | w.Take(), nil
		case <-ctx.Done():
		}
	}
}

func (w *Wake) yield(s step) {
	if w.pause != nil {
		w.pause(s)
	}
}

func (w *Wake) count(r WakeReason, res WakeResult) { w.counts[r][res].Add(1) }

// Count tells how often news of that kind came to that result.
func (w *Wake) Count(r WakeReason, res WakeResult) uint64 { return w.counts[r][res].Load() }

// disarmed is the threshold that no value reaches.
const disarmed = math.MaxUint64

// Mark watches a quantity that the timeline keeps elsewhere: it knows only the
// threshold from which on the manager wants to hear of it. It holds no value of
// its own that could be out of date; an LSN may begin lower on a new TLI.
type Mark struct {
	wake      *Wake
	threshold atomic.Uint64 // disarmed, or the least value worth waking for
	reason    atomic.Uint32 // what reaching the threshold means
}

func (m *Mark) init(w *Wake, r WakeReason) {
	m.wake = w
	m.threshold.Store(disarmed)
	m.reason.Store(uint32(r))
}

// Set tells that the quantity has a new value, once whoever reads the timeline's
// state finds it there. It wakes the manager if the value reaches the threshold,
// takes no lock and never blocks.
func (m *Mark) Set(v uint64) { m.set(v, nil) }

// SetFor is Set, of a value that moved for another reason than the threshold's.
func (m *Mark) SetFor(v uint64, r WakeReason) { m.set(v, &r) }

func (m *Mark) set(v uint64, moved *WakeReason) {
	for {
		m.wake.yield(stepMemory)
		threshold := m.threshold.Load()
		reason := WakeReason(m.reason.Load())
		if moved != nil {
			reason = *moved
		}
		if v < threshold || threshold == disarmed {
			m.wake.count(reason, Irrelevant)
			return
		}
		if m.disarm(threshold) {
			m.wake.Ring(reason)
			return
		}
	}
}

// disarm takes an armed threshold away. Of all who see it reached, one succeeds.
func (m *Mark) disarm(threshold uint64) bool {
	m.wake.yield(stepMemory)
	return m.threshold.CompareAndSwap(threshold, disarmed)
}

// Arm asks to be woken, for that reason, once the value reaches the threshold; at
// once if it has done so already, as now tells, which reads the quantity from the
// timeline's state. It replaces what was armed before.
func (m *Mark) Arm(threshold uint64, r WakeReason, now func() uint64) {
	m.reason.Store(uint32(r))
	m.wake.yield(stepMemory)
	m.threshold.Store(threshold)
	m.wake.yield(stepMemory)
	if now() >= threshold && m.disarm(threshold) {
		m.wake.Ring(r)
	}
}

// Disarm asks not to be woken by this mark.
func (m *Mark) Disarm() { m.threshold.Store(disarmed) }
