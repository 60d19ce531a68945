package telemetry

import (
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

// TestTimelineThatIsBeingOpenedIsNotForgotten: a node is scraped while it opens its timelines, which the collector does not see yet.
// Whoever asks later must find what their events have kept: the links between traces.
func TestTimelineThatIsBeingOpenedIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tel, _ := start(t, Config{})
		src := &fakeSource{}
		tel.Watch(src)
		s := tel.scoped(acme)
		scrape(t, tel.Metrics())
		if tel.scoped(acme) != s {
			t.Fatal("it was forgotten before it was there")
		}
		src.timelines = []TimelineStats{busyTimeline(acme)}
		scrape(t, tel.Metrics())
		if tel.scoped(acme) != s {
			t.Fatal("it was forgotten while it was there")
		}
		src.timelines = nil
		scrape(t, tel.Metrics())
		if len(tel.timelines) != 0 {
			t.Error("it is gone, and kept")
		}
		tel.scoped(acme) // of one that is never seen
		<-time.After(opensWithin)
		scrape(t, tel.Metrics())
		if len(tel.timelines) != 0 {
			t.Error("it never came, and is kept")
		}
	})
}

// TestRequestsAboutTimelinesThatAreNotThereLeaveNothing: anybody may ask to seal whatever they like.
func TestRequestsAboutTimelinesThatAreNotThereLeaveNothing(t *testing.T) {
	tel, _ := start(t, Config{})
	for _, name := range []string{"set", "seal", "unseal", "trim", "delete"} {
		_, end := tel.Operation(t.Context(), name, timeline.ID{Tenant: "acme", Name: "no-such-" + name})
		end(nil)
	}
	if len(tel.timelines) != 0 {
		t.Errorf("events of %d timelines are kept", len(tel.timelines))
	}
	_, end := tel.Operation(t.Context(), "create", acme)
	end(nil)
	if len(tel.timelines) != 1 {
		t.Error("of one that is created nothing is kept")
	}
}

// TestIterationThatPanicsIsSeen: its span ends, with what went wrong.
func TestIterationThatPanicsIsSeen(t *testing.T) {
	tel, _ := start(t, Config{})
	spans := tracetest.NewSpanRecorder()
	tel.tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
	m := tel.ManagerEvents(acme)
	reasons := timeline.WakeReasons(0).With(timeline.ReasonTimer)
	m.Planned(t.Context(), manager.Planned{Reasons: reasons, Began: time.Now()})
	m.Panicked(t.Context(), manager.Panic{Err: &tasks.PanicError{Value: "boom"}, InARow: 1})
	if ended := spans.Ended(); len(ended) != 1 || ended[0].Name() != "manager.iteration" || ended[0].Status().Description == "" {
		t.Fatalf("ended are %v", ended)
	}
	turn := m.Planned(t.Context(), manager.Planned{Reasons: reasons, Began: time.Now()})
	m.Iterated(turn, manager.Iteration{Reasons: reasons})
	m.Panicked(t.Context(), manager.Panic{Err: &tasks.PanicError{Value: "in between"}, InARow: 1}) // in no iteration
	if ended := spans.Ended(); len(ended) != 2 || ended[1].Status().Description != "" {
		t.Errorf("ended are %v", ended)
	}
}

// TestReporterIsBounded: what is said once a minute may be of whoever a message says that it is from.
func TestReporterIsBounded(t *testing.T) {
	r, now := &reporter{}, time.Now()
	name := func(i int) string { return time.Duration(i).String() }
	said := 0
	for i := range 10 * reportedAtOnce {
		if r.due(name(i), now) {
			said++
		}
	}
	if said != reportedAtOnce || len(r.last) != reportedAtOnce {
		t.Errorf("%d were said within a minute, %d are kept", said, len(r.last))
	}
	if r.due(name(0), now) || !r.due("another", now.Add(reportEvery)) || len(r.last) != 1 {
		t.Errorf("a minute later, %d are kept", len(r.last))
	}
}
