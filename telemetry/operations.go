package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicewal/sluice/internal/timeline"
)

// Operation opens the span "timeline.NAME" of a lifecycle operation; end closes it and counts it. Names
// are constants: create, set, delete, seal, unseal.
func (t *Telemetry) Operation(ctx context.Context, name string, id timeline.ID) (_ context.Context, end func(error)) {
	ctx = WithTimeline(ctx, string(id.Tenant), id.Name)
	ctx, span := t.tracer.Start(ctx, "timeline."+name, //nolint:spancheck // end ends it
		trace.WithAttributes(always()), trace.WithAttributes(idAttributes(id)...))
	return ctx, func(err error) { //nolint:spancheck // this ends it
		outcome := "ok"
		if err != nil {
			outcome = "error"
		}
		t.counts.operations.WithLabelValues(name, outcome).Inc()
		fail(span, err)
		span.End()
	}
}

// NodeShutdown opens the span of the node's shutdown.
func (t *Telemetry) NodeShutdown(ctx context.Context, cause string) (_ context.Context, end func(error)) {
	ctx, span := t.tracer.Start(ctx, "node.shutdown", //nolint:spancheck // end ends it
		trace.WithNewRoot(), trace.WithAttributes(always(), attribute.String("cause", cause)))
	return ctx, endOf(span) //nolint:spancheck // this ends it
}

// ShutdownStage opens the span of one stage.
func (t *Telemetry) ShutdownStage(ctx context.Context, stage string, limit time.Duration) (_ context.Context, end func(error)) {
	ctx, span := t.tracer.Start(ctx, "shutdown.stage", //nolint:spancheck // end ends it
		trace.WithAttributes(always(),
			attribute.String("stage", stage), attribute.Float64("limit", limit.Seconds())))
	return ctx, endOf(span) //nolint:spancheck // this ends it
}

// StageWaits shows a stage that is late while it is: spans are seen once they end. waitsFor names what keeps it.
func (t *Telemetry) StageWaits(ctx context.Context, stage string, waitsFor []string) {
	_, span := t.tracer.Start(ctx, "shutdown.stage.wait", trace.WithAttributes(always(),
		attribute.String("stage", stage), attribute.StringSlice("waits_for", waitsFor[:min(len(waitsFor), maxLinks)])))
	span.End()
}

// Diagnosed notes in the span of ctx where diagnostics were written.
func (t *Telemetry) Diagnosed(ctx context.Context, path string) {
	trace.SpanFromContext(ctx).AddEvent("diagnostics", trace.WithAttributes(attribute.String("path", path)))
}

func endOf(span trace.Span) func(error) {
	return func(err error) {
		fail(span, err)
		span.End()
	}
}
