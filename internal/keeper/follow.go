package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

const (
	// defaultFollowInterval is how often a warm copy looks what is new.
	defaultFollowInterval = 10 * time.Second
	// followBytes is how much of a segment is appended between two looks at the
	// context.
	followBytes = 1 << 20
)

// follow keeps a warm copy: what is whole in object storage comes here, record by
// record verified. Open segments do not: they may hold more than was committed.
func (m *Member) follow(ctx context.Context) error {
	for {
		if err := m.followOnce(ctx); err != nil {
			return fmt.Errorf("follow object storage: %w", err)
		}
		tasks.Progress(ctx)
		select {
		case <-time.After(m.keeper.cfg.Store.FollowInterval):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// followOnce fetches all that is new.
func (m *Member) followOnce(ctx context.Context) error {
	t, err := m.followed(ctx)
	if err != nil || t == nil {
		return err
	}
	leave, err := m.BeginReceive()
	switch {
	case errors.Is(err, timeline.ErrSealing):
		return nil // the next round follows on
	case err != nil:
		return err
	}
	defer leave()
	if m.HoldsNothing() {
		if began, err := m.beginCopy(ctx, t); err != nil || !began {
			return err
		}
	}
	for more := true; more; {
		if more, err = m.copyNext(ctx, t); err != nil {
			return err
		}
		tasks.Progress(ctx)
	}
	return nil
}

// followed meets the timeline in object storage; nil if it is not there yet.
func (m *Member) followed(ctx context.Context) (*backup.Timeline, error) {
	if m.HoldsNothing() {
		if err := m.meetEmpty(ctx); err != nil {
			return nil, err
		}
		if m.Control().Stored == nil {
			return nil, nil //nolint:nilnil // nothing to follow is no error
		}
		return m.stored(ctx)
	}
	if m.Control().Stored == nil {
		return nil, errors.New("it does not have what this node holds, and a warm copy brings nothing there: attach the tenant first")
	}
	if err := m.refreshWithin(ctx); err != nil { // it may be deleted
		return nil, err
	}
	return m.stored(ctx)
}

// line is the history that is followed: of the newest TLI that is known.
func (m *Member) line() pg.History {
	h := m.Control().Stored.Newest
	if l := m.Log(); l != nil && l.Lineage().TLI > h.TLI {
		return l.Lineage()
	}
	return h
}

// beginCopy gives a copy that holds nothing its first position: as far back as the
// node keeps WAL. False: there is nothing yet.
func (m *Member) beginCopy(ctx context.Context, t *backup.Timeline) (bool, error) {
	there, err := t.List(ctx)
	if err != nil {
		return false, err
	}
	c := m.Control()
	size, end := c.SegmentSize, c.Stored.Backup.LSN
	if len(there.Segments) == 0 || size.SegNo(end) <= there.Segments[0].SegNo {
		return false, nil
	}
	first := max(there.Segments[0].SegNo, size.SegNo(end-min(end, pg.LSN(m.keeper.cfg.Retain))))
	first = min(first, size.SegNo(end)-1)
	a := timeline.Adoption{
		SystemID: c.SystemID, SegmentSize: size, Away: true,
		Start: pg.Position{TLI: backup.NewestAt(m.line(), first, size), LSN: size.Start(first)},
	}
	if a.Start.TLI > 1 {
		if a.History, err = t.History(ctx, a.Start.TLI); err != nil {
			return false, err
		}
	}
	return true, m.Adopt(ctx, a)
}

// copyNext fetches what comes next, up to the end of a segment or of a TLI. False:
// it is not there yet.
func (m *Member) copyNext(ctx context.Context, t *backup.Timeline) (bool, error) {
	at, h, size := m.Log().Position(), m.line(), m.Control().SegmentSize
	n := size.SegNo(at.LSN)
	until := size.Start(n + 1)
	if at.TLI != h.TLI {
		fork, passed := h.End(at.TLI)
		switch {
		case !passed:
			return false, fmt.Errorf("this copy is on TLI %d, which the history of TLI %d does not pass", at.TLI, h.TLI)
		case at.LSN >= fork:
			return true, m.copyChild(ctx, t, h, at.TLI)
		}
		until = min(until, fork)
	}
	// What the child has below its fork is its parent's.
	return m.copySegment(ctx, t, backup.NewestAt(h, n, size), n, until)
}

// copyChild goes over to the TLI that comes next in a history.
func (m *Member) copyChild(ctx context.Context, t *backup.Timeline, h pg.History, from pg.TLI) error {
	if err := m.PrepareReceive(ctx); err != nil {
		return err
	}
	child := h.TLI
	for _, f := range h.Forks {
		if f.TLI > from {
			child = f.TLI
			break
		}
	}
	raw, err := t.History(ctx, child)
	if err != nil {
		return err
	}
	parsed, err := pg.ParseHistory(child, raw)
	if err != nil {
		return err
	}
	return m.Follow(ctx, parsed, raw)
}

// copySegment appends a segment up to an LSN. The download is inside the tenant's
// gate, too: a life in another mode does not begin before it has ended.
func (m *Member) copySegment(ctx context.Context, t *backup.Timeline, tli pg.TLI, n pg.SegNo, until pg.LSN) (bool, error) {
	leave, err := m.tenant.EnterFor(ctx, holderFollow, m.ID().Name+"/"+pg.SegmentName(tli, n, m.Control().SegmentSize))
	if err != nil {
		return false, err
	}
	defer leave()
	s, err := t.OpenWhole(ctx, tli, n)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = m.appendSegment(ctx, s, n, until)
	return err == nil, errors.Join(err, s.Close())
}

func (m *Member) appendSegment(ctx context.Context, s *backup.Segment, n pg.SegNo, until pg.LSN) error {
	if err := m.PrepareReceive(ctx); err != nil {
		return err
	}
	l, size := m.Log(), m.Control().SegmentSize
	p := make([]byte, followBytes)
	for lsn := l.RewindOpen(); lsn < until; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		p = p[:min(pg.LSN(followBytes), until-lsn)]
		if _, err := s.ReadAt(p, size.Offset(lsn)); err != nil {
			return err
		}
		if err := l.Append(lsn, p); err != nil {
			return err
		}
		lsn += pg.LSN(len(p))
	}
	_, err := l.Sync()
	m.Synced()
	if err == nil && until == size.Start(n+1) {
		m.BackedUp(pg.Position{TLI: l.Position().TLI, LSN: until})
	}
	return err
}
