package keeper

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sluicewal/sluice/internal/broker"
	"github.com/sluicewal/sluice/internal/timeline"
)

// brokerAgain is the pause after a broker could not be started.
const brokerAgain = 5 * time.Second

// link is this node's connection to the others.
type link struct {
	mu    sync.Mutex
	since time.Time // guarded by mu; when the connection was made or lost last
	stop  context.CancelFunc
	ended chan struct{} // closed when the broker has ended; nil: it was not started
}

// hearingSince is since when the others can be heard. While they cannot be, it is
// since when nobody waits for their word.
func (l *link) hearingSince() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.since
}

func (l *link) changed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since = time.Now()
}

// silentAfter is how long a node may say nothing until it counts as gone.
func (k *Keeper) silentAfter() time.Duration { return k.cfg.Limits.OrDefaults().Silent }

// newBroker makes the node's broker; nil where nobody could be reached through it:
// an embedded one that waits for nobody costs something, and has nobody to talk to.
func (k *Keeper) newBroker() *broker.Broker {
	cfg := k.cfg.Broker
	if !cfg.Reaches() {
		return nil
	}
	k.link.changed() // the managers run before the broker does, and are to listen before they take a turn
	cfg.Node, cfg.Log, cfg.SilentAfter = k.cfg.NodeID, k.cfg.Log, k.silentAfter()
	cfg.Events.Connected = k.connected
	return broker.New(cfg, toldTimelines{k})
}

// connected is told by the broker that its connection was made or lost.
func (k *Keeper) connected(ctx context.Context, c broker.Connection) {
	k.link.changed()
	if told := k.cfg.Broker.Events.Connected; told != nil {
		told(ctx, c)
	}
}

// startBroker runs the broker until the node stops. One that cannot be started is
// tried again: nothing that commits wait for needs it.
func (k *Keeper) startBroker() {
	if k.broker == nil {
		return
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(k.ctx)) // it outlives the timelines: their last words go out
	k.link.changed()
	k.link.stop, k.link.ended = stop, make(chan struct{})
	go func() { // stopBroker waits for it
		defer close(k.link.ended)
		k.runBroker(ctx)
	}()
}

func (k *Keeper) runBroker(ctx context.Context) {
	for ctx.Err() == nil {
		err := k.broker.Run(ctx)
		if ctx.Err() != nil {
			return
		}
		k.cfg.Log.LogAttrs(ctx, slog.LevelError, "broker cannot be started, and is tried again: the other nodes are not heard, and commits go on",
			slog.Any("error", err), slog.Duration("pause", brokerAgain))
		select {
		case <-time.After(brokerAgain):
		case <-ctx.Done():
		}
	}
}

// stopBroker ends the connection to the other nodes.
func (k *Keeper) stopBroker(ctx context.Context) error {
	if k.broker == nil || k.link.ended == nil {
		return nil
	}
	k.link.stop()
	select {
	case <-k.link.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("end the connection to the other nodes: %w", context.Cause(ctx))
	}
}

// Leave tells the other nodes that this one stops, and announces its timelines no
// more: where another can back one up, its turn is that one's now.
func (k *Keeper) Leave(context.Context) error {
	if k.broker == nil || k.leaving.Swap(true) {
		return nil
	}
	for _, m := range k.Members() {
		if m.kept() {
			m.tell()
			m.Wake().Ring(timeline.ReasonRequest)
		}
	}
	return nil
}

// tell makes the other nodes hear at once what has begun or ended.
func (m *Member) tell() {
	if key, ok := m.key(); ok && m.keeper.broker != nil {
		m.keeper.broker.Tell(key)
	}
}

// Nodes lists the other nodes that were heard of lately; nil without a broker.
func (k *Keeper) Nodes() []broker.Node {
	if k.broker == nil {
		return nil
	}
	return k.broker.Nodes()
}

// BrokerStats returns what the broker has counted; false: there is none.
func (k *Keeper) BrokerStats() (broker.Stats, bool) {
	if k.broker == nil {
		return broker.Stats{}, false
	}
	return k.broker.Stats(), true
}

// ActiveStats counts the timelines that are active, and how often one became so.
func (k *Keeper) ActiveStats() timeline.SetStats { return k.active.Stats() }
