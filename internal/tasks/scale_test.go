package tasks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/gate"
)

// owner is what has a gate and tasks, such as a timeline.
type owner struct {
	cancel context.CancelFunc
	door   *gate.Gate
	tasks  *Group
	slow   bool // one of its tasks is
}

// names of the four tasks that each owner has.
var four = []Name{"receive", "settings", "backup", "remove"}

// makeOwners makes so many, with tasks that wait for their cancellation; of all
// tasks, every slowth also waits for released.
func makeOwners(ctx context.Context, n, slowth int, released <-chan struct{}) ([]owner, error) {
	hooks := &gate.Hooks{Clock: gate.NewClock()}
	all := make([]owner, n)
	for i := range all {
		door := gate.New(gate.Config{Kind: "timeline", Name: fmt.Sprint("acme/", i), Hooks: hooks})
		ctx, cancel := context.WithCancel(ctx)
		all[i] = owner{cancel: cancel, door: door, tasks: New(door, Config{})}
		for j, name := range four {
			body := untilCancelled
			if number := i*len(four) + j + 1; slowth > 0 && number%slowth == 0 {
				all[i].slow = true
				body = func(ctx context.Context) error {
					err := untilCancelled(ctx)
					<-released
					return err
				}
			}
			if err := all[i].tasks.Go(ctx, Task{Name: name, Run: body}); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// shut cancels and closes one.
func (o owner) shut(ctx context.Context) error {
	o.cancel()
	return o.door.Close(ctx)
}

// TestSlowHoldersDelayNobodyElse closes a thousand gates at once. One of a
// thousand holders does not leave: it is named, and it alone.
func TestSlowHoldersDelayNobodyElse(t *testing.T) {
	const owners, slowth = 1000, 1000
	synctest.Test(t, func(t *testing.T) {
		released := make(chan struct{})
		all, err := makeOwners(t.Context(), owners, slowth, released)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		stuck := make([]*gate.CloseError, owners)
		var closers sync.WaitGroup
		for i, o := range all {
			closers.Go(func() {
				err := o.shut(ctx)
				if err == nil && time.Since(began) > 0 {
					t.Errorf("%d closed after %v", i, time.Since(began))
				}
				if err != nil && !errors.As(err, &stuck[i]) {
					t.Errorf("%d: %v", i, err)
				}
			})
		}
		closers.Wait()
		for i, err := range stuck {
			if slow := all[i].slow; slow != (err != nil) {
				t.Errorf("%d: %v", i, err)
			}
			if err != nil && (len(err.Holders) != 1 || err.Holders[0].Name != "remove") {
				t.Errorf("%d is held by %v", i, err.Holders)
			}
		}
		close(released)
		for i, o := range all {
			if err := o.shut(t.Context()); err != nil {
				t.Errorf("%d, closed again: %v", i, err)
			}
		}
	})
}

// BenchmarkShutdown closes the gates of 10,000 owners with four tasks each, all
// at once. With slow holders it is the time until all others' gates are closed.
//
//	go test ./internal/tasks -run '^$' -bench Shutdown -cpu 2 -count 5
func BenchmarkShutdown(b *testing.B) {
	const owners = 10_000
	for _, c := range []struct {
		name   string
		slowth int
	}{{"all-leave", 0}, {"one-in-a-thousand-is-slow", 1000}} {
		b.Run(c.name, func(b *testing.B) {
			slow := 0
			if c.slowth > 0 {
				slow = owners * len(four) / c.slowth
			}
			for b.Loop() {
				b.StopTimer()
				released := make(chan struct{})
				all, err := makeOwners(b.Context(), owners, c.slowth, released)
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				var quick, everybody sync.WaitGroup
				quick.Add(owners - slow)
				for _, o := range all {
					everybody.Go(func() {
						if err := o.shut(b.Context()); err != nil {
							b.Error(err)
						}
						if !o.slow {
							quick.Done()
						}
					})
				}
				quick.Wait()
				b.StopTimer()
				close(released)
				everybody.Wait()
				b.StartTimer()
			}
		})
	}
}
