package telemetry

import (
	"context"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/test/rig"
)

// TestStuckCloseIsSeenWhileItIsStuck: the collector has the holder's name, and the link to its trace, before the close has ended.
func TestStuckCloseIsSeenWhileItIsStuck(t *testing.T) {
	s := rig.StartCollector(t, nil)
	tel, _ := start(t, Config{OTLPEndpoint: s.URL, SampleRatio: 1})
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
	found := false
	for _, a := range wait.Attributes {
		if a.Key == "holders" {
			found = len(a.Value.GetArrayValue().Values) == 1
		}
	}
	if !found {
		t.Errorf("it does not name the holder: %v", wait.Attributes)
	}
	hold := s.Await(t, "gate.hold") // where the link leads to
	if trace.TraceID(hold.TraceId) != span.SpanContext().TraceID() || trace.SpanID(hold.ParentSpanId) != span.SpanContext().SpanID() {
		t.Error("the holder's trace does not show that it is waited for")
	}
	pass.Leave()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	span.End()
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
