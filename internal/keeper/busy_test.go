package keeper

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/timeline"
)

// TestBusyAreThoseOnWhichSomethingIsUnderWay and no others, however many of them there are.
func TestBusyAreThoseOnWhichSomethingIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hangs chan struct{} // in an iteration, while it is there
		k := newHome(t).start(t, func(c *Config) {
			c.Events.Manager = func(timeline.ID) manager.Events {
				return manager.Events{Planned: func(ctx context.Context, _ manager.Planned) context.Context {
					if hangs != nil {
						<-hangs
					}
					return ctx
				}}
			}
		})
		m := create(t, k, main1)
		idle := create(t, k, timeline.ID{Tenant: "acme", Name: "idle"})
		busy := func(when string, want ...*Member) {
			t.Helper()
			synctest.Wait()
			if all := k.Busy(); !slices.Equal(all, want) {
				t.Errorf("%s: %d are busy, want %d", when, len(all), len(want))
			}
		}
		busy("all are idle")

		m.SetOperation("seal", "decide")
		m.SetOperation("seal", "tell")
		busy("an operation has taken a step", m)
		m.SetOperation("", "")
		busy("it has ended")

		end := m.BeginOperation("drain", "upload")
		busy("one has begun", m)
		m.BeginOperation("trim", "objects")()
		busy("one that ran beside it has ended", m)
		end()
		busy("it has ended, too")

		hangs = make(chan struct{})
		m.Wake().Ring(timeline.ReasonRequest)
		busy("the manager is at work", m)
		m.SetOperation("seal", "decide")
		m.SetOperation("", "")
		busy("it is at work still", m)
		close(hangs)
		busy("the manager waits")

		must(t, k.DeleteTimeline(t.Context(), main1, false))
		if op := m.Operation(); op.Step != "files" {
			t.Errorf("a deleted timeline shows %+v", op)
		}
		busy("it is gone, with its last step")
		if len(k.busy.members) != 0 {
			t.Errorf("%d are kept", len(k.busy.members))
		}
		idle.SetOperation("seal", "decide")
		busy("another", idle)
		idle.SetOperation("", "")
	})
}
