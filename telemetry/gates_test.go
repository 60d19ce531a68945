package telemetry

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/test/rig"
)

// TestStuckCloseIsSeenWhileItIsStuck: the collector has the holder's name, and the link to its trace, before the close has ended.
func TestStuckCloseIsSeenWhileItIsStuck(t *testing.T) {
	s := rig.StartCollector(t, nil)
	tel, _ := start(t, Config{OTLPEndpoint: s.URL, SampleRatio: 1})
	tel.Watch(&fakeSource{})
	g := gate.New(gate.Config{Kind: "timeline", Name: "acme/main", Hooks: &gate.Hooks{Events: tel.GateEvents(), Trace: GateTrace}})
	request, span := tel.Tracer().Start(t.Context(), "GET /wal")
	pass, err := g.Enter(request, "wal_download")
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- g.Close(context.WithoutCancel(t.Context())) }()

	wait := s.Await(t, "gate.close.wait")
	select {
	case err := <-closed:
		t.Fatalf("the gate is closed (%v), with somebody inside", err)
	default:
	}
	if s.Find("gate.close") != nil {
		t.Error("the span of the close has ended, and the close has not")
	}
	if len(wait.Links) != 1 || trace.TraceID(wait.Links[0].TraceId) != span.SpanContext().TraceID() {
		t.Errorf("links %v, want one to %s", wait.Links, span.SpanContext().TraceID())
	}
	if text := fmt.Sprint(wait.Attributes); !strings.Contains(text, "wal_download of 000000010000000000000007 for 192.0.2.7:40404 (") {
		t.Errorf("it does not name the holder: %s", text)
	}
	hold := s.Await(t, "gate.hold") // where the link leads to
	if trace.TraceID(hold.TraceId) != span.SpanContext().TraceID() || trace.SpanID(hold.ParentSpanId) != span.SpanContext().SpanID() {
		t.Error("the holder's trace does not show that it is waited for")
	}
	if text := fmt.Sprint(hold.Attributes); !strings.Contains(text, "000000010000000000000007") || !strings.Contains(text, "192.0.2.7:40404") {
		t.Errorf("the holder's span does not say what it wants, and for whom: %s", text)
	}
	pass.Leave()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	span.End()
}

// TestCloseThatHangsFillsNoLog: its records become rare, its spans do not.
func TestCloseThatHangsFillsNoLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tel, log := start(t, Config{})
		spans := tracetest.NewSpanRecorder()
		tel.tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
		tel.Watch(&fakeSource{})
		g := gate.New(gate.Config{Kind: "timeline", Name: "acme/main", Hooks: &gate.Hooks{Events: tel.GateEvents()}})
		if _, err := g.Enter(t.Context(), "wal_download"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		if err := g.Close(ctx); err == nil {
			t.Fatal("it is closed, with somebody inside")
		}
		var said []string
		for line := range strings.Lines(log.String()) {
			var r struct {
				Level, Msg, Inside string
				Waited             time.Duration
			}
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			said = append(said, r.Level+" "+r.Waited.String())
			if !strings.Contains(r.Inside, "wal_download of 000000010000000000000007 for 192.0.2.7:40404 (") {
				t.Errorf("it does not name the holder: %s", line)
			}
		}
		want := "INFO 100ms, INFO 1.1s, INFO 3.1s, WARN 5.1s, WARN 13.1s, WARN 29.1s, WARN 1m1.1s, WARN 2m1.1s, WARN 3m1.1s, WARN 4m1.1s, ERROR 5m0s"
		if got := strings.Join(said, ", "); got != want {
			t.Errorf("logged:\n%s\nwant:\n%s", got, want)
		}
		waits := 0
		for _, s := range spans.Ended() {
			if s.Name() == "gate.close.wait" {
				waits++
			}
		}
		if waits != 300 {
			t.Errorf("%d spans in five minutes", waits)
		}
	})
}

// TestStuckStageIsSeenWhileItIsStuck does so for a stage of the shutdown.
func TestStuckStageIsSeenWhileItIsStuck(t *testing.T) {
	s := rig.StartCollector(t, nil)
	tel, _ := start(t, Config{OTLPEndpoint: s.URL, SampleRatio: 1})
	ctx, end := tel.NodeShutdown(t.Context(), "signal")
	stage, endStage := tel.ShutdownStage(ctx, "tenants", time.Second)
	tel.StageWaits(stage, "tenants", []string{"timeline acme/main: wal_download (12s)"})
	wait := s.Await(t, "shutdown.stage.wait")
	if s.Find("shutdown.stage") != nil {
		t.Error("the stage's own span was exported before it ended")
	}
	endStage(nil)
	end(nil)
	if string(wait.TraceId) != string(traceOf(stage)) {
		t.Error("it is not in the shutdown's trace")
	}
}

func traceOf(ctx context.Context) []byte {
	id := trace.SpanContextFromContext(ctx).TraceID()
	return id[:]
}

// TestOperationIsInTheTraceOfWhoAsked, with its steps below it, though it goes on without the request.
func TestOperationIsInTheTraceOfWhoAsked(t *testing.T) {
	s := rig.StartCollector(t, nil)
	tel, _ := start(t, Config{OTLPEndpoint: s.URL, SampleRatio: 1})
	request, span := tel.Tracer().Start(t.Context(), "DELETE /x")
	ctx, end := tel.OperationStarted(t.Context(), request, acme, "delete")
	span.End()
	tel.OperationStep(acme, "delete", "mark")
	tel.OperationStep(acme, "delete", "stop")
	if tel.underWay(acme, "delete") == nil || trace.SpanContextFromContext(ctx).TraceID() != span.SpanContext().TraceID() {
		t.Error("the operation is not in the request's trace")
	}
	end(nil)
	tel.OperationStep(acme, "delete", "files") // a straggler's
	if err := tel.Shutdown(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	steps := 0
	operation := s.Find("timeline.delete")
	for _, sp := range s.Spans() {
		if sp.Name == "lifecycle.step" && string(sp.ParentSpanId) == string(operation.SpanId) {
			steps++
		}
	}
	if steps != 2 || len(tel.steps) != 0 {
		t.Errorf("%d steps below the operation, %d operations under way", steps, len(tel.steps))
	}
}
