package tasks

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/gate"
)

func TestFruitlessRunsAreCountedInARow(t *testing.T) {
	for _, c := range []struct {
		name       string
		before     int
		outcome    Outcome
		progressed bool
		want       int
	}{
		{"fails at once", 0, Failed, false, 1},
		{"fails at once, again", 6, Failed, false, 7},
		{"panics at once", 2, Panicked, false, 3},
		{"returns at once, with nothing done", 1, Done, false, 2},
		{"fails after progress: a new row", 6, Failed, true, 1},
		{"done after progress", 6, Done, true, 0},
		{"stopped", 6, Cancelled, false, 0},
		{"stopped after progress", 6, Cancelled, true, 0},
	} {
		if got := fruitless(c.before, c.outcome, c.progressed); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestProgressEndsARowOfFailuresWhileTheTaskRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []Name
		g := New(gate.New(gate.Config{}), Config{Progressed: func(n Name) { told = append(told, n) }})
		refused := errors.New("connection refused")
		for range 3 {
			mustGo(t.Context(), t, g, "receive", func(context.Context) error { return refused })
			synctest.Wait()
		}
		if s := only(t, g); s.FruitlessRuns != 3 || s.Restarts != 2 || !errors.Is(s.LastErr, refused) {
			t.Fatalf("after three failures: %+v", s)
		}
		ctx, cancel := context.WithCancel(t.Context())
		connected := make(chan struct{})
		mustGo(ctx, t, g, "receive", func(ctx context.Context) error {
			<-connected
			Progress(ctx)
			Progress(ctx)
			return untilCancelled(ctx)
		})
		synctest.Wait()
		if s := only(t, g); !s.Running || s.Progressed || s.FruitlessRuns != 3 || len(told) != 0 {
			t.Fatalf("before progress: %+v, told %v", s, told)
		}
		close(connected)
		synctest.Wait()
		if s := only(t, g); !s.Progressed || s.FruitlessRuns != 0 || !errors.Is(s.LastErr, refused) {
			t.Fatalf("after progress: %+v", s)
		}
		cancel()
		synctest.Wait()
		if s := only(t, g); s.Progressed || len(told) != 1 || told[0] != "receive" {
			t.Fatalf("after the end: %+v, told %v", s, told)
		}
	})
}

func TestProgressOutsideOfATaskDoesNothing(t *testing.T) { Progress(t.Context()) }

func TestStatusSaysSinceWhenAndForWhat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := newGroup()
		began := time.Now()
		task := Task{Name: "receive", Generation: 7, Run: func(context.Context) error {
			time.Sleep(3 * time.Second)
			return nil
		}}
		if err := g.Go(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if s := only(t, g); !s.Running || !s.Since.Equal(began) || !s.LastStart.Equal(began) || s.Generation != 7 {
			t.Fatalf("running: %+v", s)
		}
		time.Sleep(time.Minute)
		end := began.Add(3 * time.Second)
		if s := only(t, g); s.Running || !s.Since.Equal(end) || !s.LastEnd.Equal(end) || !s.LastStart.Equal(began) || s.Generation != 7 {
			t.Fatalf("ended: %+v", s)
		}
	})
}

// TestEndIsToldOnceTheStatusShowsIt starts the task anew from within the call: a
// decider that looks at the status must find it free.
func TestEndIsToldOnceTheStatusShowsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g *Group
		var told []Status
		again := Task{Name: "remove", Run: func(context.Context) error { return nil }}
		g = New(gate.New(gate.Config{}), Config{Ended: func(Name) {
			told = append(told, only(t, g))
			if len(told) < 3 {
				if err := g.Go(t.Context(), again); err != nil {
					t.Error(err)
				}
			}
		}})
		if err := g.Go(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(told) != 3 {
			t.Fatalf("told of %d ends", len(told))
		}
		for i, s := range told {
			if s.Running || s.Starts != uint64(i+1) {
				t.Errorf("end %d: told with %+v", i+1, s)
			}
		}
	})
}

// TestEventsTellStartsAndEnds follows a task that fails, fails and is stopped.
func TestEventsTellStartsAndEnds(t *testing.T) {
	type spanKey struct{}
	synctest.Test(t, func(t *testing.T) {
		var story []string
		tell := func(format string, args ...any) { story = append(story, fmt.Sprintf(format, args...)) }
		g := New(gate.New(gate.Config{}), Config{Events: Events{
			Started: func(ctx context.Context, s Start) context.Context {
				tell("start %s attempt %d generation %d", s.Name, s.Attempt, s.Generation)
				return context.WithValue(ctx, spanKey{}, fmt.Sprint("spawn ", s.Attempt))
			},
			Ended: func(ctx context.Context, e End) {
				tell("%s ended (%v): %v %v after %v", e.Name, ctx.Value(spanKey{}), e.Outcome, e.Err, e.Ran)
			},
		}})
		body := func(ctx context.Context) error {
			tell("run in %v", ctx.Value(spanKey{}))
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(time.Second):
				return errors.New("refused")
			}
		}
		start := func() {
			if err := g.Go(t.Context(), Task{Name: "receive", Generation: 5, Run: body}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		start()
		time.Sleep(2 * time.Second)
		start()
		g.Stop("receive", errors.New("sealing"))
		synctest.Wait()
		want := []string{
			"start receive attempt 1 generation 5",
			"run in spawn 1",
			"receive ended (spawn 1): error refused after 1s",
			"start receive attempt 2 generation 5",
			"run in spawn 2",
			"receive ended (spawn 2): cancelled sealing after 0s",
		}
		if fmt.Sprint(story) != fmt.Sprint(want) {
			t.Fatalf("story\n got %q\nwant %q", story, want)
		}
	})
}

func TestOutcomesAreListed(t *testing.T) {
	bad := 0
	for _, o := range Outcomes() {
		if o.Bad() {
			bad++
		}
	}
	if len(Outcomes()) != 4 || bad != 2 {
		t.Fatalf("outcomes %v, %d of them bad", Outcomes(), bad)
	}
}
