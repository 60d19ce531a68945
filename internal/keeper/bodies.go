package keeper

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/tasks"
)

// settingsInterval is how often a source's synchronous_standby_names is read: a
// reload changes it without telling anybody.
const settingsInterval = 10 * time.Second

// receive is one session of streaming. The manager starts it again.
func (m *Member) receive(ctx context.Context) error {
	end, err := m.BeginReceive()
	if err != nil {
		return err
	}
	defer end()
	if err := m.PrepareReceive(ctx); err != nil {
		return err
	}
	r, err := m.receiverOf(ctx)
	if err != nil {
		return err
	}
	return r.Run(ctx)
}

// receiverOf returns the receiver for the present source; a changed source gets
// a new one.
func (m *Member) receiverOf(ctx context.Context) (*replication.Receiver, error) {
	conninfo := m.Control().Source
	if have := m.receiver.Load(); have != nil && have.conninfo == conninfo {
		return have.Receiver, nil
	}
	cfg := m.replicationConfig(conninfo)
	connected := cfg.Events.Connected
	cfg.Events.Connected = func(c replication.Connected) {
		tasks.Progress(ctx)
		if connected != nil {
			connected(c)
		}
	}
	r, err := replication.NewReceiver(cfg, sink{m.Timeline})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadConninfo, err)
	}
	m.receiver.Store(&receiver{Receiver: r, conninfo: conninfo})
	return r, nil
}

func (m *Member) replicationConfig(conninfo string) replication.Config {
	return replication.Config{Conninfo: conninfo, NodeID: m.keeper.cfg.NodeID, Events: m.keeper.cfg.Events.replication(m.ID())}
}

// settings reads the source's settings, again and again.
func (m *Member) settings(ctx context.Context) error {
	return replication.WatchSettings(ctx, m.replicationConfig(m.Control().Source), settingsInterval, func(s replication.Settings) {
		tasks.Progress(ctx)
		m.readSettings(ctx, s)
	})
}

// readSettings takes a reading of the source's settings.
func (m *Member) readSettings(ctx context.Context, s replication.Settings) {
	m.lastSettings.Store(&s)
	if err := m.SetQuorum(ctx, s.SyncStandbyNames); err != nil && ctx.Err() == nil {
		m.keeper.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "settings of the source are not understood", slog.Any("error", err))
	}
}

// remove lets the oldest local WAL go, as far as the retention rule wants it to
// and what is persisted allows it to.
func (m *Member) remove(ctx context.Context) error {
	l := m.Log()
	if l == nil {
		return nil
	}
	c := m.Control()
	below := removalHorizon(c.Flush.LSN, c.SegmentSize, l.Stats().LocalBytes, m.keeper.cfg.Retain)
	if below == 0 {
		return nil
	}
	if _, _, err := l.Remove(below); err != nil {
		return fmt.Errorf("remove local WAL below %s: %w", below, err)
	}
	tasks.Progress(ctx)
	return nil
}

// removalHorizon is the LSN below which whole segments may go, so that about
// keepBytes stay below what is persisted; 0 = none may. It is pure.
func removalHorizon(persisted pg.LSN, size pg.SegmentSize, localBytes, keepBytes int64) pg.LSN {
	if localBytes <= keepBytes || uint64(persisted) <= uint64(keepBytes) {
		return 0
	}
	return size.StartOf(persisted - pg.LSN(keepBytes))
}
