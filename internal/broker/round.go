package broker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// subjectPrefix has the version of what is said below it.
const subjectPrefix = "sluice.v1."

// Subject is where node from tells node to what it keeps.
func Subject(to, from string) string { return subjectPrefix + "status." + to + "." + from }

// GreetingSubject is where a node says that it is there.
func GreetingSubject(from string) string { return subjectPrefix + "greeting." + from }

// out is what a round needs of NATS.
type out interface {
	IsConnected() bool
	LastError() error
	MaxPayload() int64
	Publish(subject string, data []byte) error
}

// batch is a message to one node that is being filled.
type batch struct {
	subject  string
	buf      []byte
	statuses int
}

// rounds tells, at each tick and at each bell.
func (b *Broker) rounds(ctx context.Context, o out) {
	ticker := time.NewTicker(b.cfg.Interval)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ticker.C:
			b.sweep(ctx, n)
			b.round(ctx, o, b.due(n%b.cfg.RefreshEvery == 0))
			b.greet(ctx, o)
			b.askWhy(o)
		case <-b.bell:
			if kind := b.urgent(); kind != "" {
				b.round(ctx, o, kind)
			}
		case f := <-b.asked:
			f(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// askWhy asks NATS's client why it is not connected: of tries after the first it tells by itself only those that reached no
// server, and none where a certificate or the credentials are refused.
func (b *Broker) askWhy(o out) {
	if o.IsConnected() {
		return
	}
	if err := o.LastError(); err != nil {
		b.unreachable(err)
	}
}

// due decides what the round of a tick tells.
func (b *Broker) due(refresh bool) RoundKind {
	b.mu.Lock()
	defer b.mu.Unlock()
	if refresh || b.wantAll {
		return RoundAll
	}
	return RoundActive
}

// urgent decides what a round tells that does not wait for a tick. Many nodes that come at once cause one round of all
// timelines in an interval, not one each.
func (b *Broker) urgent() RoundKind {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.wantAll && time.Since(b.lastAll) >= b.cfg.Interval:
		return RoundAll
	case len(b.edges) > 0:
		return RoundEdges
	}
	return ""
}

// round makes one round. While NATS is away there is none: once it is back, a round tells all.
func (b *Broker) round(ctx context.Context, o out, kind RoundKind) {
	edges := b.takeEdges(kind)
	if !o.IsConnected() {
		return
	}
	ctx = b.cfg.Events.roundStarted(ctx, kind)
	began := time.Now()
	r := &round{Round: Round{Kind: kind}, b: b, out: o, limit: min(maxMessageBytes, int(o.MaxPayload()))}
	switch kind {
	case RoundActive:
		b.timelines.Active(func(s *Status) { r.tell(ctx, s, false) })
	case RoundAll:
		b.lastAll = began
		b.timelines.All(func(s *Status) { r.tell(ctx, s, true) })
	}
	// An edge that a round of the active ones tells again is harmless, and one that ended is not among them.
	for key := range edges {
		b.timelines.One(key, func(s *Status) { r.tell(ctx, s, true) })
	}
	for _, m := range b.batches {
		r.flush(ctx, m)
	}
	r.Duration = time.Since(began)
	b.cfg.Events.roundEnded(ctx, r.Round)
}

func (b *Broker) takeEdges(kind RoundKind) map[Key]struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if kind == RoundAll {
		b.wantAll = false
	}
	if len(b.edges) == 0 {
		return nil // the map stays whose it is: somebody may add to it at any time
	}
	edges := b.edges
	b.edges = make(map[Key]struct{})
	return edges
}

// round is one that is under way.
type round struct {
	Round
	b      *Broker
	out    out
	limit  int  // bytes of a message
	failed bool // NATS took one no more; said once
}

var errTooLong = errors.New("name is too long to be told")

// tell puts a status into the messages to those that keep the timeline.
func (r *round) tell(ctx context.Context, s *Status, introduce bool) {
	b := r.b
	r.Timelines++
	b.to = b.peers.keepers(s, introduce, b.to[:0])
	if len(b.to) == 0 {
		return
	}
	if len(s.Timeline) > maxTimelineBytes || len(s.Incarnation) > maxIncarnationBytes {
		b.reject(ctx, Rejection{Reason: Unsent, Err: fmt.Errorf("timeline %.200q: %w", s.Timeline, errTooLong)})
		return
	}
	b.scratch = appendStatus(b.scratch[:0], s)
	for _, node := range b.to {
		m := b.batches[node]
		if m == nil {
			m = &batch{subject: Subject(node, b.cfg.Node)}
			b.batches[node] = m
		}
		if m.statuses == maxStatuses || m.statuses > 0 && len(m.buf)+len(b.scratch) > r.limit {
			r.flush(ctx, m)
		}
		if m.statuses == 0 {
			b.sequence++
			m.buf = appendHeader(m.buf[:0], header{version, b.cfg.Node, b.started, b.sequence})
		}
		m.buf = append(m.buf, b.scratch...)
		m.statuses++
	}
}

func (r *round) flush(ctx context.Context, m *batch) {
	if m.statuses == 0 {
		return
	}
	m.statuses = 0
	if r.failed {
		return
	}
	if err := r.out.Publish(m.subject, m.buf); err != nil {
		r.failed = true // the rest would meet the same
		r.b.reject(ctx, Rejection{Reason: Unsent, Err: fmt.Errorf("tell %s: %w", m.subject, err)})
		return
	}
	r.Messages++
	r.Bytes += len(m.buf)
	r.b.counts.sent[KindStatus].Add(1)
}

// greet says to all that this node is there.
func (b *Broker) greet(ctx context.Context, o out) {
	if !o.IsConnected() {
		return
	}
	b.scratch = appendHeader(b.scratch[:0], header{version: version, node: b.cfg.Node, started: b.started})
	if err := o.Publish(GreetingSubject(b.cfg.Node), b.scratch); err != nil {
		b.reject(ctx, Rejection{Reason: Unsent, Err: fmt.Errorf("greet the other nodes: %w", err)})
		return
	}
	b.counts.sent[KindGreeting].Add(1)
}

// sweep notices who is silent, and forgets what is old.
func (b *Broker) sweep(ctx context.Context, n int) {
	now := time.Now()
	for _, id := range b.peers.fallSilent(now) {
		b.cfg.Events.peerChanged(ctx, PeerChange{Node: id, Silent: true})
		b.update(b.peers.keptBy(id))
	}
	if n%b.cfg.RefreshEvery != 0 {
		return
	}
	var gone []Key
	for _, key := range b.peers.keys() {
		if _, ok := b.timelines.Keeps(key); !ok {
			gone = append(gone, key)
		}
	}
	b.peers.forget(gone, now)
	if len(b.batches) > maxNodes {
		clear(b.batches) // of nodes that are long forgotten, too
	}
}

func (b *Broker) update(keys []Key) {
	for _, key := range keys {
		b.timelines.PeerUpdate(key)
	}
}
