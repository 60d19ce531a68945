package timeline

import (
	"context"
	"errors"

	"github.com/sluicewal/sluice/internal/pg"
)

// errNoChange is returned by a change that found nothing to do.
var errNoChange = errors.New("no change")

// update is the only writer of the control file after creation: it applies
// change to a copy, takes the positions along, makes the copy durable and only
// then shows it. A change that returns errNoChange saves nothing.
func (t *Timeline) update(ctx context.Context, change func(*Control) error) error {
	select {
	case t.saving <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-t.saving }()
	next := t.control.Load().clone()
	if err := change(&next); errors.Is(err, errNoChange) {
		return nil
	} else if err != nil {
		return err
	}
	if l := t.log.Load(); l != nil {
		s := l.Stats()
		next.Flush, next.RecordEnd = s.Flush, s.CommitEnd
	}
	if err := saveControl(t.cfg.FS, t.cfg.Dir, next); err != nil {
		return err
	}
	t.control.Store(&next)
	t.saved.Store(&savedAt{at: t.cfg.now(), flush: next.Flush})
	return nil
}

// SaveControl saves the positions; everything else is durable already.
func (t *Timeline) SaveControl(ctx context.Context) error {
	return t.update(ctx, func(*Control) error { return nil })
}

// SetSource changes where WAL is streamed from. acceptDataLoss lets that source
// fork below a decided end: acknowledged commits that it lacks are given up.
func (t *Timeline) SetSource(ctx context.Context, conninfo string, acceptDataLoss bool) error {
	err := t.update(ctx, func(c *Control) error {
		if conninfo != "" {
			c.Source = conninfo
		}
		c.AcceptDataLossOn = 0
		if acceptDataLoss {
			c.AcceptDataLossOn = t.tli()
		}
		return nil
	})
	if err != nil {
		return err
	}
	t.sourceGeneration.Add(1)
	t.wake.Ring(ReasonRequest)
	return nil
}

// SetFileSource takes the configuration file's word for the source, if it
// changed since it was last read: what the API said in between stays otherwise.
func (t *Timeline) SetFileSource(ctx context.Context, conninfo string) error {
	if t.Control().FileSource == conninfo {
		return nil
	}
	err := t.update(ctx, func(c *Control) error {
		c.Source, c.FileSource = conninfo, conninfo
		return nil
	})
	if err != nil {
		return err
	}
	t.sourceGeneration.Add(1)
	t.wake.Ring(ReasonRequest)
	return nil
}

// SetQuorum takes a reading of the source's synchronous_standby_names. What
// changes for the history that is held becomes durable.
func (t *Timeline) SetQuorum(ctx context.Context, raw string) error {
	tli := t.tli()
	seen, err := ReadQuorum(tli, raw, t.cfg.NodeID, t.cfg.now())
	if err != nil {
		return err
	}
	if tli != 0 {
		seen, err = t.keepQuorum(ctx, seen)
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.quorum = seen
	return nil
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
// the deletion is finished, after a restart if need be.
func (t *Timeline) MarkDeleting(ctx context.Context) error {
	return t.update(ctx, func(c *Control) error {
		if c.Deleting {
			return errNoChange
		}
		c.Deleting = true
		return nil
	})
}
