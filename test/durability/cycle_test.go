package durability

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// restoreTime is how long a restore may take: with segments of 1 MiB some
// hundreds of them, one wal-fetch each, on a busy machine.
const restoreTime = 5 * time.Minute

var errSlowRestore = fmt.Errorf("the server was not promoted within %v", restoreTime)

// cycle runs one plan: load and faults, the primary's end, the failover, the
// verdict. The primary that it leaves serves the load of the next.
func (w *world) cycle(ctx context.Context, p plan) error {
	if w.load == nil {
		w.startLoad(p)
	}
	if err := w.load.awaitAcks(ctx, clients); err != nil {
		return fmt.Errorf("at the beginning: %w", err)
	}
	if p.backup {
		if err := inOrder(with(ctx, w.prune), with(ctx, w.renewBackup)); err != nil {
			return fmt.Errorf("base backup under load: %w", err)
		}
	}
	if err := w.trouble(ctx, p); err != nil {
		return err
	}
	f := &failover{world: w, plan: p, old: w.server, oldLoad: w.load, oldTLI: w.stats.tli}
	return f.run(ctx)
}

// failover is the way from a primary that is lost to one that commits.
type failover struct {
	*world
	plan    plan
	old     *pgserver.Server
	oldLoad *load
	oldTLI  int
	began   time.Time
	sealed  *rig.Seal // nil: the keeper does not say
	woken   bool      // the keeper, which an offline seal found dead, runs again
}

func (f *failover) run(ctx context.Context) error {
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"end the primary", f.endPrimary},
		{"seal", f.seal},
		{"restore", f.restoreAndPromote},
		{"judge the rows", f.judgeRows},
		{"judge the fork", f.judgeFork},
		{"the old primary before the new one is followed", f.oldComesBack},
		{"follow the new primary", f.follow},
		{"the old primary afterwards", f.oldIsRefused},
		{"bury the old primary", f.bury},
	}
	for _, s := range steps {
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// endPrimary ends the primary as planned, under load unless its last byte is
// to be a segment's.
func (f *failover) endPrimary(ctx context.Context) error {
	switch f.plan.ending {
	case staysAlive:
		f.began = time.Now()
		return nil
	case killedAtBorder:
		f.oldLoad.Stop()
		if err := f.switchAndWait(ctx); err != nil {
			return err
		}
	case killedInRecord:
		if err := f.beginLongRecord(ctx); err != nil {
			return err
		}
	}
	f.began = time.Now()
	err := f.old.Kill()
	f.oldLoad.Stop()
	return err
}

// switchAndWait ends the segment as the last thing that is written, and waits
// until the keeper has all of it.
func (f *failover) switchAndWait(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errStall)
	defer cancel()
	// A backend whose client is gone may still write that it aborts.
	const backends = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
	if err := f.awaitValue(ctx, backends, "0"); err != nil {
		return err
	}
	if err := f.old.Exec(ctx, "SELECT pg_switch_wal()"); err != nil {
		return err
	}
	return f.awaitValue(ctx, fmt.Sprintf(
		"SELECT count(*) FROM pg_stat_replication WHERE application_name = '%s' AND flush_lsn >= pg_current_wal_lsn()",
		f.keeper.Name()), "1")
}

// awaitValue waits until a query on the old primary gives a value.
func (f *failover) awaitValue(ctx context.Context, query, want string) error {
	return rig.Poll(ctx, 10*time.Millisecond, func() (bool, error) {
		got, err := f.old.Value(ctx, query)
		return got == want, err
	})
}

// longRecord is the length of a record that takes a while to stream, in bytes:
// several segments.
const longRecord = 64 << 20

// beginLongRecord has a long record written, and returns when the keeper has a
// part of it.
func (f *failover) beginLongRecord(ctx context.Context) error {
	// judgeFork reads the record here, and the keeper reports its parts: the slot lets them go.
	if err := f.old.Configure(ctx, map[string]string{"wal_keep_size": "1GB"}); err != nil {
		return err
	}
	from := f.oldLoad.flushed.Load()
	f.oldLoad.done.Go(func() {
		// It is cut off, with the primary, and not in the ledger.
		_ = f.old.Exec(ctx, fmt.Sprintf("SELECT pg_logical_emit_message(true, 'long', repeat('x', %d))", longRecord))
	})
	waiting, cancel := context.WithTimeoutCause(ctx, patience, errStall)
	defer cancel()
	return rig.Poll(waiting, time.Millisecond, func() (bool, error) { return f.oldLoad.flushed.Load() > from+longRecord/8, nil })
}

// seal seals where that is not left to the restore_command.
func (f *failover) seal(ctx context.Context) (err error) {
	switch f.plan.seal {
	case byVerb:
		f.sealed, err = f.keeper.Seal(ctx)
	case offline:
		err = f.keeper.Kill()
	case powerLost:
		if err = f.losePower(ctx, func() {}); err == nil {
			f.sealed, err = f.keeper.Seal(ctx)
		}
	}
	return err
}

func (f *failover) restoreAndPromote(ctx context.Context) error {
	port := 0
	if f.plan.ending == sameAddress {
		port = f.old.Port()
	}
	server, err := f.restore(ctx, f.keeper.RestoreCommand(f.plan.seal), port)
	if err != nil {
		return err
	}
	f.server = server
	if f.sealed == nil {
		f.sealed, err = f.keeper.Sealed(ctx)
	}
	return err
}

// follow lets commits go again, and waits until they do.
func (f *failover) follow(ctx context.Context) error {
	if err := f.wakeKeeper(ctx); err != nil {
		return err
	}
	f.startLoad(f.plan)
	if f.plan.ending != sameAddress {
		if err := f.keeper.Follow(ctx, f.server.Conninfo()); err != nil {
			return err
		}
	}
	if err := f.stumble(ctx); err != nil {
		return err
	}
	if err := f.load.awaitAcks(ctx, 1); err != nil {
		f.stats.stalls++
		return err
	}
	f.stats.recovered(time.Since(f.began))
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return f.keeper.Following(ctx, f.stats.tli)
}

// stumble lets something happen while the keeper goes over to the new TLI.
func (f *failover) stumble(ctx context.Context) error {
	if f.plan.stumble.fault == "" {
		return nil
	}
	pause(ctx, f.plan.stumble.after)
	return f.inject(ctx, f.plan.stumble)
}

// wakeKeeper starts the keeper where it was dead for an offline seal.
func (f *failover) wakeKeeper(ctx context.Context) error {
	if f.plan.seal != offline || f.woken {
		return nil
	}
	f.woken = true
	return f.keeper.Start(ctx)
}

// bury ends whatever is left of the old primary.
func (f *failover) bury(context.Context) error {
	err := f.old.Kill()
	f.oldLoad.Stop()
	return errors.Join(err, f.old.RemoveAll())
}

// removeAll removes a directory; "" is none.
func removeAll(dir string) error {
	if dir == "" {
		return nil
	}
	return os.RemoveAll(dir)
}
