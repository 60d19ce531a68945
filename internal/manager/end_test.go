package manager

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/timeline"
)

// TestCancelInEachPhaseEnds cancels the timeline while the manager is in the
// middle of something; it ends at once, and no goroutine is left, which the
// bubble checks.
func TestCancelInEachPhaseEnds(t *testing.T) {
	for name, arrange := range map[string]func(w *world, cfg *Config, cancel func()){
		"wait": func(_ *world, _ *Config, cancel func()) {
			time.AfterFunc(time.Minute, cancel)
		},
		"snapshot": func(w *world, _ *Config, cancel func()) { w.looked = cancel },
		"plan": func(_ *world, cfg *Config, cancel func()) {
			cfg.Events.Planned = func(ctx context.Context, _ Planned) context.Context { cancel(); return ctx }
		},
		"save": func(w *world, _ *Config, cancel func()) {
			w.state.ControlSaved.LSN--
			w.state.ControlSavedAt = time.Time{}
			w.saving = func(context.Context) error { cancel(); return nil }
		},
		"failing save": func(w *world, _ *Config, cancel func()) {
			w.state.ControlSaved.LSN--
			w.state.ControlSavedAt = time.Time{}
			tries := 0
			w.saving = func(context.Context) error {
				if tries++; tries > 1 {
					return nil
				}
				cancel()
				return errors.New("no space left on device")
			}
		},
		"recover": func(_ *world, cfg *Config, cancel func()) {
			cfg.Events.Planned = func(context.Context, Planned) context.Context { panic("a bug") }
			cfg.Events.Panicked = func(context.Context, Panic) { cancel() }
		},
		"end of an iteration": func(_ *world, cfg *Config, cancel func()) {
			cfg.Events.Iterated = func(context.Context, Iteration) { cancel() }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				cfg := Config{Seed: 1}
				ctx, cancel := context.WithCancel(t.Context())
				var cancelled time.Time
				arrange(w, &cfg, func() { cancelled = time.Now(); cancel() })
				m := New(w, bodies(nil), cfg)
				if err := m.Run(ctx); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(cancelled); took != 0 {
					t.Fatalf("it took %v to end", took)
				}
				if err := w.door.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestManagerEndsAfterItsTasksAndSavesLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m, end := managed(t, w, bodies(Bodies{Receive: func(ctx context.Context) error {
			err := streaming(ctx)
			time.Sleep(time.Second) // says goodbye, with one more sync
			w.flush(start0 + 1)
			return err
		}}), Config{})
		settle()
		saves := w.saved()
		began := time.Now()
		time.AfterFunc(500*time.Millisecond, func() {
			if phase, since := m.Phase(); phase != PhaseEnding || !since.Equal(began) {
				t.Errorf("phase %v since %v while a task says goodbye", phase, since)
			}
			if h := w.door.Holders(); len(h) != 2 || h[0].Name != Holder || h[1].Name != gate.Holder(Receive) {
				t.Errorf("holders %v while a task says goodbye", h)
			}
		})
		mustEnd(t, end)
		if took := time.Since(began); took != time.Second {
			t.Fatalf("ended after %v, the last task after 1s", took)
		}
		if w.saved() != saves+1 || unsaved(&w.state) {
			t.Fatalf("%d saves at the end, saved up to %v", w.saved()-saves, w.state.ControlSaved)
		}
	})
}

func TestLastSaveThatFailsIsTheManagersError(t *testing.T) {
	full := errors.New("no space left on device")
	for name, fail := range map[string]func(){"an error": func() {}, "a panic": func() { panic(full) }} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				_, end := managed(t, w, bodies(nil), Config{})
				w.saving = func(context.Context) error { fail(); return full }
				w.flush(start0 + 1)
				if err := end(); !errors.Is(err, full) {
					t.Fatalf("ended with %v", err)
				}
			})
		})
	}
}

func TestManagerOfAClosedTimelineDoesNotRun(t *testing.T) {
	w := newWorld()
	if err := w.door.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := New(w, bodies(nil), Config{}).Run(t.Context()); !errors.Is(err, gate.ErrClosed) {
		t.Fatalf("ran with %v", err)
	}
}

func TestManagerWantsABodyForEachTask(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("a manager without a body for removal was made")
		}
	}()
	New(newWorld(), Bodies{Receive: streaming, Settings: streaming}, Config{})
}

// TestPanicInAnIterationIsSurvived panics while looking: a few times, then no
// more; and for an hour.
func TestPanicInAnIterationIsSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var bug atomic.Bool
		bug.Store(true)
		var told told[Panic]
		w.looked = func() {
			if bug.Load() {
				panic("nil map")
			}
		}
		m, end := managed(t, w, bodies(nil), Config{Events: Events{Panicked: told.add}})
		if phase, _ := m.Phase(); phase != PhaseRecover {
			t.Fatalf("phase %v after a panic", phase)
		}
		for range 1000 {
			w.wake.Ring(timeline.ReasonRequest) // must not make it spin
			synctest.Wait()
		}
		if n := m.Status().Panics; n != 1 {
			t.Fatalf("%d panics in no time", n)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		n := m.Status().Panics
		if n > 2*uint64(time.Hour/retryCap)+20 {
			t.Fatalf("%d panics in an hour", n)
		}
		bug.Store(false)
		time.Sleep(retryCap)
		synctest.Wait()
		s := m.Status()
		if s.Phase != PhaseWait || !task(t, m, Receive).Status.Running || m.Iterations(timeline.ReasonRecovered, true) != 1 {
			t.Fatalf("after the bug was gone: %+v", s)
		}
		bug.Store(true)
		w.wake.Ring(timeline.ReasonRequest)
		synctest.Wait()
		bug.Store(false)
		mustEnd(t, end)
		reported := told.all()
		if len(reported) != int(n)+1 || reported[n-1].InARow != int(n) {
			t.Fatalf("%d panics reported, before the last %+v", len(reported), reported[n-1])
		}
		if last := reported[n]; last.InARow != 1 || last.Pause > firstRetry {
			t.Fatalf("the first panic after good iterations: %+v", last)
		}
	})
}

func TestSaveIsTriedAgainInItsOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var full atomic.Bool
		full.Store(true)
		var told told[SaveFailure]
		w.saving = func(context.Context) error {
			if full.Load() {
				return errors.New("no space left on device")
			}
			return nil
		}
		_, end := managed(t, w, bodies(nil), Config{Events: Events{SaveFailed: told.add}})
		w.flush(start0 + 1)
		time.Sleep(defaultSaveAfter + time.Second) // it was saved when the test began
		synctest.Wait()
		if n := len(told.all()); n < 3 {
			t.Fatalf("%d tries in the first second", n)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		most := 2*int(time.Hour/retryCap) + 20
		failures := told.all()
		if n := len(failures); n < most/3 || n > most || failures[n-1].InARow != n {
			t.Fatalf("%d failures in an hour, %+v", n, failures[n-1])
		}
		full.Store(false)
		time.Sleep(retryCap)
		synctest.Wait()
		if w.saved() != 1 {
			t.Fatalf("%d saves after there was room again", w.saved())
		}
		mustEnd(t, end)
	})
}

func TestWaitForASlowDiskIsAPhaseWithAnAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		slow := make(chan struct{})
		w.saving = func(context.Context) error { <-slow; return nil }
		m, end := managed(t, w, bodies(nil), Config{})
		settle()
		began := time.Now()
		w.flush(start0 + 1)
		time.Sleep(3 * time.Minute)
		if phase, since := m.Phase(); phase != PhaseSave || !since.Equal(began) {
			t.Fatalf("phase %v since %v, want save since %v", phase, since, began)
		}
		if s := m.Status(); s.SaveWhy != WhyInterval || s.LastReasons.String() != "wal_resumed" {
			t.Fatalf("what it hangs in cannot be seen: %+v", s)
		}
		close(slow)
		synctest.Wait()
		if phase, _ := m.Phase(); phase != PhaseWait {
			t.Fatalf("phase %v when the disk is back", phase)
		}
		mustEnd(t, end)
	})
}

func TestPhasesAreListedAndNamed(t *testing.T) {
	names := map[string]bool{}
	for _, p := range Phases() {
		names[p.String()] = true
	}
	if len(names) != numPhases || names[""] {
		t.Fatalf("phases %v", names)
	}
}

// TestWaitForADrainEndsWithTheManager: there is no iteration after the end that could tell whoever waits for one.
func TestWaitForADrainEndsWithTheManager(t *testing.T) {
	for name, wait := range map[string]func(*testing.T, *world, chan<- error){
		"that runs": func(t *testing.T, w *world, waited chan<- error) {
			m, end := managed(t, w, bodies(nil), Config{})
			go func() { waited <- m.WaitDrained(t.Context()) }()
			settle()
			mustEnd(t, end)
		},
		"that comes too late": func(t *testing.T, w *world, waited chan<- error) {
			m := New(w, bodies(nil), Config{})
			go func() { waited <- m.WaitDrained(t.Context()) }()
			synctest.Wait()
			if err := w.door.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := m.Run(t.Context()); !errors.Is(err, gate.ErrClosed) {
				t.Errorf("ran with %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				waited := make(chan error, 1)
				wait(t, newWorld(), waited)
				if err := <-waited; !errors.Is(err, gate.ErrClosed) {
					t.Errorf("the wait ended with %v", err)
				}
			})
		})
	}
}

func TestWaitForADrainEndsWithThePlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m, end := managed(t, w, bodies(nil), Config{})
		waited := make(chan error, 1)
		go func() { waited <- m.WaitDrained(t.Context()) }()
		settle()
		if len(waited) != 0 {
			t.Error("it receives, and is drained")
		}
		w.change(func(s *timeline.Snapshot) { s.Draining = true })
		if err := <-waited; err != nil {
			t.Error(err)
		}
		mustEnd(t, end)
	})
}
