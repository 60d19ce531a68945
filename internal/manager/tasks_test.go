package manager

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

func TestTasksRunAsTheStateWantsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var causes []error
		receive := func(ctx context.Context) error {
			err := streaming(ctx)
			causes = append(causes, err)
			return err
		}
		m, end := managed(t, w, bodies(Bodies{Receive: receive}), Config{})
		if s := task(t, m, Receive); !s.Status.Running || s.Decision.Why != WhySourceSet || s.Status.Generation != 1 {
			t.Fatalf("with a source: %+v", s)
		}

		w.change(func(s *timeline.Snapshot) { s.Sealing = true })
		synctest.Wait()
		if s := task(t, m, Receive); s.Status.Running || s.Decision.Why != WhySealing {
			t.Fatalf("while a seal is decided: %+v", s)
		}

		w.change(func(s *timeline.Snapshot) { s.Sealing = false })
		synctest.Wait()
		if s := task(t, m, Receive); !s.Status.Running || s.Status.Starts != 2 || s.Status.Restarts != 0 {
			t.Fatalf("after the seal: %+v", s)
		}

		w.change(func(s *timeline.Snapshot) { s.SourceGeneration++ })
		synctest.Wait()
		if s := task(t, m, Receive); !s.Status.Running || s.Status.Starts != 3 || s.Status.Generation != 2 {
			t.Fatalf("with another source: %+v", s)
		}

		mustEnd(t, end)
		var sealing, changed *StopError
		if len(causes) != 3 || !errors.As(causes[0], &sealing) || sealing.Why != WhySealing ||
			!errors.As(causes[1], &changed) || changed.Why != WhySourceChanged || !errors.Is(causes[2], errShutdown) {
			t.Fatalf("the receiver was stopped for %q", causes)
		}
	})
}

// TestTaskThatFailsForEverIsBounded lets a receiver fail at once for an hour, by
// an error or by a panic.
func TestTaskThatFailsForEverIsBounded(t *testing.T) {
	readOnly := errors.New("read-only file system")
	for name, body := range map[string]func(context.Context) error{
		"an error":       func(context.Context) error { return readOnly },
		"a panic":        func(context.Context) error { panic(readOnly) },
		"nothing at all": func(context.Context) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				m, end := managed(t, w, bodies(Bodies{Receive: body}), Config{})
				time.Sleep(time.Hour)
				synctest.Wait()
				s := task(t, m, Receive).Status
				least, most := uint64(time.Hour/retryCap), 2*uint64(time.Hour/retryCap)+20
				if s.Starts < least || s.Starts > most || s.FruitlessRuns != int(s.Starts) {
					t.Fatalf("%d starts in an hour, want %d to %d; %d fruitless", s.Starts, least, most, s.FruitlessRuns)
				}
				if failed := name != "nothing at all"; failed != errors.Is(s.LastErr, readOnly) || failed != (s.Restarts == s.Starts-1) {
					t.Fatalf("%d restarts, last error %v", s.Restarts, s.LastErr)
				}
				if n := m.Status().Iterations; n > 2*s.Starts+5 {
					t.Fatalf("%d iterations for %d starts", n, s.Starts)
				}
				t.Logf("%d starts, %d iterations", s.Starts, m.Status().Iterations)
				mustEnd(t, end)
			})
		})
	}
}

// TestTaskThatSaysDoneForEverIsBounded: the body claims progress each time, and
// there is as much to do as before.
func TestTaskThatSaysDoneForEverIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m, end := managed(t, w, bodies(nil), Config{Removable: func(timeline.Snapshot) int64 { return 1 << 24 }})
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := task(t, m, Remove).Status; s.Starts < 500 || s.Starts > uint64(time.Minute/firstRetry)+1 {
			t.Fatalf("%d starts in a minute", s.Starts)
		}
		mustEnd(t, end)
	})
}

func TestReceiverIsBackWithinSecondsOfTheEndOfAFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var refused atomic.Bool
		refused.Store(true)
		m, end := managed(t, w, bodies(Bodies{Receive: func(ctx context.Context) error {
			if refused.Load() {
				return errors.New("connection refused")
			}
			return streaming(ctx)
		}}), Config{})
		time.Sleep(time.Hour)
		refused.Store(false)
		time.Sleep(retryCap)
		synctest.Wait()
		if s := task(t, m, Receive).Status; !s.Progressed || s.FruitlessRuns != 0 {
			t.Fatalf("%v after the end of the fault: %+v", retryCap, s)
		}
		mustEnd(t, end)
	})
}

// TestEndOfATaskIsNoticedAtOnce: a session that achieved something and returned
// goes on at once; one that panicked after a first pause.
func TestEndOfATaskIsNoticedAtOnce(t *testing.T) {
	for _, c := range []struct {
		name   string
		finish func() error
		want   Action // in the moment of the end
	}{
		{"returned", func() error { return nil }, Run},
		{"panicked", func() error { panic("index out of range") }, Waiting},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				over := make(chan struct{})
				m, end := managed(t, w, bodies(Bodies{Receive: func(ctx context.Context) error {
					tasks.Progress(ctx)
					select {
					case <-over:
						return c.finish()
					case <-ctx.Done():
						return context.Cause(ctx)
					}
				}}), Config{})
				settle()
				over <- struct{}{}
				synctest.Wait()
				if d := task(t, m, Receive).Decision; d.Action != c.want {
					t.Fatalf("in the moment of the end: %+v", d)
				}
				time.Sleep(firstRetry)
				synctest.Wait()
				if s := task(t, m, Receive).Status; !s.Running || s.Starts != 2 {
					t.Fatalf("%v after the end: %+v", firstRetry, s)
				}
				mustEnd(t, end)
			})
		})
	}
}

// TestFailedRemovalHasItsOwnTime has nothing else that could wake the manager.
func TestFailedRemovalHasItsOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.state.HasSource = false
		left := int64(1 << 24)
		runs := 0
		_, end := managed(t, w, bodies(Bodies{Remove: func(ctx context.Context) error {
			if runs++; runs < 5 {
				return errors.New("permission denied")
			}
			tasks.Progress(ctx)
			left = 0
			return nil
		}}), Config{Removable: func(timeline.Snapshot) int64 { return left }})
		time.Sleep(time.Minute)
		synctest.Wait()
		if runs != 5 {
			t.Fatalf("%d runs; work that failed waits for an unrelated event", runs)
		}
		mustEnd(t, end)
	})
}

// TestWorkThatWaitsAtAStartIsTakenUp: nothing happens but the start.
func TestWorkThatWaitsAtAStartIsTakenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.state.HasSource = false
		removed := false
		_, end := managed(t, w, bodies(Bodies{Remove: func(ctx context.Context) error {
			tasks.Progress(ctx)
			removed = true
			return nil
		}}), Config{Removable: func(timeline.Snapshot) int64 {
			if removed {
				return 0
			}
			return 1 << 24
		}})
		if !removed {
			t.Fatal("what was to do before the start was not done")
		}
		mustEnd(t, end)
	})
}

func TestActivityChangesAreRealEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var told told[ActiveChange]
		connect := make(chan struct{})
		lost := make(chan struct{})
		m, end := managed(t, w, bodies(Bodies{Receive: func(ctx context.Context) error {
			<-connect
			tasks.Progress(ctx)
			select {
			case <-lost:
				return errors.New("connection lost")
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}}), Config{Events: Events{ActiveChanged: told.add}})
		settle()
		if edges := told.all(); len(edges) != 0 {
			t.Fatalf("before the source was connected: %v", edges)
		}
		connect <- struct{}{}
		settle()
		if s := m.Status(); !s.Active || s.ActiveWhy != WhyReceiving {
			t.Fatalf("connected: %+v", s)
		}
		lost <- struct{}{}
		settle()
		connect <- struct{}{}
		settle()
		mustEnd(t, end)
		want := []ActiveChange{
			{true, WhyReceiving}, {false, WhyNotConnected}, {true, WhyReceiving}, {false, WhyShuttingDown},
		}
		if edges := told.all(); !slices.Equal(edges, want) {
			t.Fatalf("edges %v, want %v", edges, want)
		}
		if s := m.Status(); s.Active || task(t, m, Receive).Decision.Why != WhyShuttingDown {
			t.Fatalf("after the end: %+v", s)
		}
	})
}
