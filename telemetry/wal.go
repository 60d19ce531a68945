package telemetry

import (
	"context"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
)

const (
	// slowSync is the duration of a sync, and of an acknowledgement, that always has a span.
	slowSync = 100 * time.Millisecond
	// syncSpanEvery is how often a sync of a timeline that was quick and successful may have one.
	syncSpanEvery = time.Second
)

// WALEvents are the events of a timeline's log.
func (t *Telemetry) WALEvents(id timeline.ID) wal.Events {
	s := t.scoped(id)
	return wal.Events{
		Synced: s.synced,
		SegmentComplete: func(tli pg.TLI, n pg.SegNo) {
			s.log.LogAttrs(s.ctx(), slog.LevelDebug, "segment complete", slog.Any("tli", tli), slog.Uint64("segment", uint64(n)))
		},
		Poisoned: func(p *wal.Poison) {
			s.log.LogAttrs(s.ctx(), slog.LevelError, "log is poisoned: a write or a sync failed", slog.Any("error", p.Err), slog.Any("vouched", p.Vouched.String()))
		},
		Recovered: func(at pg.Position) {
			s.log.LogAttrs(s.ctx(), slog.LevelInfo, "log takes WAL again", slog.String("position", at.String()))
		},
		Diverged: func(d wal.Diverged) {
			s.log.LogAttrs(s.ctx(), slog.LevelWarn, "WAL that the source's history does not have was set aside", slog.Any("tli", d.TLI),
				slog.String("from", d.From.String()), slog.String("to", d.To.String()), slog.String("path", d.Path))
		},
		Removed: s.removed,
	}
}

// removed shows a removal that is over, in a trace of its own.
func (s *scopedEvents) removed(r wal.Removal) {
	s.counts.removedSegments.Add(float64(r.Segments))
	end := time.Now()
	ctx, span := s.startAt(s.ctx(), "segment.remove", end.Add(-r.Duration), trace.WithNewRoot(), linksTo(s.spawn(manager.Remove)),
		trace.WithAttributes(always(), attribute.String("below", r.Below.String()), attribute.Int("segments", r.Segments), attribute.Int64("bytes", r.Bytes)),
		trace.WithAttributes(s.identity()...))
	fail(span, r.Err)
	span.End(trace.WithTimestamp(end))
	if r.Segments > 0 {
		s.log.LogAttrs(ctx, slog.LevelInfo, "local segments removed", slog.Int("segments", r.Segments), slog.Int64("bytes", r.Bytes))
	}
}

// ctx is for log records of events that have no context.
func (s *scopedEvents) ctx() context.Context { return s.scope(context.Background()) }

// synced runs once for each sync, thousands of times a second: a span only where it may be looked for.
func (s *scopedEvents) synced(i wal.SyncInfo) {
	ctx := context.Background()
	if s.wantsSyncSpan(i) {
		ctx = s.syncSpan(i)
	}
	observe(ctx, s.counts.fsyncDuration, i.Duration.Seconds())
	if i.Err != nil {
		s.counts.fsyncFailures.Inc()
		return
	}
	observe(ctx, s.counts.fsyncBatch, float64(i.Bytes))
	s.counts.receivedBytes.Add(float64(i.Bytes))
}

func (s *scopedEvents) wantsSyncSpan(i wal.SyncInfo) bool {
	if s.provider == nil {
		return false
	}
	last := s.lastSync.Load()
	return i.Err != nil || i.Duration >= slowSync || last == nil || time.Since(last.at) >= syncSpanEvery
}

func (s *scopedEvents) syncSpan(i wal.SyncInfo) context.Context {
	opts := []trace.SpanStartOption{trace.WithNewRoot(), linksTo(s.spawn(manager.Receive), s.session.get())}
	if i.Err != nil || i.Duration >= slowSync {
		opts = append(opts, trace.WithAttributes(always()))
	}
	end := time.Now()
	ctx, span := s.startAt(context.Background(), "wal.fsync", end.Add(-i.Duration), opts...)
	span.SetAttributes(s.identity()...)
	span.SetAttributes(attribute.Int64("bytes", i.Bytes), attribute.String("flush", i.Flush.String()))
	fail(span, i.Err)
	span.End(trace.WithTimestamp(end))
	s.lastSync.Store(&tracedSync{flush: i.Flush, span: span.SpanContext(), at: end})
	return ctx
}

// ReplicationEvents are the events of a timeline's receiver.
func (t *Telemetry) ReplicationEvents(id timeline.ID) replication.Events {
	s := t.scoped(id)
	return replication.Events{
		Connected: s.sourceConnected,
		SlotMade: func(slot replication.Slot) {
			s.log.LogAttrs(s.ctx(), slog.LevelInfo, "replication slot created on the source",
				slog.String("slot", slot.Name), slog.String("why", string(slot.Made)), slog.String("restart_lsn", slot.RestartLSN.String()))
		},
		Adopted: func(at pg.Position) {
			s.log.LogAttrs(s.ctx(), slog.LevelInfo, "timeline begins; base backups count from here", slog.String("position", at.String()))
		},
		Followed: func(f replication.Followed) {
			s.log.LogAttrs(s.ctx(), slog.LevelInfo, "source has a new TLI, followed", slog.Any("from", f.From), slog.Any("to", f.To), slog.String("fork", f.Fork.String()))
		},
		Refused: func(err *replication.RefusedError) {
			s.counts.sourceRefused.WithLabelValues(string(err.Reason)).Inc()
		},
		Acked: s.acked,
	}
}

func (s *scopedEvents) sourceConnected(c replication.Connected) {
	s.connected.Store(true)
	s.forgive(manager.Receive)
	s.counts.sourceConnects.WithLabelValues("connected").Inc()
	_, span := s.tracer.Start(context.Background(), "receive.session", trace.WithNewRoot(), linksTo(s.spawn(manager.Receive)),
		trace.WithAttributes(always(), attribute.String("start", c.Start.String()), attribute.Int("server_version", c.Source.ServerVersion)),
		trace.WithAttributes(s.identity()...))
	span.End()
	s.session.set(span.SpanContext())
	s.log.LogAttrs(s.ctx(), slog.LevelInfo, "source connected, WAL is streamed", slog.String("start", c.Start.String()),
		slog.Int("server_version", c.Source.ServerVersion), slog.Uint64("system_identifier", c.Source.SystemID))
}

// acked points to the span of the sync that allowed the acknowledgement, if it has one.
func (s *scopedEvents) acked(a replication.Ack) {
	ctx := context.Background()
	if last := s.lastSync.Load(); last != nil && last.flush == a.Position {
		ctx = trace.ContextWithSpanContext(ctx, last.span)
	}
	if a.Duration >= slowSync && s.provider != nil {
		end := time.Now()
		var span trace.Span
		ctx, span = s.startAt(ctx, "wal.ack", end.Add(-a.Duration), trace.WithAttributes(always(),
			attribute.Int64("bytes", a.Bytes), attribute.String("flush", a.Position.String())), trace.WithAttributes(s.identity()...))
		span.End(trace.WithTimestamp(end))
	}
	observe(ctx, s.counts.ackDuration, a.Duration.Seconds())
}
