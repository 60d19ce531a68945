package timeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluicewal/sluice/internal/pg"
)

// errNoChange is returned by a change that found nothing to do.
var errNoChange = errors.New("no change")

// update is the only writer of the control file after creation: it applies
// change to a copy, takes the positions along, makes the copy durable and only
// then shows it. A change that returns errNoChange saves nothing.
func (t *Timeline) update(ctx context.Context, change func(*Control) error) error {
	if err := t.lockControl(ctx); err != nil {
		return err
	}
	defer t.unlockControl()
	return t.updateLocked(change)
}

// lockControl takes the lock that is held over a save. A context that has ended
// matters only where there is something to wait for.
func (t *Timeline) lockControl(ctx context.Context) error {
	select {
	case t.saving <- struct{}{}:
		return nil
	default:
	}
	select {
	case t.saving <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for a save of the control file: %w", context.Cause(ctx))
	}
}

func (t *Timeline) unlockControl() { <-t.saving }

func (t *Timeline) updateLocked(change func(*Control) error) error {
	next := t.control.Load().clone()
	if err := change(&next); errors.Is(err, errNoChange) {
		return nil
	} else if err != nil {
		return err
	}
	if t.closed {
		return fmt.Errorf("save control file: %w", ErrShuttingDown)
	}
	if l := t.log.Load(); l != nil {
		s := l.Stats()
		next.Flush, next.RecordEnd = s.Flush, s.CommitEnd
	}
	if next.Stored != nil {
		t.mu.Lock()
		next.Stored.Backup = later(next.Stored.Backup, t.backedUp)
		t.mu.Unlock()
	}
	t.takeSaid(&next)
	if err := saveControl(t.cfg.FS, t.cfg.Dir, next); err != nil {
		return err
	}
	t.control.Store(&next)
	t.forgetLearned(&next)
	t.saved.Store(savedNow(t.cfg.now(), &next))
	return nil
}

// SaveControl saves the positions; everything else is durable already.
func (t *Timeline) SaveControl(ctx context.Context) error {
	return t.update(ctx, func(*Control) error { return nil })
}

// SetSource changes where WAL is streamed from; "" leaves it. acceptDataLoss lets
// that source fork below a decided end: acknowledged commits that it lacks are
// given up.
func (t *Timeline) SetSource(ctx context.Context, conninfo string, acceptDataLoss bool) error {
	return t.changeSource(ctx, func(c *Control) {
		if conninfo != "" {
			c.Source = conninfo
		}
		c.AcceptDataLossOn = 0
		if acceptDataLoss {
			c.AcceptDataLossOn = t.Held().Position.TLI
		}
	})
}

// SetFileSource takes the configuration file's word for the source, if it
// changed since it was last read: what the API said in between stays otherwise.
func (t *Timeline) SetFileSource(ctx context.Context, conninfo string) error {
	return t.changeSource(ctx, func(c *Control) {
		if c.FileSource != conninfo {
			c.Source, c.FileSource = conninfo, conninfo
		}
	})
}

// changeSource makes what runs for another source end. What says nothing new cuts
// no stream.
func (t *Timeline) changeSource(ctx context.Context, change func(*Control)) error {
	another := false
	err := t.update(ctx, func(c *Control) error {
		was := *c
		change(c)
		another = c.Source != was.Source || c.AcceptDataLossOn != was.AcceptDataLossOn
		if !another && c.FileSource == was.FileSource {
			return errNoChange
		}
		return nil
	})
	if err != nil || !another {
		return err
	}
	t.mu.Lock()
	t.quorum = Quorum{} // what an earlier source said is not this one's word
	t.mu.Unlock()
	t.sourceGeneration.Add(1)
	t.wake.Ring(ReasonRequest)
	return nil
}

// Reading is a source's synchronous_standby_names, and whose they are.
type Reading struct {
	SystemID         uint64
	TLI              pg.TLI
	SyncStandbyNames string
}

// SetQuorum takes a reading. What it changes becomes durable, for the TLI that the
// source is on; another cluster's, or that of a server that was left behind, says
// nothing about the source's commits now. An error that wraps
// ErrUnreadableSetting comes after the strictest was assumed.
func (t *Timeline) SetQuorum(ctx context.Context, r Reading) error {
	c := t.Control()
	if c.SystemID != 0 && r.SystemID != c.SystemID {
		return nil
	}
	seen, unreadable := ReadQuorum(r.TLI, r.SyncStandbyNames, t.cfg.NodeID, t.cfg.now())
	if c.SystemID != 0 {
		var err error
		if seen, err = t.keepQuorum(ctx, seen); err != nil {
			return err
		}
	}
	if r.TLI >= t.tli() {
		t.showQuorum(seen)
	}
	return unreadable
}

// showQuorum lets the reading be seen, unless a later one is: several tasks read.
func (t *Timeline) showQuorum(q Quorum) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !q.ReadAt.Before(t.quorum.ReadAt) {
		t.quorum = q
	}
}

func (t *Timeline) keepQuorum(ctx context.Context, seen Quorum) (Quorum, error) {
	merged := seen
	err := t.update(ctx, func(c *Control) error {
		old, ok := quorumOf(c.Quorums, seen.TLI)
		merged = old.merge(seen)
		if ok && old.sameFacts(merged) {
			return errNoChange
		}
		c.setQuorum(merged)
		return nil
	})
	return merged, err
}

// Quorum returns the last reading of the source's setting.
func (t *Timeline) Quorum() Quorum {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.quorum
}

// tli returns the newest TLI held; 0 while nothing is.
func (t *Timeline) tli() pg.TLI {
	if l := t.log.Load(); l != nil {
		return l.Position().TLI
	}
	return 0
}

// MarkDeleting makes the wish to delete durable: whatever happens from now on,
// the deletion is finished, after a restart if need be. The first word counts for
// whether objects are kept.
func (t *Timeline) MarkDeleting(ctx context.Context, keepObjects bool) error {
	return t.update(ctx, func(c *Control) error {
		if c.Deleting {
			return errNoChange
		}
		c.Deleting, c.KeepObjects = true, keepObjects
		return nil
	})
}
