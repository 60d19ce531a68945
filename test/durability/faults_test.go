package durability

import (
	"context"
	"errors"
	"fmt"
)

// trouble does the planned faults, one after the other, under load. After each
// one commits have to go on by themselves.
func (w *world) trouble(ctx context.Context, p plan) error {
	for _, f := range p.faults {
		pause(ctx, f.after)
		if err := w.inject(ctx, f); err != nil {
			return fmt.Errorf("fault %s: %w", f.fault, err)
		}
		if err := w.load.awaitAcks(ctx, clients); err != nil {
			w.stats.stalls++
			return fmt.Errorf("after fault %s: %w", f.fault, err)
		}
	}
	pause(ctx, p.calm)
	return nil
}

// inject does a fault and repairs it.
func (w *world) inject(ctx context.Context, f plannedFault) error {
	wait := func() { pause(ctx, f.lasts) }
	switch f.fault {
	case killNode:
		return inOrder(w.keeper.Kill, step(wait), with(ctx, w.keeper.Start))
	case pauseNode:
		return inOrder(w.keeper.Pause, step(wait), w.keeper.Resume)
	case killPrimary:
		return inOrder(w.server.Kill, step(wait), with(ctx, w.server.Restart))
	case cutStream:
		return w.server.Exec(ctx, fmt.Sprintf(
			"SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = '%s'", w.keeper.Name()))
	case switchWAL:
		return w.server.Exec(ctx, "SELECT pg_switch_wal()")
	case fillDisk:
		w.load.big.Store(true) // so that it runs out of room in the segments that are there, too
		defer w.load.big.Store(false)
		return inOrder(w.disk.Fill, step(wait), step(wait), w.disk.Free)
	case losePower:
		return w.losePower(ctx, wait)
	}
	return errors.New("no such fault")
}

// losePower takes the power of the keeper's disk away while it writes, and
// then of its process; both come back.
func (w *world) losePower(ctx context.Context, wait func()) error {
	return inOrder(w.disk.LosePower, step(wait), w.keeper.Kill, w.disk.Unmount, w.disk.Mount, with(ctx, w.keeper.Start))
}

// inOrder runs steps until one fails.
func inOrder(steps ...func() error) error {
	for _, s := range steps {
		if err := s(); err != nil {
			return err
		}
	}
	return nil
}

func step(f func()) func() error {
	return func() error { f(); return nil }
}

func with(ctx context.Context, f func(context.Context) error) func() error {
	return func() error { return f(ctx) }
}
