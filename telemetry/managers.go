package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

// slowIteration is the duration of an iteration that always has a span.
const slowIteration = 100 * time.Millisecond

// ManagerEvents are the events of a timeline's manager.
func (t *Telemetry) ManagerEvents(id timeline.ID) manager.Events {
	s := t.scoped(id)
	return manager.Events{
		Planned: s.planned, Iterated: s.iterated, ActiveChanged: s.activeChanged, OffloaderChanged: s.offloaderChanged,
		SaveFailed: s.saveFailed, Panicked: s.managerPanicked,
	}
}

// planned opens the iteration's span before anything is done, backdated to its begin: what the plan
// leads to becomes its children. One that acts is always there, one that does nothing by chance.
func (s *scopedEvents) planned(ctx context.Context, p manager.Planned) context.Context {
	ctx = WithTimeline(ctx, string(s.id.Tenant), s.id.Name)
	opts := []trace.SpanStartOption{trace.WithNewRoot()}
	if p.Plan.Acts() {
		opts = append(opts, trace.WithAttributes(always()))
	}
	if p.Reasons.Has(timeline.ReasonRequest) || p.Reasons.Has(timeline.ReasonStarted) {
		opts = append(opts, linksTo(s.asked.take()))
	}
	ctx, span := s.startAt(ctx, "manager.iteration", p.Began, opts...)
	s.turn.set(span.SpanContext())
	if span.IsRecording() {
		s.open = span
		span.SetAttributes(s.identity()...)
		span.SetAttributes(attribute.String("reason", p.Reasons.String()))
		addPlan(span, &p.Plan)
	}
	return ctx
}

// addPlan shows what was decided, each with its why.
func addPlan(span trace.Span, p *manager.Plan) {
	for _, d := range p.Tasks {
		if d.Action == manager.Start || d.Action == manager.Stop {
			span.AddEvent("task."+string(d.Action), trace.WithAttributes(
				attribute.String("task", string(d.Task)), attribute.String("why", string(d.Why))))
		}
	}
	if p.ActiveChanged {
		span.AddEvent("active.changed", trace.WithAttributes(attribute.Bool("active", p.Active), attribute.String("why", string(p.ActiveWhy))))
	}
	if p.TurnChanged {
		span.AddEvent("offloader.changed", trace.WithAttributes(
			attribute.String("to", p.Turn.Node), attribute.Bool("mine", p.Turn.Mine), attribute.String("why", string(p.Turn.Why))))
	}
	if p.Save {
		span.AddEvent("control.save", trace.WithAttributes(attribute.String("why", string(p.SaveWhy))))
	}
}

func (s *scopedEvents) iterated(ctx context.Context, i manager.Iteration) {
	outcome := outcomeOf(i.Acted)
	s.counts.iterations.WithLabelValues(i.Reasons.First().String(), outcome).Inc()
	observe(ctx, s.counts.iterationDuration.WithLabelValues(outcome), i.Duration.Seconds())
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() && i.Duration >= slowIteration {
		_, span = s.startAt(ctx, "manager.iteration", time.Now().Add(-i.Duration), trace.WithNewRoot(),
			trace.WithAttributes(always(), attribute.String("reason", i.Reasons.String())), trace.WithAttributes(s.identity()...))
	}
	span.SetAttributes(
		attribute.String("outcome", outcome),
		attribute.Float64("snapshot_seconds", i.Look.Seconds()),
		attribute.Float64("plan_seconds", i.Plan.Seconds()),
		attribute.Float64("apply_seconds", i.Apply.Seconds()),
	)
	span.End()
	s.open = nil
}

func outcomeOf(acted bool) string {
	if acted {
		return "acted"
	}
	return "noop"
}

func (s *scopedEvents) activeChanged(ctx context.Context, c manager.ActiveChange) {
	s.counts.activeChanges.Inc()
	s.log.LogAttrs(s.scope(ctx), slog.LevelDebug, "timeline activity changed", slog.Bool("active", c.Active), slog.String("why", string(c.Why)))
}

func (s *scopedEvents) saveFailed(ctx context.Context, f manager.SaveFailure) {
	level := slog.LevelDebug // it was said before
	if f.InARow == 1 {
		level = slog.LevelWarn
	}
	s.log.LogAttrs(s.scope(ctx), level, "control file not saved, will be tried again", slog.Any("error", f.Err),
		slog.Int("in_a_row", f.InARow), slog.Time("retry", f.Retry))
}

// managerPanicked ends the span of the iteration, which nobody else does.
func (s *scopedEvents) managerPanicked(ctx context.Context, p manager.Panic) {
	if s.open != nil {
		fail(s.open, p.Err)
		s.open.End()
		s.open = nil
	}
	s.log.LogAttrs(s.scope(ctx), slog.LevelError, "manager panicked, this is a bug", slog.Any("error", p.Err), stackOf(p.Err),
		slog.Int("in_a_row", p.InARow), slog.Duration("pause", p.Pause))
}

// stackOf is where a task or a manager panicked.
func stackOf(err error) slog.Attr {
	var pe *tasks.PanicError
	if errors.As(err, &pe) {
		return slog.String("stack", string(pe.Stack))
	}
	return slog.Attr{}
}

// scope marks a context as this timeline's.
func (s *scopedEvents) scope(ctx context.Context) context.Context {
	return WithTimeline(ctx, string(s.id.Tenant), s.id.Name)
}
