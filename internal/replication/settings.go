package replication

import (
	"context"
	"fmt"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Settings are what decides on the source whether its commits wait for us.
type Settings struct {
	SystemID          uint64 // of the cluster that has them
	TLI               pg.TLI // that it is on
	SyncStandbyNames  string // synchronous_standby_names, as SHOW prints it
	SynchronousCommit string // synchronous_commit, as our role has it; sessions may have another
	InRecovery        bool
	ReadAt            time.Time
}

// settings reads them.
func (l *link) settings(ctx context.Context) (Settings, error) {
	var src Source
	err := l.identifySystem(ctx, &src)
	if err != nil {
		return Settings{}, err
	}
	set := Settings{SystemID: src.SystemID, TLI: src.TLI}
	if set.SyncStandbyNames, err = l.show(ctx, "synchronous_standby_names"); err != nil {
		return Settings{}, err
	}
	if set.SynchronousCommit, err = l.show(ctx, "synchronous_commit"); err != nil {
		return Settings{}, err
	}
	if set.InRecovery, err = l.inRecovery(ctx); err != nil {
		return Settings{}, err
	}
	set.ReadAt = time.Now()
	return set, nil
}

// tellSettings reads and tells them, on a connection that rests between two readings.
func (l *link) tellSettings(ctx context.Context, tell func(Settings)) error {
	if err := l.awaken(); err != nil {
		return err
	}
	set, err := l.settings(ctx)
	if err != nil {
		return err
	}
	l.rest()
	tell(set)
	return nil
}

// auxiliary is how a connection beside the stream is called: not by the name in synchronous_standby_names.
func auxiliary(cfg Config, purpose string) string {
	return fmt.Sprintf("sluice %s (%s)", cfg.NodeID, purpose)
}

// notTold is a wait that the receiver's own tells of: of each timeline, both come at the same time.
func notTold() (ended func()) { return func() {} }

// WatchSettings reads the settings now and every so often, on a connection of its own, and tells each time. It ends with the
// first error, or with the context's cause. A reload of the source changes settings without a word, and keeps the stream: so
// they must be asked for again and again. It takes one of the source's max_wal_senders.
func WatchSettings(ctx context.Context, cfg Config, every time.Duration, tell func(Settings)) error {
	cfg = cfg.withDefaults()
	l, err := Apart(func() (*link, error) { return inTurn(ctx, cfg, auxiliary(cfg, "settings"), notTold) })
	if err != nil {
		return err
	}
	defer l.close(cfg.GoodbyeTimeout)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		_, err := Apart(func() (struct{}, error) { return struct{}{}, l.tellSettings(ctx, tell) })
		if err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Probe asks a source who it is, what it waits for, and for our slot, and changes nothing. Where PostgreSQL cannot be asked
// for the slot (13, 14), Slot says that it does not exist.
func Probe(ctx context.Context, cfg Config) (Source, Settings, error) {
	cfg = cfg.withDefaults()
	l, err := connect(ctx, cfg, auxiliary(cfg, "check"))
	if err != nil {
		return Source{}, Settings{}, err
	}
	defer l.close(cfg.GoodbyeTimeout)
	src, err := l.identify(ctx)
	if err != nil {
		return Source{}, Settings{}, err
	}
	src.Slot.Name = SlotName(cfg.NodeID)
	if err := l.readSlot(ctx, &src); err != nil {
		return Source{}, Settings{}, err
	}
	set, err := l.settings(ctx)
	return src, set, err
}

// DropSlot drops our slot on a source; one that is not there is no error, one in use is a [*RefusedError].
func DropSlot(ctx context.Context, cfg Config) error {
	cfg = cfg.withDefaults()
	l, err := connect(ctx, cfg, auxiliary(cfg, "drop slot"))
	if err != nil {
		return err
	}
	defer l.close(cfg.GoodbyeTimeout)
	return l.dropSlot(ctx, SlotName(cfg.NodeID))
}
