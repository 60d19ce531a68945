package telemetry

import (
	"context"
	"errors"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

// TaskEvents are the events of a timeline's tasks.
func (t *Telemetry) TaskEvents(id timeline.ID) tasks.Events {
	s := t.scoped(id)
	return tasks.Events{Started: s.taskStarted, Ended: s.taskEnded}
}

// spawnKey finds the span of the task's start in its context.
type spawnKey struct{}

func spawnOf(ctx context.Context) trace.SpanContext {
	sc, _ := ctx.Value(spawnKey{}).(trace.SpanContext)
	return sc
}

// taskStarted shows the start as a short span. A task may run for days: its own work is not a child of
// that span, but linked to it, so that each unit of it is a trace that ends.
func (s *scopedEvents) taskStarted(ctx context.Context, start tasks.Start) context.Context {
	name := string(start.Name)
	s.counts.taskSpawns.WithLabelValues(name).Inc()
	if start.Attempt > 1 {
		s.counts.taskRestarts.WithLabelValues(name).Inc()
	}
	if start.Name == manager.Receive {
		s.connected.Store(false)
	}
	ctx = s.scope(ctx)
	_, span := s.tracer.Start(ctx, "task.spawn", trace.WithAttributes(always(),
		attribute.String("task", name), attribute.Int("attempt", start.Attempt)), trace.WithAttributes(s.identity()...))
	span.End()
	s.spawned(start.Name, span.SpanContext())
	ctx = trace.ContextWithSpanContext(ctx, trace.SpanContext{})
	return context.WithValue(ctx, spawnKey{}, span.SpanContext())
}

func (s *scopedEvents) taskEnded(ctx context.Context, end tasks.End) {
	name := string(end.Name)
	s.counts.taskEnds.WithLabelValues(name, string(end.Outcome)).Inc()
	s.counts.taskDuration.WithLabelValues(name).Observe(end.Ran.Seconds())
	s.taskEndSpan(ctx, end)
	if end.Name == manager.Receive && end.Outcome == tasks.Failed && !s.connected.Load() {
		s.counts.sourceConnects.WithLabelValues(connectOutcome(end.Err)).Inc()
	}
	s.logTaskEnd(ctx, end)
}

func (s *scopedEvents) taskEndSpan(ctx context.Context, end tasks.End) {
	_, span := s.tracer.Start(ctx, "task.end", trace.WithNewRoot(),
		trace.WithAttributes(always(), attribute.String("task", string(end.Name)), attribute.Int("attempt", end.Attempt),
			attribute.String("outcome", string(end.Outcome)), attribute.Float64("ran_seconds", end.Ran.Seconds())),
		trace.WithAttributes(s.identity()...), linksTo(spawnOf(ctx)))
	if end.Outcome.Bad() {
		span.SetAttributes(attribute.String("error.type", errorType(end)))
		fail(span, end.Err)
	}
	span.End()
}

// errorType is the error's class, from a closed list.
func errorType(end tasks.End) string {
	if end.Outcome == tasks.Panicked {
		return "panic"
	}
	if class := connectOutcome(end.Err); class != "error" {
		return class
	}
	if claimed := new(backup.ClaimedError); errors.As(end.Err, &claimed) {
		return "claimed"
	}
	return storeFailure(end.Err)
}

// connectOutcome tells failures to stream apart.
func connectOutcome(err error) string {
	refused, missing := new(replication.RefusedError), new(replication.MissingWALError)
	switch {
	case errors.As(err, &refused):
		return "refused"
	case errors.As(err, &missing):
		return "missing_wal"
	}
	return "error"
}

// logTaskEnd says what a person should know. A failure that repeats itself is said once a minute.
func (s *scopedEvents) logTaskEnd(ctx context.Context, end tasks.End) {
	attrs := []slog.Attr{slog.String("task", string(end.Name)), slog.String("outcome", string(end.Outcome)), slog.Duration("ran", end.Ran)}
	switch {
	case end.Outcome == tasks.Panicked:
		s.log.LogAttrs(ctx, slog.LevelError, "task panicked, this is a bug", append(attrs, slog.Any("error", end.Err), stackOf(end.Err))...)
	case end.Outcome == tasks.Failed && s.news(end.Name, end.Err.Error()):
		s.log.LogAttrs(ctx, failureLevel(end), "task failed, will be tried again", append(attrs, slog.Any("error", end.Err))...)
	default:
		s.log.LogAttrs(ctx, slog.LevelDebug, "task ended", attrs...)
	}
}

// failureLevel: a refusal lasts until somebody acts. What is wrong with an object was said where it was found.
func failureLevel(end tasks.End) slog.Level {
	switch errorType(end) {
	case "refused", "missing_wal", "claimed", "denied", "no_bucket", "not_stored":
		return slog.LevelError
	}
	return slog.LevelWarn
}
