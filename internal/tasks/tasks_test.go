package tasks

import (
	"context"
	"errors"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicewal/sluice/internal/gate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// untilCancelled is the body of a task that works for as long as it may.
func untilCancelled(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// newGroup makes a group of an owner without events.
func newGroup() (*Group, *gate.Gate) {
	g := gate.New(gate.Config{})
	return New(g, Config{}), g
}

func mustGo(ctx context.Context, t *testing.T, g *Group, name Name, body func(context.Context) error) {
	t.Helper()
	if err := g.Go(ctx, Task{Name: name, Run: body}); err != nil {
		t.Fatal(err)
	}
}

// only returns the status of the group's only task.
func only(t *testing.T, g *Group) Status {
	t.Helper()
	list := g.Status()
	if len(list) != 1 {
		t.Fatalf("status of %d tasks, want one", len(list))
	}
	return list[0]
}

func TestTaskKeepsItsOwnersGateFromClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, door := newGroup()
		ctx, cancel := context.WithCancel(t.Context())
		mustGo(ctx, t, g, "receive", func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Second) // says goodbye
			return nil
		})
		if h := door.Holders(); len(h) != 1 || h[0].Name != "receive" {
			t.Fatalf("holders %v", h)
		}
		began := time.Now()
		cancel()
		if err := door.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited != time.Second {
			t.Fatalf("the gate closed after %v, the task ended after 1s", waited)
		}
		if s := only(t, g); s.Running || s.LastOutcome != Cancelled {
			t.Fatalf("the gate is closed and the task is %+v", s)
		}
	})
}

func TestTaskIsNotStartedWhileItsOwnerShutsDown(t *testing.T) {
	g, door := newGroup()
	if err := door.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := g.Go(t.Context(), Task{Name: "receive", Run: func(context.Context) error {
		t.Error("it ran")
		return nil
	}})
	if !errors.Is(err, gate.ErrClosed) || len(g.Status()) != 0 {
		t.Fatalf("started with %v, status %v", err, g.Status())
	}
}

func TestTaskRunsOnceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, door := newGroup()
		ctx, cancel := context.WithCancel(t.Context())
		mustGo(ctx, t, g, "receive", untilCancelled)
		if err := g.Go(ctx, Task{Name: "receive", Run: untilCancelled}); !errors.Is(err, ErrRunning) {
			t.Fatalf("started twice: %v", err)
		}
		if n := door.Stats().Inside; n != 1 {
			t.Fatalf("one task holds %d passes", n)
		}
		cancel()
		if err := g.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPanicIsAnEndedTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ends []End
		door := gate.New(gate.Config{})
		g := New(door, Config{Events: Events{Ended: func(_ context.Context, e End) { ends = append(ends, e) }}})
		cause := errors.New("index out of range")
		mustGo(t.Context(), t, g, "remove", func(context.Context) error { panic(cause) })
		synctest.Wait()

		s := only(t, g)
		if s.Running || s.LastOutcome != Panicked || !errors.Is(s.LastErr, cause) || s.FruitlessRuns != 1 {
			t.Fatalf("status %+v", s)
		}
		var panicked *PanicError
		if len(ends) != 1 || !errors.As(ends[0].Err, &panicked) {
			t.Fatalf("ends %+v", ends)
		}
		if !strings.Contains(string(panicked.Stack), "TestPanicIsAnEndedTask") {
			t.Fatalf("the stack does not show who panicked:\n%s", panicked.Stack)
		}
		if n := door.Stats().Inside; n != 0 {
			t.Fatalf("%d passes kept", n)
		}
		mustGo(t.Context(), t, g, "remove", func(context.Context) error { return nil })
		synctest.Wait()
		if s := only(t, g); s.LastOutcome != Done || s.Restarts != 1 || s.Starts != 2 || s.LastErr == nil {
			t.Fatalf("status after a restart %+v", s)
		}
	})
}

func TestGoexitIsAnEndedTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, door := newGroup()
		mustGo(t.Context(), t, g, "remove", func(context.Context) error {
			runtime.Goexit()
			return nil
		})
		synctest.Wait()
		if s := only(t, g); s.Running || s.LastOutcome != Failed || door.Stats().Inside != 0 {
			t.Fatalf("status %+v", s)
		}
	})
}

func TestStopCancelsWithACauseAndDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := newGroup()
		sealing := errors.New("the timeline is being sealed")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var heard error
		mustGo(ctx, t, g, "receive", func(ctx context.Context) error {
			<-ctx.Done()
			heard = context.Cause(ctx)
			time.Sleep(time.Second)
			return errors.New("use of closed network connection")
		})
		mustGo(ctx, t, g, "settings", untilCancelled)
		g.Stop("receive", sealing)
		g.Stop("remove", sealing) // was never started

		receive, settings := g.Status()[0], g.Status()[1]
		if !receive.Running || !receive.Stopping {
			t.Fatalf("just stopped: %+v", receive)
		}
		time.Sleep(2 * time.Second)
		receive = g.Status()[0]
		if receive.Running || receive.Stopping || receive.LastOutcome != Cancelled || receive.LastErr != nil {
			t.Fatalf("a stopped task failed: %+v", receive)
		}
		if !errors.Is(heard, sealing) || !settings.Running || settings.Stopping {
			t.Fatalf("heard %v; the other task is %+v", heard, settings)
		}
		cancel()
		if err := g.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTaskHearsWhyItsOwnerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := newGroup()
		deleted := errors.New("deleted")
		ctx, cancel := context.WithCancelCause(t.Context())
		heard := make(chan error, 1)
		mustGo(ctx, t, g, "receive", func(ctx context.Context) error {
			heard <- untilCancelled(ctx)
			return nil
		})
		cancel(deleted)
		if err := <-heard; !errors.Is(err, deleted) {
			t.Fatalf("heard %v", err)
		}
		if err := g.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWaitNamesTheTaskThatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := newGroup()
		release := make(chan struct{})
		mustGo(t.Context(), t, g, "remove", func(context.Context) error {
			<-release
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := g.Wait(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "task remove") {
			t.Fatal(err)
		}
		close(release)
		if err := g.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTaskCannotWaitForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, door := newGroup()
		result := make(chan error, 1)
		mustGo(t.Context(), t, g, "evict", func(ctx context.Context) error {
			result <- door.Close(ctx)
			return nil
		})
		if err := <-result; !errors.Is(err, gate.ErrClosedByHolder) {
			t.Fatalf("a task closed the gate that it holds: %v", err)
		}
	})
}

func TestTaskIsLabelledForTheProfiler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := newGroup()
		label := make(chan string, 1)
		mustGo(t.Context(), t, g, "receive", func(ctx context.Context) error {
			value, _ := pprof.Label(ctx, "task")
			label <- value
			return nil
		})
		if got := <-label; got != "receive" {
			t.Fatalf("label %q", got)
		}
	})
}
