package telemetry

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicewal/sluice/internal/timeline"
)

// HTTPAddressed marks a request's context, and its span, as work for a tenant and, unless it is empty, a timeline; it is
// api.Events.Addressed.
func (t *Telemetry) HTTPAddressed(ctx context.Context, tenant, name string) context.Context {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(t.idAttributes(timeline.ID{Tenant: timeline.TenantID(tenant), Name: name})...)
	}
	return WithTimeline(ctx, tenant, name)
}

// HTTPAnswered accounts for an answered request; it is api.Events.Answered.
func (t *Telemetry) HTTPAnswered(ctx context.Context, route, method string, status int, took time.Duration) {
	if route == "" {
		route = "none"
	}
	observe(ctx, t.counts.httpDuration.WithLabelValues(route, methodLabel(method), strconv.Itoa(status)), took.Seconds())
	t.log.LogAttrs(ctx, slog.LevelDebug, "http request", slog.String("route", route), slog.String("method", method),
		slog.Int("status", status), slog.Duration("took", took))
}

// methodLabel keeps the label's values a closed list: a client may invent methods.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodPatch, http.MethodOptions:
		return method
	}
	return "other"
}

// WALFetch opens the span of a request for a WAL file, which lasts until the file is read; answered is told the answer.
func (t *Telemetry) WALFetch(ctx context.Context, id timeline.ID, file string) (_ context.Context, answered func(string, error), end func(bytes int64)) {
	ctx, span := t.tracer.Start(ctx, "wal.fetch",
		trace.WithAttributes(attribute.String("file", file), attribute.String("client", timeline.ClientOf(ctx))),
		trace.WithAttributes(t.idAttributes(id)...))
	answered = func(answer string, err error) {
		t.counts.restoreAnswers.WithLabelValues(answer).Inc()
		span.SetAttributes(attribute.String("answer", answer))
		fail(span, err)
	}
	return ctx, answered, func(bytes int64) {
		span.SetAttributes(attribute.Int64("bytes", bytes))
		span.End()
	}
}
