package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

// settingsInterval is how often a source's synchronous_standby_names is read: a
// reload changes it without telling anybody.
const settingsInterval = 10 * time.Second

// settleAfter is how long a session of a source that writes nothing has to last
// until it counts as progress.
const settleAfter = 3 * time.Second

// receive is one session of streaming. The manager starts it again.
func (m *Member) receive(ctx context.Context) error {
	end, err := m.BeginReceive()
	switch {
	case errors.Is(err, timeline.ErrSealing):
		return nil // began between the manager's look and this start; the next look stops it
	case err != nil:
		return err
	}
	defer end()
	r, err := replication.Apart(func() (*receiver, error) { return m.readyReceiver(ctx) })
	if err != nil {
		return err
	}
	r.session = ctx
	r.sink.rewound.Store(false)
	r.sink.claimed = false
	defer r.sink.countSettled(ctx)()
	r.inquired = false
	err = r.Run(ctx)
	if r.inquired || ctx.Err() != nil {
		return err
	}
	return m.meetAnyway(ctx, err)
}

// countSettled makes the session count as progress once it has lasted, and returns
// how that is given up.
func (s *sink) countSettled(session context.Context) (giveUp func() bool) {
	return time.AfterFunc(settleAfter, func() {
		if s.settled() {
			tasks.Progress(session)
		}
	}).Stop
}

// readyReceiver makes the timeline ready for a session.
func (m *Member) readyReceiver(ctx context.Context) (*receiver, error) {
	if err := m.PrepareReceive(ctx); err != nil {
		return nil, err
	}
	return m.receiverNow()
}

// receiverNow returns the receiver for the present source; a changed source gets
// a new one. Only receive calls it, and one receive runs at a time.
func (m *Member) receiverNow() (*receiver, error) {
	conninfo := m.Control().Source
	if have := m.receiver.Load(); have != nil && have.conninfo == conninfo {
		return have, nil
	}
	r := &receiver{conninfo: conninfo}
	cfg := m.inTurn(conninfo)
	cfg.Settings = m.readSettings
	cfg.Inquire = func(ctx context.Context) error {
		r.inquired = true
		return m.inquire(ctx)
	}
	r.sink = &sink{Member: m, progress: r.progress, session: func() context.Context { return r.session }}
	var err error
	if r.Receiver, err = replication.NewReceiver(cfg, r.sink); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadConninfo, err)
	}
	m.receiver.Store(r)
	return r, nil
}

func (m *Member) replicationConfig(conninfo string) replication.Config {
	return replication.Config{Conninfo: conninfo, NodeID: m.keeper.cfg.NodeID, Events: m.keeper.cfg.Events.replication(m.ID())}
}

// inTurn is replicationConfig for what thousands of timelines do at the same time. What
// an operator waits for has no turn.
func (m *Member) inTurn(conninfo string) replication.Config {
	cfg := m.replicationConfig(conninfo)
	cfg.Turns = m.keeper.turns
	return cfg
}

// settings reads the source's settings, again and again.
func (m *Member) settings(ctx context.Context) error {
	return replication.WatchSettings(ctx, m.inTurn(m.Control().Source), settingsInterval, func(s replication.Settings) {
		tasks.Progress(ctx)
		if err := m.readSettings(ctx, s); err != nil && ctx.Err() == nil {
			m.keeper.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "settings of the source could not be kept, and are read again",
				slog.String("timeline", m.ID().String()), slog.Any("error", err))
		}
	})
}

// readSettings takes a reading of the source's settings. The error says that it
// could not be kept. A setting that is not understood is no error: it is taken
// for the strictest.
func (m *Member) readSettings(ctx context.Context, s replication.Settings) error {
	known := m.Quorum().Raw == s.SyncStandbyNames
	before := m.quorumStatus()
	defer func() { m.tellWaiting(ctx, before, m.quorumStatus()) }()
	m.lastSettings.Store(&s)
	err := m.SetQuorum(ctx, timeline.Reading{SystemID: s.SystemID, TLI: s.TLI, SyncStandbyNames: s.SyncStandbyNames})
	if !errors.Is(err, timeline.ErrUnreadableSetting) {
		return err
	}
	if !known {
		m.keeper.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "setting of the source is not understood: a seal will need --accept-data-loss",
			slog.String("timeline", m.ID().String()), slog.Any("error", err))
	}
	return nil
}

// tellWaiting says so when commits of the source begin or cease to wait for this
// node, or will wait for ever. Nothing else does before the next failover.
func (m *Member) tellWaiting(ctx context.Context, before, now timeline.QuorumStatus) {
	if before.Synchronous == now.Synchronous && before.Why == now.Why {
		return
	}
	level := slog.LevelInfo
	if before.Synchronous && now.Why != "" {
		level = slog.LevelWarn
	}
	m.keeper.cfg.Log.LogAttrs(ctx, level, "whether commits of the source wait for this node has changed",
		slog.String("timeline", m.ID().String()), slog.Bool("synchronous", now.Synchronous),
		slog.String("synchronous_standby_names", now.Text), slog.String("why", now.Why))
}

// remove lets the oldest local WAL go, as far as the retention rule wants it to
// and what is persisted allows it to.
func (m *Member) remove(ctx context.Context) error {
	if m.horizon(m.Backup().LSN) > m.horizon(m.persistedBackup()) {
		if err := m.SaveControl(ctx); err != nil { // what lets WAL go must be known after a crash
			return err
		}
	}
	below, err := m.sureOf(ctx, m.horizon(m.persistedBackup()))
	if err != nil || below == 0 {
		return err
	}
	n, _, err := m.Log().Remove(ctx, below)
	if n > 0 {
		tasks.Progress(ctx)
	}
	if err != nil {
		return fmt.Errorf("remove local WAL below %s: %w", below, err)
	}
	return nil
}

// persistedBackup is how far the control file knows that all is in object storage.
func (m *Member) persistedBackup() pg.LSN {
	s := m.Control().Stored
	if s == nil {
		return 0
	}
	return min(s.Backup.LSN, m.Backup().LSN)
}

// removable is how many bytes of the local WAL the retention rule lets go.
func (m *Member) removable(s timeline.Snapshot) int64 {
	below := m.horizon(s.Backup.LSN)
	if below == 0 {
		return 0
	}
	return m.Log().RemovableBytes(below)
}

// Horizon is the LSN below which local WAL may go; 0: none may.
func (m *Member) Horizon() pg.LSN { return m.horizon(m.persistedBackup()) }

func (m *Member) horizon(backedUp pg.LSN) pg.LSN {
	l := m.Log()
	if l == nil {
		return 0
	}
	c := m.Control()
	if m.keeper.depot == nil {
		if !m.keeper.cfg.DropUnbacked {
			return 0
		}
		backedUp = c.Flush.LSN
	}
	return removalHorizon(c.Flush.LSN, backedUp, c.SegmentSize, l.Stats().LocalBytes, m.keeper.cfg.Retain)
}

// removalHorizon is the LSN below which whole segments may go, so that about
// keepBytes stay below what is persisted, and all that is not backed up; 0 = none
// may. It is pure.
func removalHorizon(persisted, backedUp pg.LSN, size pg.SegmentSize, localBytes, keepBytes int64) pg.LSN {
	if localBytes <= keepBytes || uint64(persisted) <= uint64(keepBytes) {
		return 0
	}
	return min(size.StartOf(persisted-pg.LSN(keepBytes)), size.StartOf(backedUp))
}
