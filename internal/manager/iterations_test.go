package manager

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/timeline"
)

// settle lets a manager come to rest: a last look after the last save.
func settle() {
	time.Sleep(2 * defaultSaveAfter)
	synctest.Wait()
}

func TestIdleTimelineMakesNoIterations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m, end := managed(t, w, bodies(nil), Config{})
		settle()
		before := m.Status().Iterations
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := m.Status().Iterations - before; n != 0 {
			t.Fatalf("%d iterations in 10 idle minutes", n)
		}
		mustEnd(t, end)
	})
}

func TestIdleTimelineWithoutSourceMakesNoIterations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.state = timeline.Snapshot{State: timeline.StateRunning}
		m, end := managed(t, w, bodies(nil), Config{})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := m.Status().Iterations; n != 1 {
			t.Fatalf("%d iterations, want the first alone", n)
		}
		mustEnd(t, end)
	})
}

// TestWALAtFullSpeedIteratesOncePerSegment publishes a million positions; the
// manager gets the processor whenever it wants it.
func TestWALAtFullSpeedIteratesOncePerSegment(t *testing.T) {
	const updates, step = 1_000_000, 8 << 10
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m, end := managed(t, w, bodies(nil), Config{})
		settle()
		before := m.Status()
		segments := uint64(0)
		at := pg.DefaultSegmentSize.StartOf(start0)
		for i := range updates {
			at += step
			w.flush(at)
			if pg.DefaultSegmentSize.Offset(at) == 0 {
				segments++
				synctest.Wait()
			}
			if i == 0 {
				synctest.Wait() // its save, later, would be the first segment's as well, which then had nothing to do
			}
		}
		after := m.Status()
		// One more: the first byte after the rest.
		if n := after.Iterations - before.Iterations; n < segments || n > segments+1 {
			t.Fatalf("%d iterations for %d updates that completed %d segments", n, updates, segments)
		}
		if n := after.Noops - before.Noops; n != 0 {
			t.Fatalf("%d of them did nothing", n)
		}
		if n := m.Iterations(timeline.ReasonSegmentComplete, true); n < segments-1 {
			t.Fatalf("%d iterations for complete segments, want %d", n, segments)
		}
		mustEnd(t, end)
	})
}

func TestWALThatTricklesIteratesOncePerSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m, end := managed(t, w, bodies(nil), Config{})
		settle()
		before, saves := m.Status(), w.saved()
		at := start0
		for range 600 { // for a minute
			at += 100
			w.flush(at)
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		iterations, saved := m.Status().Iterations-before.Iterations, uint64(w.saved()-saves)
		if saved < 12 || saved > 13 || iterations != saved {
			t.Fatalf("%d iterations and %d saves in a minute", iterations, saved)
		}
		mustEnd(t, end)
	})
}

func TestUpdateThatChangesNothingWakesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m, end := managed(t, w, bodies(nil), Config{})
		settle()
		before := m.Status().Iterations
		for range 1000 {
			w.flush(start0)
			synctest.Wait()
		}
		if n := m.Status().Iterations - before; n != 0 {
			t.Fatalf("%d iterations for updates that changed nothing", n)
		}
		mustEnd(t, end)
	})
}

// TestOwnSaveWakesNobody: a byte after a rest costs the iteration that saves it,
// and one later that sees that there is nothing more.
func TestOwnSaveWakesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m, end := managed(t, w, bodies(nil), Config{})
		settle()
		before, saves := m.Status(), w.saved()
		w.flush(start0 + 1)
		settle()
		after := m.Status()
		if n := after.Iterations - before.Iterations; n != 2 || after.Noops-before.Noops != 1 || w.saved()-saves != 1 {
			t.Fatalf("%d iterations, %d of them noops, %d saves for one byte",
				n, after.Noops-before.Noops, w.saved()-saves)
		}
		mustEnd(t, end)
	})
}

// TestWhatIsNoLongerAwaitedWakesNobody: the first byte after a rest was awaited;
// an iteration for something else has saved it.
func TestWhatIsNoLongerAwaitedWakesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m, end := managed(t, w, bodies(nil), Config{})
		settle()
		saves := w.saved()
		w.change(func(s *timeline.Snapshot) { s.FlushLSN++ })
		synctest.Wait()
		before := m.Status().Iterations
		w.flush(start0 + 2)
		synctest.Wait()
		if n := m.Status().Iterations - before; n != 0 || w.saved() != saves+1 {
			t.Fatalf("%d iterations and %d saves", n, w.saved()-saves)
		}
		mustEnd(t, end)
	})
}

// TestChangeBetweenLookingAndWaitingIsNotLost changes the state after the
// manager has looked and before it has planned.
func TestChangeBetweenLookingAndWaitingIsNotLost(t *testing.T) {
	for name, change := range map[string]func(*world){
		"an event": func(w *world) { w.change(func(s *timeline.Snapshot) { s.Sealing = true }) },
		"a segment": func(w *world) {
			w.flush(0x2000000)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				looks := 0
				w.looked = func() {
					if looks++; looks == 1 {
						change(w)
					}
				}
				m, end := managed(t, w, bodies(nil), Config{})
				synctest.Wait()
				switch name {
				case "an event":
					if d := task(t, m, Receive).Decision; d.Why != WhySealing {
						t.Fatalf("the manager sleeps and receives: %+v", d)
					}
				case "a segment":
					if w.saved() != 1 {
						t.Fatal("the manager sleeps, and the segment is not saved")
					}
				}
				mustEnd(t, end)
			})
		})
	}
}

// TestNewTLIMayBeginLower: the child's LSNs lie below what was awaited on its
// parent, and below what the parent had.
func TestNewTLIMayBeginLower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.flush(0x5000100)
		m, end := managed(t, w, bodies(nil), Config{})
		settle()
		before := m.Status().Iterations
		w.change(func(s *timeline.Snapshot) { s.TLI, s.FlushLSN, s.CommitLSN = 2, 0x1800000, 0x1800000 })
		synctest.Wait()
		if n := m.Status().Iterations - before; n != 1 || w.state.ControlSaved.TLI != 2 {
			t.Fatalf("%d iterations for a new TLI, saved %v", n, w.state.ControlSaved)
		}
		w.flush(0x2000000)
		synctest.Wait()
		if n := m.Status().Iterations - before; n != 2 || w.state.ControlSaved.LSN != 0x2000000 {
			t.Fatalf("%d iterations for the first segment of the new TLI, saved %v", n, w.state.ControlSaved)
		}
		mustEnd(t, end)
	})
}

func TestEachIterationIsAccountedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		type key struct{}
		var planned []Planned
		var iterated []Iteration
		w.saving = func(context.Context) error { time.Sleep(time.Second); return nil } // a slow disk
		m, end := managed(t, w, bodies(nil), Config{Events: Events{
			Planned: func(ctx context.Context, p Planned) context.Context {
				planned = append(planned, p)
				return context.WithValue(ctx, key{}, len(planned))
			},
			Iterated: func(ctx context.Context, i Iteration) {
				if ctx.Value(key{}) != len(planned) {
					t.Errorf("iteration %d ended in the context of another", len(planned))
				}
				iterated = append(iterated, i)
			},
		}})
		settle()
		planned, iterated = nil, nil
		before := m.Iterations(timeline.ReasonWALResumed, true)
		w.flush(start0 + 1)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(planned) != 1 || len(iterated) != 1 {
			t.Fatalf("%d plans, %d iterations", len(planned), len(iterated))
		}
		i := iterated[0]
		if i.Reasons.String() != "wal_resumed" || !i.Acted || i.Duration != time.Second || i.Apply != time.Second {
			t.Fatalf("iteration %+v", i)
		}
		if p := planned[0]; !p.Plan.Save || p.Reasons != i.Reasons {
			t.Fatalf("plan %+v", p)
		}
		if m.Iterations(timeline.ReasonWALResumed, true) != before+1 || m.Status().LastReasons != i.Reasons {
			t.Fatalf("not counted: %+v", m.Status())
		}
		mustEnd(t, end)
	})
}
