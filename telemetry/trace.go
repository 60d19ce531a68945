package telemetry

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicewal/sluice/internal/gate"
)

// maxLinks is how many links, and how many holders by name, one span has at most.
const maxLinks = 16

// observe adds a value to a histogram, with an exemplar when the context is part of a sampled trace.
func observe(ctx context.Context, h prometheus.Observer, v float64) {
	sc := trace.SpanContextFromContext(ctx)
	if eo, ok := h.(prometheus.ExemplarObserver); ok && sc.IsSampled() {
		eo.ObserveWithExemplar(v, prometheus.Labels{"trace_id": sc.TraceID().String()})
		return
	}
	h.Observe(v)
}

// GateTrace tells a gate which trace a context belongs to; it is gate.Config.Trace.
func GateTrace(ctx context.Context) gate.Trace {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsSampled() {
		return gate.Trace{} // nobody could look it up
	}
	return gate.Trace{TraceID: sc.TraceID(), SpanID: sc.SpanID()}
}

// GateTrace is the function of that name while traces are made, and nil otherwise: then nobody pays for asking.
func (t *Telemetry) GateTrace() func(context.Context) gate.Trace {
	if t.provider == nil {
		return nil
	}
	return GateTrace
}

// linkTo makes a link to what a gate kept of a trace.
func linkTo(t gate.Trace) (trace.Link, bool) {
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: t.TraceID, SpanID: t.SpanID, TraceFlags: trace.FlagsSampled})
	return trace.Link{SpanContext: sc}, sc.IsValid()
}

// linksTo makes links to those of the spans that can be looked up.
func linksTo(spans ...trace.SpanContext) trace.SpanStartOption {
	var links []trace.Link
	for _, sc := range spans {
		if sc.IsSampled() {
			links = append(links, trace.Link{SpanContext: sc})
		}
	}
	return trace.WithLinks(links...)
}

// A spanRef is a span that others point to; none at first.
type spanRef struct {
	p atomic.Pointer[trace.SpanContext]
}

func (r *spanRef) set(sc trace.SpanContext) { r.p.Store(&sc) }

// get returns an invalid one where there is none.
func (r *spanRef) get() (sc trace.SpanContext) {
	if p := r.p.Load(); p != nil {
		sc = *p
	}
	return sc
}

// take is get for whoever points to it last.
func (r *spanRef) take() (sc trace.SpanContext) {
	if p := r.p.Swap(nil); p != nil {
		sc = *p
	}
	return sc
}

// startAt starts a span that began a while ago.
func (t *Telemetry) startAt(ctx context.Context, name string, began time.Time, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	return t.tracer.Start(ctx, name, append(opts, trace.WithTimestamp(began))...) //nolint:spancheck // the caller ends it
}

// fail marks a span as failed.
func fail(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
}
