package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/api"
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

// TestWhatIsStuckIsShownInTime wherever it begins between two looks, of which an idle node needs few.
func TestWhatIsStuckIsShownInTime(t *testing.T) {
	for after := time.Minute; after <= time.Minute+2*stuckAfter; after += 500 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			s, log := newStages(t)
			k, err := keeper.Open(t.Context(), keeper.Config{NodeID: "a", DataDir: t.TempDir()})
			must(t, err)
			s.node.serve(k)
			id := timeline.ID{Tenant: "acme", Name: "main"}
			must(t, k.CreateTimeline(t.Context(), id, "", false))
			m, err := k.Member(id)
			must(t, err)
			watch := &stuckWatch{node: s.node, log: s.log, tel: s.tel, diagnose: func(string) (string, error) { return "/data/diagnostics/x", nil }}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { defer close(ended); watch.run(ctx) }()

			time.Sleep(after)
			m.SetOperation("delete", "stop")
			time.Sleep(stuckAfter - time.Millisecond)
			synctest.Wait()
			if strings.Contains(log.String(), `"msg":"stuck"`) {
				t.Errorf("what began after %v is said too early: %s", after, log)
			}
			time.Sleep(lookForStuckEvery + time.Millisecond)
			synctest.Wait()
			if n := strings.Count(log.String(), `"msg":"stuck"`); n != 1 {
				t.Errorf("what began after %v is said %d times: %s", after, n, log)
			}
			m.SetOperation("", "")
			stop()
			<-ended
			must(t, k.Shutdown(t.Context()))
		})
	}
}

// TestStuckForADayIsWrittenDownNowAndThen: what was written down first is not pushed out by what follows, for they become rare.
func TestStuckForADayIsWrittenDownNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log := newStages(t)
		var ages []time.Duration
		began := time.Now()
		watch := &stuckWatch{node: s.node, log: s.log, tel: s.tel, diagnose: func(string) (string, error) {
			ages = append(ages, time.Since(began).Round(time.Minute))
			return "/data/diagnostics/x", nil
		}}
		var said stuckSaid
		for thing := (stuckThing{"gate", "timeline acme/main", "closing", began}); time.Since(began) < 24*time.Hour; {
			time.Sleep(sayStuckEvery)
			said = watch.say(t.Context(), thing, said, time.Now())
			synctest.Wait()
		}
		if len(ages) != 11 || ages[0] != time.Minute || ages[10] != 1024*time.Minute {
			t.Errorf("written down after %v", ages)
		}
		if n := strings.Count(log.String(), `"msg":"stuck"`); n != 24*60 {
			t.Errorf("logged %d times", n)
		}
	})
}

// TestDiskThatHangsUnderDiagnosticsIsWaitedForByNobody: the span that shows what is stuck ends, and whoever comes next is told.
func TestDiskThatHangsUnderDiagnosticsIsWaitedForByNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log := newStages(t)
		hang := make(chan struct{})
		d := &diagnostics{dir: t.TempDir(), gates: func() []api.ClosingGate { <-hang; return nil }}
		watch := &stuckWatch{node: s.node, log: s.log, tel: s.tel, diagnose: d.write}
		began := time.Now()
		watch.writeDown(t.Context(), stuckThing{"gate", "timeline acme/main", "closing", began})
		if took := time.Since(began); took != writtenWithin || !strings.Contains(log.String(), errNotWritten.Error()) {
			t.Errorf("it took %v; %s", took, log)
		}
		if _, err := d.write("stage-tenants"); !errors.Is(err, errDiagnosing) {
			t.Errorf("the next is told: %v", err)
		}
		if _, err := d.newest(); !errors.Is(err, errDiagnosing) {
			t.Errorf("who asks for the newest is told: %v", err)
		}
		close(hang)
		synctest.Wait()
		if files, err := d.newest(); err != nil || len(files) != 2 {
			t.Errorf("once it goes on: %d files, %v", len(files), err)
		}
	})
}
