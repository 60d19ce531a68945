package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// receiveQueue is how many messages may wait to be read. Those that find no room are dropped by NATS, and said: the
// next round brings what is newer.
const receiveQueue = 256

// listen reads what comes until ctx ends.
func (b *Broker) listen(ctx context.Context, msgs <-chan *nats.Msg) {
	var news []Key
	for {
		select {
		case m := <-msgs:
			news = b.take(ctx, m.Subject, m.Data, news[:0])
		case <-ctx.Done():
			return
		}
	}
}

// take reads one message. news is memory to be used again.
func (b *Broker) take(ctx context.Context, subject string, data []byte, news []Key) []Key {
	in, now := &b.in, time.Now()
	if err := in.read(data); err != nil {
		reason := Malformed
		if errors.Is(err, errVersion) {
			reason = OtherVersion
		}
		b.reject(ctx, Rejection{Reason: reason, Node: senderOf(subject), Err: err})
		return news
	}
	if sender := senderOf(subject); in.node != sender {
		b.reject(ctx, Rejection{Reason: WrongSender, Node: sender, Err: fmt.Errorf("the message is in the name of node %q", in.node)})
		return news
	}
	if in.node == b.cfg.Node {
		if in.started != b.started { // else it is an echo, which says nothing
			b.reject(ctx, Rejection{Reason: OwnName, Node: in.node, Err: errOwnName})
		}
		return news
	}
	b.counts.received[in.kind()].Add(1)
	from, isNew, reason := b.peers.greet(&in.header, now)
	if reason != "" {
		b.reject(ctx, Rejection{Reason: reason, Node: in.node})
	}
	if from == nil {
		return news
	}
	if isNew {
		b.welcome(ctx, from.id)
	}
	b.choose(ctx, in)
	news = b.peers.hear(from, &in.header, in.said, now, news)
	b.update(news)
	return news
}

var errOwnName = errors.New("another process uses this node's id: each node needs a node.id of its own")

// senderOf is the last token of a subject.
func senderOf(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }

func (m *message) kind() Kind {
	if m.sequence == 0 {
		return KindGreeting
	}
	return KindStatus
}

// welcome tells a node that was not heard of all that it may not know, and the timelines that it can be heard again.
func (b *Broker) welcome(ctx context.Context, id string) {
	b.cfg.Events.peerChanged(ctx, PeerChange{Node: id})
	b.tellAll()
	b.update(b.peers.keptBy(id))
}

// choose takes the key from what is said about timelines that this node does not keep, or that are another cluster's.
func (b *Broker) choose(ctx context.Context, in *message) {
	b.peers.resolve(in.said)
	for i := range in.said {
		s := &in.said[i].status
		systemID, ok := b.timelines.Keeps(s.Key)
		if ok && systemID != 0 && s.SystemID != 0 && systemID != s.SystemID {
			ok = false
			b.reject(ctx, Rejection{Reason: OtherCluster, Node: in.node, Err: fmt.Errorf(
				"timeline %s: its system identifier is %d here and %d there", s.Timeline, systemID, s.SystemID)})
		}
		if !ok {
			s.Key = Key{}
		}
	}
}
