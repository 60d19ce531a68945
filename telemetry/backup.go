package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicewal/sluice/internal/backup"
)

// slowUpload is the duration of an upload that always has a span.
const slowUpload = 10 * time.Second

// storeFailures are the classes of what goes wrong with object storage; the list is closed.
var storeFailures = []string{"conflict", "damaged", "denied", "no_bucket", "not_stored", "cut", "error"}

// uploadOutcomes are how uploads end.
var uploadOutcomes = append([]string{"created", "present", "cancelled"}, storeFailures...)

// BackupEvents are the events of the node's object store; a node without one does not ask for them, and has none of their
// series. Which timeline the work is for, its context says.
func (t *Telemetry) BackupEvents() backup.Events {
	t.counts.initialiseBackup()
	return backup.Events{
		Operation: func(ctx context.Context, o backup.Operation) {
			observe(ctx, t.counts.storeOperation.WithLabelValues(o.Name, string(o.Outcome)), o.Duration.Seconds())
		},
		UploadStarted: t.uploadStarted,
		UploadEnded:   t.uploadEnded,
		Conflict: func(ctx context.Context, c *backup.ConflictError) {
			t.counts.backupConflicts.WithLabelValues().Inc()
			t.log.LogAttrs(ctx, slog.LevelError, "object storage has other bytes under this name, nothing was overwritten",
				slog.String("key", c.Key), slog.String("here", c.Ours), slog.String("there", c.Theirs))
		},
		Damaged: func(ctx context.Context, d *backup.DamagedError) {
			t.counts.damagedObjects.WithLabelValues().Inc()
			t.log.LogAttrs(ctx, slog.LevelError, "object is damaged, it is kept and does not count as there",
				slog.String("key", d.Key), slog.String("reason", d.Reason))
		},
		Retried: func(ctx context.Context, r backup.Retry) {
			t.log.LogAttrs(ctx, slog.LevelWarn, "upload was cut, and begins again", slog.Any("tli", r.TLI),
				slog.Uint64("segment", uint64(r.SegNo)), slog.Int("attempt", r.Attempt), slog.Any("error", r.Err))
		},
	}
}

// uploadStarted opens the span that the upload's operations belong to.
func (t *Telemetry) uploadStarted(ctx context.Context, s backup.UploadStart) context.Context {
	ctx, span := t.tracer.Start(ctx, "backup.segment", t.uploadLinks(ctx))
	if span.IsRecording() {
		span.SetAttributes(t.scopeAttributes(ctx)...)
		span.SetAttributes(uploadAttributes(s)...)
	}
	return ctx
}

func (t *Telemetry) uploadEnded(ctx context.Context, e backup.UploadEnd) {
	outcome := uploadOutcome(ctx, e)
	t.counts.upload(outcome, e)
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() && wantsUploadSpan(outcome, e.Duration) {
		span = t.lateUploadSpan(ctx, e)
	}
	span.SetAttributes(attribute.String("outcome", outcome), attribute.Bool("created", e.Created), attribute.Int64("stored_bytes", e.Stored))
	if outcome != "cancelled" {
		fail(span, e.Err)
	}
	span.End()
	t.log.LogAttrs(ctx, slog.LevelDebug, "upload ended", slog.Any("tli", e.TLI), slog.Uint64("segment", uint64(e.SegNo)),
		slog.Bool("partial", e.Partial), slog.String("outcome", outcome), slog.Int64("stored_bytes", e.Stored))
}

// wantsUploadSpan: what a person would look for is there, whatever the ratio.
func wantsUploadSpan(outcome string, took time.Duration) bool {
	return took >= slowUpload || (outcome != "created" && outcome != "present" && outcome != "cancelled")
}

// lateUploadSpan makes the span of an upload that chance had left out.
func (t *Telemetry) lateUploadSpan(ctx context.Context, e backup.UploadEnd) trace.Span {
	start := backup.UploadStart{TLI: e.TLI, SegNo: e.SegNo, Partial: e.Partial, Raw: e.Raw}
	_, span := t.startAt(ctx, "backup.segment", time.Now().Add(-e.Duration), trace.WithNewRoot(), t.uploadLinks(ctx),
		trace.WithAttributes(always()), trace.WithAttributes(t.scopeAttributes(ctx)...), trace.WithAttributes(uploadAttributes(start)...))
	return span
}

// uploadLinks lead from an upload to the start of its task, and to the session that received the WAL, or the last one since.
func (t *Telemetry) uploadLinks(ctx context.Context) trace.SpanStartOption {
	var session trace.SpanContext
	if id := scopeOf(ctx).id(); id.Name != "" {
		session = t.scoped(id).session.get()
	}
	return linksTo(spawnOf(ctx), session)
}

func uploadAttributes(s backup.UploadStart) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.Int64("tli", int64(s.TLI)), attribute.Int64("segment", int64(s.SegNo)),
		attribute.Bool("partial", s.Partial), attribute.Int64("bytes", s.Raw),
	}
}

// scopeAttributes say for which timeline a context works.
func (t *Telemetry) scopeAttributes(ctx context.Context) []attribute.KeyValue {
	id := scopeOf(ctx).id()
	if id.Name == "" {
		return nil
	}
	return t.idAttributes(id)
}

func uploadOutcome(ctx context.Context, e backup.UploadEnd) string {
	switch {
	case e.Err == nil && e.Created:
		return "created"
	case e.Err == nil:
		return "present"
	case ctx.Err() != nil:
		return "cancelled"
	}
	return storeFailure(e.Err)
}

// storeFailure tells failures of object storage apart.
func storeFailure(err error) string {
	conflict, damaged := new(backup.ConflictError), new(backup.DamagedError)
	switch {
	case errors.As(err, &conflict):
		return "conflict"
	case errors.As(err, &damaged):
		return "damaged"
	case errors.Is(err, backup.ErrDenied):
		return "denied"
	case errors.Is(err, backup.ErrNoBucket):
		return "no_bucket"
	case errors.Is(err, backup.ErrNotStored):
		return "not_stored"
	case errors.Is(err, backup.ErrCut):
		return "cut"
	}
	return "error"
}
