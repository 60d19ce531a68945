package timeline

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// nothing is a quantity that has not begun.
func nothing() uint64 { return 0 }

// wait waits for reasons without a timer.
func wait(t *testing.T, w *Wake) WakeReasons {
	t.Helper()
	reasons, err := w.Wait(t.Context(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return reasons
}

func TestRingBeforeWaitIsHeard(t *testing.T) {
	w := NewWake()
	w.Ring(ReasonRequest)
	if got := wait(t, w); got != ReasonRequest.set() {
		t.Fatalf("woke for %v", got)
	}
}

func TestReasonsThatNobodyHeardCoalesce(t *testing.T) {
	w := NewWake()
	w.Ring(ReasonTaskEnded)
	w.Ring(ReasonRequest)
	w.Ring(ReasonTaskEnded)
	got := wait(t, w)
	if got.String() != "request,task_ended" || got.First() != ReasonRequest {
		t.Fatalf("woke for %v, first %v", got, got.First())
	}
	for _, c := range []struct {
		reason WakeReason
		result WakeResult
		want   uint64
	}{
		{ReasonTaskEnded, Woke, 1}, {ReasonTaskEnded, Coalesced, 1},
		{ReasonRequest, Woke, 0}, {ReasonRequest, Coalesced, 1},
	} {
		if n := w.Count(c.reason, c.result); n != c.want {
			t.Errorf("%v %v: %d, want %d", c.reason, c.result, n, c.want)
		}
	}
}

// TestEchoOfTheBellIsNoWakeUp takes the reason but leaves the bell rung, as a
// manager does that looks while somebody rings.
func TestEchoOfTheBellIsNoWakeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWake()
		w.Ring(ReasonRequest)
		if got := w.Take(); !got.Has(ReasonRequest) {
			t.Fatalf("took %v", got)
		}
		got, err := w.Wait(t.Context(), time.Now().Add(time.Minute))
		if err != nil || got != ReasonTimer.set() {
			t.Fatalf("woke for %v, %v", got, err)
		}
	})
}

func TestMarkWakesOnceItsThresholdIsReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWake()
		woken := make(chan WakeReasons)
		w.Commit.Arm(100, ReasonSegmentComplete, nothing)
		go func() { woken <- wait(t, w) }()
		for v := range uint64(100) {
			w.Commit.Set(v)
		}
		synctest.Wait()
		select {
		case r := <-woken:
			t.Fatalf("woke below the threshold for %v", r)
		default:
		}
		w.Commit.Set(100)
		if r := <-woken; r != ReasonSegmentComplete.set() {
			t.Fatalf("woke for %v", r)
		}
		w.Commit.Set(101) // nobody has asked since
		if n := w.Count(ReasonSegmentComplete, Irrelevant); n != 101 || w.Take() != 0 {
			t.Fatalf("%d values were irrelevant", n)
		}
	})
}

func TestArmingBelowTheValueWakesAtOnce(t *testing.T) {
	w := NewWake()
	w.Flush.Arm(7, ReasonWALResumed, func() uint64 { return 7 })
	if got := wait(t, w); got != ReasonWALResumed.set() {
		t.Fatalf("woke for %v", got)
	}
}

func TestDisarmedMarkWakesNobody(t *testing.T) {
	w := NewWake()
	w.Flush.Arm(7, ReasonWALResumed, nothing)
	w.Flush.Disarm()
	w.Flush.Set(8)
	if got := w.Take(); got != 0 {
		t.Fatalf("woke for %v", got)
	}
}

func TestMarkMayBeginLowerOnANewTLI(t *testing.T) {
	w := NewWake()
	w.Flush.Set(1000)
	w.Flush.Arm(600, ReasonSegmentComplete, func() uint64 { return 500 })
	if w.Flush.Set(599); w.Take() != 0 {
		t.Fatal("woke by what an older TLI had reached")
	}
	if w.Flush.Set(600); !w.Take().Has(ReasonSegmentComplete) {
		t.Fatal("not woken on the new TLI")
	}
}

func TestWaitEndsWithTheCauseOfItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWake()
		cause := errors.New("deleted")
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error)
		go func() {
			_, err := w.Wait(ctx, time.Now().Add(time.Hour))
			result <- err
		}()
		synctest.Wait()
		cancel(cause)
		if err := <-result; !errors.Is(err, cause) {
			t.Fatal(err)
		}
		w.Ring(ReasonRequest)
		if _, err := w.Wait(ctx, time.Time{}); !errors.Is(err, cause) {
			t.Fatalf("news came before the cancellation: %v", err)
		}
	})
}

func TestReasonsAreListedAndNamed(t *testing.T) {
	names := map[string]bool{}
	for _, r := range Reasons() {
		names[r.String()] = true
	}
	if len(names) != numReasons || names[""] {
		t.Fatalf("names %v", names)
	}
	s := WakeReasons(0).With(ReasonTimer).With(ReasonStarted)
	if got := s.All(); !reflect.DeepEqual(got, []WakeReason{ReasonStarted, ReasonTimer}) {
		t.Fatalf("set %v", got)
	}
	if got := len(WakeResults()); got != numResults {
		t.Fatalf("%d results", got)
	}
}

// TestManyWritersAreAllHeard is the model's claim with real goroutines, for the
// race detector: the manager sees the last value, whoever is fast.
func TestManyWritersAreAllHeard(t *testing.T) {
	const last = 10000
	w := NewWake()
	var state atomic.Uint64
	var writers sync.WaitGroup
	writers.Go(func() {
		for v := range uint64(last) {
			state.Store(v + 1)
			w.Flush.Set(v + 1)
		}
	})
	for range 4 {
		writers.Go(func() {
			for range last / 10 {
				w.Ring(ReasonTaskEnded)
			}
		})
	}
	for state.Load() < last {
		w.Flush.Arm(state.Load()+1, ReasonWALResumed, state.Load)
		wait(t, w)
	}
	writers.Wait()
}

// BenchmarkPublish is what a writer pays for a value that crosses nothing, for
// one that wakes, and for an event that was told already.
func BenchmarkPublish(b *testing.B) {
	b.Run("irrelevant", func(b *testing.B) {
		w := NewWake()
		w.Flush.Arm(1<<62, ReasonSegmentComplete, nothing)
		for v := uint64(0); b.Loop(); v++ {
			w.Flush.Set(v)
		}
	})
	b.Run("crossing", func(b *testing.B) {
		w := NewWake()
		for v := uint64(1); b.Loop(); v++ {
			w.Flush.Arm(v, ReasonSegmentComplete, nothing)
			w.Flush.Set(v)
			w.Take()
		}
	})
	b.Run("event told already", func(b *testing.B) {
		w := NewWake()
		for b.Loop() {
			w.Ring(ReasonPeerUpdate)
		}
	})
	b.Run("bell", func(b *testing.B) { // what tells every change costs
		bell := make(chan struct{}, 1)
		for b.Loop() {
			select {
			case bell <- struct{}{}:
			default:
			}
			<-bell
		}
	})
}
