package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/timeline"
)

// aliveFor is for how long the word of object storage that a life goes on is taken:
// a timeline that uploads asks once in that time, however many segments it has, and
// one with nothing to upload never does. What is uploaded meanwhile to a life that
// has ended goes again; until then it is not taken for backed up, see [Member.remove].
const aliveFor = 30 * time.Second

// alive is a word of object storage that the life goes on.
type alive struct {
	at time.Time // when it was asked
	// upTo is the backup LSN of that moment: what was uploaded before is no late
	// upload to a life that has ended.
	upTo pg.LSN
}

// newAlive is the word of an answer that is yet to come.
func (m *Member) newAlive() *alive { return &alive{at: time.Now(), upTo: m.Backup().LSN} }

// sureOf is up to where what was uploaded is not in a life that had ended: of what
// comes later, object storage is asked once more, and if it does not answer, that may
// stay here for longer than it has to.
func (m *Member) sureOf(ctx context.Context, upTo pg.LSN) (pg.LSN, error) {
	if seen := m.alive.Load(); m.keeper.depot == nil || seen.upTo >= upTo {
		return upTo, nil
	}
	t, err := m.stored(ctx)
	if err == nil {
		err = m.askAlive(ctx, t)
	}
	if errors.Is(err, timeline.ErrEnded) {
		return 0, err
	}
	return min(upTo, m.alive.Load().upTo), nil
}

// living is stored for whoever is about to write: a life that was deleted elsewhere
// gets nothing any more, once that is known. The error wraps [timeline.ErrEnded] then,
// and this node ends its part of that life, too.
func (m *Member) living(ctx context.Context) (*backup.Timeline, error) {
	t, err := m.stored(ctx)
	if err != nil {
		return nil, err
	}
	if err := m.lookAlive(ctx, t); err != nil {
		return nil, err
	}
	return t, nil
}

// lookAlive looks for the tombstone, unless somebody did a moment ago. It is one
// request.
func (m *Member) lookAlive(ctx context.Context, t *backup.Timeline) error {
	if time.Since(m.alive.Load().at) < aliveFor {
		return nil
	}
	return m.askAlive(ctx, t)
}

func (m *Member) askAlive(ctx context.Context, t *backup.Timeline) error {
	now := m.newAlive()
	_, err := t.Tombstone(ctx)
	switch {
	case err == nil:
		return m.stillOurs(ctx, m.keeper.depot.store.Load())
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look whether the timeline was deleted: %w", err)
	}
	m.alive.Store(now)
	return nil
}

// whileAlive does work that may last for hours, and cuts it once the life is found to
// have ended.
func (m *Member) whileAlive(ctx context.Context, t *backup.Timeline, work func(context.Context) error) error {
	within, cut := context.WithCancelCause(ctx)
	var looks sync.WaitGroup
	defer looks.Wait()
	defer cut(nil)
	looks.Go(func() {
		for {
			select {
			case <-within.Done():
				return
			case <-time.After(aliveFor):
			}
			if err := m.lookAlive(within, t); errors.Is(err, timeline.ErrEnded) {
				cut(err)
			}
		}
	})
	return work(within)
}

// stillOurs fails if the life that this node has met is not the one that goes on in
// object storage. One that ended and came back is the same; that it did is taken over.
func (m *Member) stillOurs(ctx context.Context, store *backup.Store) error {
	id, err := m.newestLife(ctx, store)
	if err != nil {
		return err
	}
	return m.Meet(ctx, meeting(store, id))
}

// newestLife returns the life that goes on under the timeline's name. If this node
// has met another, that has ended, whether or not there is a next one.
func (m *Member) newestLife(ctx context.Context, store *backup.Store) (backup.Identity, error) {
	now := m.newAlive()
	newest, err := store.Find(ctx, string(m.ID().Tenant), m.ID().Name)
	c := m.Control()
	switch {
	case c.Stored == nil, c.Deleting, err != nil && !errors.Is(err, backup.ErrDeleted):
		return newest, err
	case err == nil && newest.Incarnation == string(c.Incarnation):
		m.alive.Store(now)
		return newest, nil
	}
	ours := backup.Identity{Incarnation: string(c.Incarnation), Revived: c.Revived, SegmentSize: c.SegmentSize, Compression: backup.Compression(c.Stored.Compression)}
	e := timeline.Ended{}
	if newest.Incarnation == ours.Incarnation {
		ours = newest // it may have come back, and have ended again
	} else {
		e.Next = timeline.Incarnation(newest.Incarnation)
	}
	stone, err := store.Timeline(string(m.ID().Tenant), m.ID().Name, ours).Tombstone(ctx)
	if err != nil {
		return backup.Identity{}, fmt.Errorf("another life of the timeline has begun, and how this one ended cannot be read: %w", err)
	}
	e.By, e.At, e.Kept = stone.By, stone.At, stone.KeepObjects
	return backup.Identity{}, m.endElsewhere(ctx, e, ours.Revived)
}

// endElsewhere begins to end this node's part of a life that was deleted elsewhere,
// and returns that as an error. The caller may be inside the timeline's gate.
//
// While another operation is in the way, or the end cannot be made durable, nothing is
// ended: whoever wants to write next asks again, because nothing but life is remembered.
func (m *Member) endElsewhere(ctx context.Context, e timeline.Ended, revived int) error {
	m.alive.Store(&alive{upTo: m.alive.Load().upTo})
	_, _, _ = m.keeper.begin(ctx, m.ID(), opEnd, func(ctx context.Context) error { return m.keeper.endLife(ctx, m, e, revived) })
	return fmt.Errorf("%w: node %s deleted it at %s", timeline.ErrEnded, e.By, e.At.UTC().Format(time.RFC3339))
}

// endLife makes durable that the life has ended, stops the timeline, and leaves a
// stopped one that says so in its place. Its WAL stays.
func (k *Keeper) endLife(ctx context.Context, m *Member, e timeline.Ended, revived int) error {
	if now, err := k.member(m.ID()); err != nil || now != m || m.Control().Deleting {
		return err // it was deleted here, or somebody was faster
	}
	err := k.endSteps(ctx, m, e, revived)
	m.SetOperation("", "")
	if err != nil {
		if ctx.Err() == nil {
			k.cfg.Log.LogAttrs(ctx, slog.LevelError, "timeline was deleted elsewhere, and could not be stopped here: nothing is uploaded, and the next look at object storage tries again",
				slog.String("timeline", m.ID().String()), slog.Any("error", err))
		}
		return fmt.Errorf("end timeline %s: %w", m.ID(), err)
	}
	k.cfg.Log.LogAttrs(ctx, slog.LevelError, "timeline was deleted elsewhere: nothing of it is received or uploaded here any more, and its WAL stays until it is deleted here, too",
		slog.String("timeline", m.ID().String()), slog.String("incarnation", string(m.Control().Incarnation)),
		slog.String("by", e.By), slog.Time("at", e.At), slog.String("held_up_to", m.Control().Flush.String()))
	k.removeLate(ctx, m)
	return nil
}

func (k *Keeper) endSteps(ctx context.Context, m *Member, e timeline.Ended, revived int) error {
	m.SetOperation(opEnd, "mark")
	if err := m.End(ctx, e, revived); err != nil {
		return err
	}
	m.SetOperation(opEnd, "stop")
	if err := m.shutdown(ctx, timeline.ErrEnded); err != nil {
		return err
	}
	return k.replace(m)
}

// replace puts what its directory says now in the place of a timeline that was shut
// down.
func (k *Keeper) replace(m *Member) error {
	tl := k.open(m.tenant, m.ID())
	if _, err := k.join(m.tenant, tl); err != nil {
		return errors.Join(err, tl.Shutdown(k.ctx, err))
	}
	return nil
}

// removeLate removes what this node uploaded after the objects of a life had gone,
// and before it knew. What it does not come to, a deletion here does.
func (k *Keeper) removeLate(ctx context.Context, m *Member) {
	t, err := m.stored(ctx)
	if err == nil {
		_, err = t.DeleteObjects(ctx)
	}
	if err != nil && !errors.Is(err, backup.ErrKept) && ctx.Err() == nil {
		k.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "objects that came too late could not be removed from a life that has ended: deleting the timeline here does",
			slog.String("timeline", m.ID().String()), slog.Any("error", err))
	}
}

// goOn lets a life that had ended go on, if it came back or may: with what is held
// here, under the name that it still has here.
func (k *Keeper) goOn(ctx context.Context, m *Member, with timeline.Creation) error {
	if why := m.tenant.idle(); why != nil {
		return fmt.Errorf("tenant %s: %w", m.tenant.ID(), why)
	}
	pass, err := m.tenant.Enter(ctx, holderRequest)
	if err != nil {
		return err
	}
	defer pass.Leave()
	met, err := k.revive(ctx, m.tenant, m.ID(), string(m.Control().Incarnation))
	if err != nil {
		return fmt.Errorf("timeline %s: %w", m.ID(), err)
	}
	if err := m.GoOn(ctx, met); err != nil {
		return err
	}
	if err := m.SetSource(ctx, with.Source, false); err != nil {
		return err
	}
	if err := m.shutdown(ctx, errReopened); err != nil {
		return err
	}
	return k.replace(m)
}
