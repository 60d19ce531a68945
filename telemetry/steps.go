package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicewal/sluice/internal/timeline"
)

// operationSteps is an operation under way with its present step.
type operationSteps struct {
	key operationKey
	ctx context.Context //nolint:containedctx // of the operation's span, for the spans of its steps

	mu   sync.Mutex
	step trace.Span // guarded by mu; nil: none is under way
}

func (t *Telemetry) beginSteps(ctx context.Context, key operationKey) *operationSteps {
	steps := &operationSteps{key: key, ctx: ctx}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.steps[key] = steps
	return steps
}

// endSteps ends the last step. Where a second operation of the same name has begun meanwhile, the steps are that one's.
func (t *Telemetry) endSteps(steps *operationSteps) {
	t.mu.Lock()
	if t.steps[steps.key] == steps {
		delete(t.steps, steps.key)
	}
	t.mu.Unlock()
	steps.next(nil)
}

// underWay returns the steps of an operation; nil: there is none. A tenant's are its own, also where its timelines show them.
func (t *Telemetry) underWay(id timeline.ID, name string) *operationSteps {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.steps[operationKey{id, name}]
}

// OperationStep shows the steps of an operation as children of its span.
func (t *Telemetry) OperationStep(id timeline.ID, name, step string) {
	steps := t.underWay(id, name)
	if steps == nil {
		return
	}
	t.log.LogAttrs(steps.ctx, slog.LevelDebug, "lifecycle step", slog.String("operation", name), slog.String("step", step))
	_, span := t.tracer.Start(steps.ctx, "lifecycle.step", trace.WithAttributes(always(), //nolint:spancheck // next ends it
		attribute.String("operation", name), attribute.String("step", step)), trace.WithAttributes(t.idAttributes(id)...))
	steps.next(span)
} //nolint:spancheck // see above

// StepWaits shows a step that takes long while it does.
func (t *Telemetry) StepWaits(id timeline.ID, name, step string, age time.Duration) {
	ctx := context.Background()
	if steps := t.underWay(id, name); steps != nil {
		ctx = steps.ctx
	}
	_, span := t.tracer.Start(ctx, "lifecycle.step.wait", trace.WithAttributes(always(),
		attribute.String("operation", name), attribute.String("step", step), attribute.Float64("age", age.Seconds())),
		trace.WithAttributes(t.idAttributes(id)...))
	span.End()
}

// PhaseWaits shows a manager that is long in one phase while it is, with a link to the iteration that it may be stuck in.
func (t *Telemetry) PhaseWaits(id timeline.ID, phase string, age time.Duration) {
	s := t.scoped(id)
	_, span := t.tracer.Start(context.Background(), "manager.phase.wait", trace.WithNewRoot(), linksTo(s.turn.get()),
		trace.WithAttributes(always(), attribute.String("phase", phase), attribute.Float64("age", age.Seconds())),
		trace.WithAttributes(s.identity()...))
	span.End()
}

// Stuck opens the span of the diagnostics that are written because something is stuck.
func (t *Telemetry) Stuck(ctx context.Context, what, which, doing string, since time.Time) (_ context.Context, end func()) {
	ctx, span := t.tracer.Start(ctx, "node.stuck", trace.WithNewRoot(), trace.WithAttributes(always(),
		attribute.String("what", what), attribute.String("which", which), attribute.String("doing", doing),
		attribute.Float64("age", time.Since(since).Seconds())))
	return ctx, func() { span.End() }
}

// next ends the present step.
func (s *operationSteps) next(span trace.Span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.step != nil {
		s.step.End()
	}
	s.step = span
}
