package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/timeline"
)

const (
	// longHold is the stay in a gate that gets a span of its own.
	longHold = time.Second
	// lateClose is the wait of a close that is worth a warning; before, people are saying goodbye.
	lateClose = 5 * time.Second
)

// GateEvents are the events of all gates.
func (t *Telemetry) GateEvents() gate.Events {
	return gate.Events{
		Counts: func(kind string) *gate.Counts { return t.gateEntries[kind] },
		Entered: func(ctx context.Context, e gate.Entry) {
			trace.SpanFromContext(ctx).AddEvent("gate.enter",
				trace.WithAttributes(attribute.String("gate", e.Kind), attribute.String("holder", string(e.Holder)), attribute.Bool("refused", e.Refused)))
		},
		Left: t.gateLeft, LongStay: longHold,
		CloseStarted: t.gateCloseStarted,
		CloseWaiting: t.gateCloseWaiting,
		CloseEnded:   t.gateCloseEnded,
		Misused: func(m gate.Misuse) {
			t.counts.gateMisuse.WithLabelValues(string(m.Misuse)).Inc()
			t.log.LogAttrs(context.Background(), slog.LevelError, "gate misused, this is a bug", slog.String("gate", m.Kind),
				slog.String("name", m.Name), slog.String("misuse", string(m.Misuse)), slog.String("holder", string(m.Holder)))
		},
	}
}

// gateEntries are the entries of all gates that there are and were, by their kind. They are counted where they happen, and
// pulled: a gate is entered a hundred thousand times a second.
type gateEntries map[string]*gate.Counts

func newGateEntries() gateEntries {
	e := gateEntries{}
	for _, kind := range gateKinds {
		e[kind] = new(gate.Counts)
	}
	return e
}

// entryTotals collects them.
type entryTotals struct {
	entries gateEntries
	desc    *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (e *entryTotals) Describe(ch chan<- *prometheus.Desc) { ch <- e.desc }

// Collect implements prometheus.Collector.
func (e *entryTotals) Collect(ch chan<- prometheus.Metric) {
	for kind, counts := range e.entries {
		ch <- prometheus.MustNewConstMetric(e.desc, prometheus.CounterValue, float64(counts.Entered()), kind, "entered")
		ch <- prometheus.MustNewConstMetric(e.desc, prometheus.CounterValue, float64(counts.Refused()), kind, "refused")
	}
}

// gateLeft shows long stays in the trace of whoever stayed.
func (t *Telemetry) gateLeft(e gate.Exit) {
	link, ok := linkTo(e.Trace)
	if !ok {
		return
	}
	stay := gate.HolderInfo{Name: e.Holder, Since: e.Since, Trace: e.Trace}
	t.holdSpan(link.SpanContext, e.Kind, e.Name, t.named(e.Kind, e.Name, []gate.HolderInfo{stay})[0])
}

// closingKey finds the closing of a close's context.
type closingKey struct{}

// closing is a close under way. Only the goroutine that closes uses it.
type closing struct {
	shown map[gate.Trace]bool // the holders whose traces show that they are waited for

	late bool // as it was logged last
	log  Seldom
}

// due reports whether it is to be logged now: at first, when it becomes late, and then ever more seldom.
func (c *closing) due(waited time.Duration) bool {
	was := c.late
	c.late = waited >= lateClose
	return c.log.Due(waited, c.late != was)
}

// showHolder makes the trace of a holder that is waited for one that can be looked at: the spans of whoever is stuck have not
// ended, and a link would lead nowhere.
func (t *Telemetry) showHolder(c *closing, w gate.CloseWait, of gate.Trace, h timeline.GateHolder) {
	link, ok := linkTo(of)
	if !ok || c.shown[of] {
		return
	}
	c.shown[of] = true
	t.holdSpan(link.SpanContext, w.Kind, w.Name, h)
}

// holdSpan is a child of whoever entered.
func (t *Telemetry) holdSpan(of trace.SpanContext, kind, name string, h timeline.GateHolder) {
	ctx := trace.ContextWithRemoteSpanContext(context.Background(), of)
	_, span := t.startAt(ctx, "gate.hold", h.Since, trace.WithAttributes(t.gateAttributes(kind, name)...),
		trace.WithAttributes(attribute.String("holder", h.Name)))
	if h.File != "" {
		span.SetAttributes(attribute.String("file", h.File))
	}
	if h.Client != "" {
		span.SetAttributes(attribute.String("client", h.Client))
	}
	span.End()
}

func (t *Telemetry) gateCloseStarted(ctx context.Context, s gate.CloseStart) context.Context {
	of := gateScope(s.Kind, s.Name)
	ctx = WithTimeline(ctx, of.tenant, of.timeline)
	ctx = context.WithValue(ctx, closingKey{}, &closing{shown: map[gate.Trace]bool{}})
	ctx, _ = t.tracer.Start(ctx, "gate.close", //nolint:spancheck // gateCloseEnded ends it
		trace.WithAttributes(always()), trace.WithAttributes(t.gateAttributes(s.Kind, s.Name)...))
	return ctx
}

// gateCloseWaiting names those inside. A span that ends at once is seen while the close is stuck.
func (t *Telemetry) gateCloseWaiting(ctx context.Context, w gate.CloseWait) {
	first := w.Holders[:min(len(w.Holders), maxLinks)]
	named := t.named(w.Kind, w.Name, first)
	_, span := t.tracer.Start(ctx, "gate.close.wait",
		trace.WithAttributes(always(), attribute.Int("holder_count", len(w.Holders)), attribute.StringSlice("holders", holderNames(named))),
		trace.WithAttributes(t.gateAttributes(w.Kind, w.Name)...),
		trace.WithLinks(holderLinks(first)...))
	if len(w.Holders) > 0 {
		span.SetAttributes(attribute.Float64("oldest_age", time.Since(w.Holders[0].Since).Seconds()))
	}
	span.End()
	c, ok := ctx.Value(closingKey{}).(*closing)
	if !ok {
		return // it was not told when it began
	}
	for i, h := range named {
		t.showHolder(c, w, first[i].Trace, h)
	}
	if !c.due(w.Waited) {
		return
	}
	level := slog.LevelInfo
	if c.late {
		level = slog.LevelWarn
	}
	t.log.LogAttrs(ctx, level, "gate waits for those inside", slog.String("gate", w.Kind), slog.String("name", w.Name),
		slog.Duration("waited", w.Waited), slog.Int("holders", len(w.Holders)), slog.String("inside", strings.Join(holderNames(named), ", ")))
}

func (t *Telemetry) gateCloseEnded(ctx context.Context, e gate.CloseEnd) {
	outcome := "complete"
	if e.Err != nil {
		outcome = "given_up"
	}
	t.counts.gateCloses.WithLabelValues(e.Kind, outcome).Inc()
	observe(ctx, t.counts.gateCloseDuration.WithLabelValues(e.Kind), e.Waited.Seconds())
	span := trace.SpanFromContext(ctx)
	fail(span, e.Err)
	span.End()
	if ce := new(gate.CloseError); errors.As(e.Err, &ce) {
		inside := t.named(e.Kind, e.Name, ce.Holders[:min(len(ce.Holders), maxLinks)])
		t.log.LogAttrs(ctx, slog.LevelError, "gate not closed in time", slog.String("gate", e.Kind), slog.String("name", e.Name),
			slog.Duration("waited", e.Waited), slog.Any("error", e.Err), slog.String("inside", strings.Join(holderNames(inside), ", ")))
	}
}

// gateAttributes tell whose gate it is.
func (t *Telemetry) gateAttributes(kind, name string) []attribute.KeyValue {
	attrs := []attribute.KeyValue{attribute.String("gate", kind)}
	if s := gateScope(kind, name); s.tenant != "" {
		attrs = append(attrs, t.idAttributes(s.id())...)
	}
	return attrs
}

// gateScope is the tenant, and the timeline, whose gate it is; a node's own gates have neither.
func gateScope(kind, name string) scope {
	if kind == "http" {
		return scope{}
	}
	tenant, timelineName, _ := strings.Cut(name, "/")
	return scope{tenant, timelineName}
}

// named tells what is known of those inside a gate.
func (t *Telemetry) named(kind, name string, holders []gate.HolderInfo) []timeline.GateHolder {
	src := t.watched()
	if src == nil {
		return timeline.NameHolders(holders)
	}
	return src.NameHolders(gateScope(kind, name).id(), holders)
}

// holderNames are holders with their ages, for people.
func holderNames(holders []timeline.GateHolder) []string {
	names := make([]string, len(holders))
	for i, h := range holders {
		names[i] = h.String() + " (" + time.Since(h.Since).Round(10*time.Millisecond).String() + ")"
	}
	return names
}

func holderLinks(holders []gate.HolderInfo) []trace.Link {
	var links []trace.Link
	for _, h := range holders {
		if link, ok := linkTo(h.Trace); ok {
			links = append(links, link)
		}
	}
	return links
}
