package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/keeper"
	"github.com/sluicewal/sluice/internal/timeline"
)

// TestWhatIsStuckIsShown outside of a shutdown: a step and a gate that take long are logged once a minute, and written down once.
func TestWhatIsStuckIsShown(t *testing.T) {
	ctx := t.Context()
	s, log := newStages(t)
	k, err := keeper.Open(ctx, keeper.Config{NodeID: "a", DataDir: t.TempDir()})
	must(t, err)
	s.node.serve(k)
	id := timeline.ID{Tenant: "acme", Name: "main"}
	must(t, k.CreateTimeline(ctx, id, "", false))
	m, err := k.Member(id)
	must(t, err)

	written := make(chan string, 100)
	watch := &stuckWatch{node: s.node, log: s.log, tel: s.tel, diagnose: func(why string) (string, error) {
		written <- why
		return "/data/diagnostics/x", errors.New("the flight recorder is busy")
	}}
	said := func(what string) int {
		return strings.Count(log.String(), `"msg":"stuck","what":"`+what+`"`)
	}
	stuck := func() (things []stuckThing) {
		for thing := range watch.said {
			if thing.what != "manager" { // which may be at work, while the clock here is ahead
				things = append(things, thing)
			}
		}
		return things
	}
	watch.look(ctx, time.Now().Add(time.Hour))
	watch.diagnosed = time.Time{}
	if all := stuck(); len(all) != 0 {
		t.Errorf("a node that is idle is stuck: %v", all)
	}

	pass, err := m.Enter(ctx, "wal_download")
	must(t, err)
	m.SetOperation("delete", "stop")
	gone, cancel := context.WithCancel(ctx)
	cancel()
	_ = m.Gate().Close(gone) // it gives up at once, and stays closed to newcomers
	watch.look(ctx, time.Now().Add(stuckAfter/2))
	if all := stuck(); len(all) != 0 {
		t.Errorf("too early: %v", all)
	}
	for _, at := range []time.Duration{stuckAfter, stuckAfter + time.Second, stuckAfter + sayStuckEvery - 2*time.Second} {
		watch.look(ctx, time.Now().Add(at))
	}
	if said("gate") != 1 || said("operation") != 1 {
		t.Errorf("within a minute it said: %s", log)
	}
	if !strings.Contains(log.String(), `"which":"timeline acme/main","doing":"closing"`) || !strings.Contains(log.String(), `"doing":"delete: stop"`) {
		t.Errorf("it does not say what: %s", log)
	}
	<-written
	watch.look(ctx, time.Now().Add(stuckAfter+2*sayStuckEvery))
	<-written
	if said("gate") != 2 || said("operation") != 2 {
		t.Errorf("in the third minute it said: %s", log)
	}

	pass.Leave()
	m.SetOperation("", "")
	must(t, k.Shutdown(ctx)) // its manager was inside as well
	watch.look(ctx, time.Now().Add(time.Hour))
	if all := stuck(); len(all) != 0 {
		t.Errorf("it is over: %v", all)
	}
}
