package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicewal/sluice/internal/timeline"
)

// operationKey is an operation on a timeline, or on a tenant: some may run beside others.
type operationKey struct {
	id   timeline.ID
	name string
}

// Operation opens the span "timeline.NAME" of a lifecycle operation, or "tenant.NAME" if the id has no timeline; end closes it
// and counts it. Names are constants; see operationNames. The iteration that it wakes the timeline's manager for is linked to it.
func (t *Telemetry) Operation(ctx context.Context, name string, id timeline.ID) (_ context.Context, end func(error)) {
	ctx = WithTimeline(ctx, string(id.Tenant), id.Name)
	ctx, span := t.tracer.Start(ctx, kindOf(id)+"."+name,
		trace.WithAttributes(always()), trace.WithAttributes(t.idAttributes(id)...))
	if s := t.askedOf(id, name); s != nil {
		s.asked.set(span.SpanContext())
	}
	steps := t.beginSteps(ctx, operationKey{id, name})
	return ctx, func(err error) {
		t.endSteps(steps)
		outcome := operationOutcome(err)
		t.counts.operations.WithLabelValues(operationLabel(id, name), outcome).Inc()
		t.log.LogAttrs(ctx, slog.LevelInfo, "lifecycle operation ended", slog.String("operation", kindOf(id)+"."+name), slog.String("outcome", outcome))
		fail(span, err)
		span.End()
	}
}

// askedOf is who keeps that an operation was asked for; nil: nobody. Of a timeline that is not there nothing is kept but what
// creates it: whoever asks may have thought of any name.
func (t *Telemetry) askedOf(id timeline.ID, name string) *scopedEvents {
	switch {
	case id.Name == "":
		return nil
	case name == "create":
		return t.scoped(id)
	}
	return t.known(id)
}

func kindOf(id timeline.ID) string {
	if id.Name == "" {
		return "tenant"
	}
	return "timeline"
}

// operationLabel tells a tenant's operation from that of the same name on a timeline.
func operationLabel(id timeline.ID, name string) string {
	if id.Name == "" && (name == "create" || name == "delete") {
		return "tenant_" + name
	}
	return name
}

// operationOutcome: what a shutdown cut off goes on at the next start, and is no failure.
func operationOutcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, timeline.ErrShuttingDown), errors.Is(err, context.Canceled):
		return "cancelled"
	}
	return "error"
}

// OperationStarted is Operation for work that belongs to the node, and outlives the request that asked for it: its span is in
// that request's trace.
func (t *Telemetry) OperationStarted(ctx, asked context.Context, id timeline.ID, name string) (context.Context, func(error)) {
	return t.Operation(trace.ContextWithSpanContext(ctx, trace.SpanContextFromContext(asked)), name, id)
}

// ShutdownStarted opens the span "timeline.shutdown" or "tenant.shutdown"; what it waits for is below it.
func (t *Telemetry) ShutdownStarted(ctx context.Context, id timeline.ID, cause error) (_ context.Context, end func(error)) {
	ctx = WithTimeline(ctx, string(id.Tenant), id.Name)
	ctx, span := t.tracer.Start(ctx, kindOf(id)+".shutdown", //nolint:spancheck // end ends it
		trace.WithAttributes(always(), attribute.String("cause", cause.Error())), trace.WithAttributes(t.idAttributes(id)...))
	return ctx, endOf(span) //nolint:spancheck // this ends it
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
