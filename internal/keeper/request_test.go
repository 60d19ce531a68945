package keeper

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/timeline"
)

// TestRequestEndsWithItsTimeline (G11, G12): one that waits for something else listens to the timeline's shutdown as well, and
// is told of it; it is not the client's fault.
func TestRequestEndsWithItsTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newHome(t).start(t)
		m := create(t, k, main1)
		inside, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- m.during(context.WithoutCancel(t.Context()), func(ctx context.Context) error {
				close(inside)
				<-ctx.Done() // object storage that hangs
				return ctx.Err()
			})
		}()
		<-inside
		began := time.Now()
		must(t, k.DeleteTimeline(t.Context(), main1, false))
		if took := time.Since(began); took > leavesWithin {
			t.Errorf("the deletion took %v", took)
		}
		if err := <-ended; !errors.Is(err, timeline.ErrShuttingDown) {
			t.Errorf("the request is told %v", err)
		}
		if err := m.during(t.Context(), func(context.Context) error { return nil }); !errors.Is(err, timeline.ErrShuttingDown) {
			t.Errorf("the next is told %v", err)
		}
		stop(t, k)
	})
}

// TestOperationsAreTold with their steps, their ends, and the context of whoever asked.
func TestOperationsAreTold(t *testing.T) {
	type key struct{}
	var told []string
	events := Events{
		Operation: func(ctx, asked context.Context, id timeline.ID, name string) (context.Context, func(error)) {
			asker, _ := asked.Value(key{}).(string)
			told = append(told, name+" "+id.String()+" "+asker)
			return ctx, func(err error) { told = append(told, name+" "+id.String()+" ended") }
		},
		Step: func(_ timeline.ID, _, step string) { told = append(told, step) },
		Shutdown: func(ctx context.Context, id timeline.ID, cause error) (context.Context, func(error)) {
			told = append(told, "shutdown: "+cause.Error())
			return ctx, func(error) { told = append(told, "shut down") }
		},
	}
	k := newHome(t).start(t, func(c *Config) { c.Events = events })
	create(t, k, main1)
	told = nil
	must(t, k.DeleteTimeline(context.WithValue(t.Context(), key{}, "request"), main1, false))
	want := []string{"delete acme/main request", "mark", "stop", "shutdown: " + errDeleting.Error(), "shut down", "objects", "slot", "files", "delete acme/main ended"}
	if len(told) != len(want) {
		t.Fatalf("told was %q", told)
	}
	for i := range want {
		if told[i] != want[i] {
			t.Errorf("told was %q, want %q", told[i], want[i])
		}
	}
}
