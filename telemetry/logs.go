package telemetry

import (
	"context"
	"io"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicewal/sluice/internal/timeline"
)

// scopeKey finds the scope in a context.
type scopeKey struct{}

// scope is the timeline, or the tenant, that a context works for.
type scope struct{ tenant, timeline string }

func (s scope) id() timeline.ID {
	return timeline.ID{Tenant: timeline.TenantID(s.tenant), Name: s.timeline}
}

// WithTimeline marks what is done with a context as work for a tenant and, unless it is empty, a
// timeline: log records and spans made with it say so.
func WithTimeline(ctx context.Context, tenant, timeline string) context.Context {
	return context.WithValue(ctx, scopeKey{}, scope{tenant, timeline})
}

func scopeOf(ctx context.Context) scope {
	s, _ := ctx.Value(scopeKey{}).(scope)
	return s
}

// newLogger writes records to w, each with what its context knows.
func newLogger(w io.Writer, level slog.Leveler, format string, records *prometheus.CounterVec) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewJSONHandler(w, opts)
	if format == "text" {
		h = slog.NewTextHandler(w, opts)
	}
	return slog.New(&contextHandler{h, records})
}

// contextHandler adds trace_id, span_id, tenant and timeline to records, and counts them.
type contextHandler struct {
	slog.Handler
	records *prometheus.CounterVec
}

func (h *contextHandler) Handle(ctx context.Context, r slog.Record) error {
	h.records.WithLabelValues(levelLabel(r.Level)).Inc()
	r.AddAttrs(contextAttrs(ctx, r)...)
	return h.Handler.Handle(ctx, r)
}

// contextAttrs leaves out a tenant and a timeline that the record has already.
func contextAttrs(ctx context.Context, r slog.Record) []slog.Attr {
	var attrs []slog.Attr
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		attrs = append(attrs, slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	s := scopeOf(ctx)
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "tenant" || a.Key == "timeline" {
			s = scope{}
		}
		return true
	})
	if s.tenant != "" {
		attrs = append(attrs, slog.String("tenant", s.tenant))
	}
	if s.timeline != "" {
		attrs = append(attrs, slog.String("timeline", s.timeline))
	}
	return attrs
}

// levelLabel keeps the label's values a closed list.
func levelLabel(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelWarn:
		return "warn"
	case l >= slog.LevelInfo:
		return "info"
	}
	return "debug"
}

// WithAttrs keeps what the handler adds.
func (h *contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &contextHandler{h.Handler.WithAttrs(attrs), h.records}
}

// WithGroup keeps what the handler adds.
func (h *contextHandler) WithGroup(name string) slog.Handler {
	return &contextHandler{h.Handler.WithGroup(name), h.records}
}
