package telemetry

import (
	"context"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicewal/sluice/internal/broker"
	"github.com/sluicewal/sluice/internal/manager"
)

// slowRound is the duration of a round that always has a span.
const slowRound = 100 * time.Millisecond

// BrokerStats is the broker as the node uses it.
type BrokerStats struct {
	broker.Stats
	Nodes []broker.Node // the other nodes that were heard of lately
}

// BrokerEvents are the events of the node's broker; a node without one does not ask for them, and has none of their series.
func (t *Telemetry) BrokerEvents() broker.Events {
	t.counts.brokerRound.WithLabelValues()
	repeated := &reporter{}
	return broker.Events{
		RoundEnded: t.roundEnded,
		Connected: func(ctx context.Context, c broker.Connection) {
			if c.Up {
				t.log.LogAttrs(ctx, slog.LevelInfo, "broker is connected: other nodes can be heard")
				return
			}
			t.log.LogAttrs(ctx, slog.LevelWarn, "broker is lost: other nodes are not heard; commits go on, and what their word is needed for stays where it was",
				slog.Any("error", c.Err))
		},
		PeerChanged: func(ctx context.Context, c broker.PeerChange) {
			if c.Silent {
				t.log.LogAttrs(ctx, slog.LevelWarn, "another node is silent: it counts as gone", slog.String("peer", c.Node))
				return
			}
			t.log.LogAttrs(ctx, slog.LevelInfo, "another node is heard", slog.String("peer", c.Node))
		},
		Rejected: func(ctx context.Context, r broker.Rejection) {
			if level := rejectionLevel(r.Reason); level > slog.LevelDebug && repeated.due(string(r.Reason)+" "+r.Node, time.Now()) {
				t.rejected(ctx, level, r)
			}
		},
	}
}

func (t *Telemetry) rejected(ctx context.Context, level slog.Level, r broker.Rejection) {
	if r.Reason == broker.Refused {
		t.log.LogAttrs(ctx, level, "broker refuses this node, or is not reached: other nodes are not heard, and commits go on", slog.Any("error", r.Err))
		return
	}
	t.log.LogAttrs(ctx, level, "message between nodes was not used, or not sent",
		slog.String("reason", string(r.Reason)), slog.String("peer", r.Node), slog.Any("error", r.Err))
}

// rejectionLevel is below info for what any network does to messages.
func rejectionLevel(r broker.Reason) slog.Level {
	switch r {
	case broker.Late, broker.Double, broker.EarlierProcess:
		return slog.LevelDebug
	case broker.OwnName, broker.OtherCluster, broker.WrongSender:
		return slog.LevelError // somebody must put the configuration right
	}
	return slog.LevelWarn
}

// roundEnded shows a round as a span of its own, backdated: there is one a second, and nobody looks for the quick ones.
func (t *Telemetry) roundEnded(ctx context.Context, r broker.Round) {
	opts := []trace.SpanStartOption{trace.WithNewRoot()}
	if r.Duration >= slowRound {
		opts = append(opts, trace.WithAttributes(always()))
	}
	ctx, span := t.startAt(ctx, "broker.round", time.Now().Add(-r.Duration), opts...)
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String("kind", string(r.Kind)), attribute.Int("timelines", r.Timelines),
			attribute.Int("messages", r.Messages), attribute.Int("bytes", r.Bytes),
		)
	}
	span.End()
	observe(ctx, t.counts.brokerRound.WithLabelValues(), r.Duration.Seconds())
}

// broker emits what the broker has counted.
func (e *emission) broker(b *BrokerStats) {
	e.value("broker_connected", number(b.Connected))
	for kind, n := range b.Sent {
		e.value("broker_messages_total", float64(n), "sent", string(kind))
	}
	for kind, n := range b.Received {
		e.value("broker_messages_total", float64(n), "received", string(kind))
	}
	for reason, n := range b.Rejected {
		e.value("broker_errors_total", float64(n), string(reason))
	}
	for _, n := range b.Nodes {
		e.value("broker_last_message_timestamp_seconds", float64(n.Heard.UnixMilli())/1000, n.ID)
	}
}

func (s *scopedEvents) offloaderChanged(ctx context.Context, c manager.OffloaderChange) {
	s.log.LogAttrs(s.scope(ctx), slog.LevelInfo, "the turn to back up the timeline has changed", slog.String("from", c.From),
		slog.String("to", c.To), slog.Bool("mine", c.Mine), slog.String("why", string(c.Why)))
}
