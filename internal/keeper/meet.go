package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/timeline"
)

// askStoreWithin bounds how long a session waits for object storage where it goes
// on without its word.
const askStoreWithin = 3 * time.Second

// meetEvery is how often object storage is asked while the source does not answer.
// Nothing is acknowledged meanwhile, and all is asked again once it does; but others
// may have ended this life, and a node whose disk was replaced has to learn whose WAL
// it may hand back.
const meetEvery = 5 * time.Minute

// errMetOther says that another node has begun the timeline meanwhile. The next
// session knows what it decided.
var errMetOther = errors.New("another node has begun this timeline in object storage at this moment: its decisions are taken over")

// inquire is the meeting of a session, whose goroutine alone calls it: a meeting that
// came between a session's look at what is held and its beginning would be overlooked.
func (m *Member) inquire(ctx context.Context) error {
	err := m.meet(ctx)
	if err == nil {
		m.metAt = time.Now()
	}
	return err
}

// meetAnyway asks now and then after sessions whose source did not answer, and adds
// to what became of the last one what came of that.
func (m *Member) meetAnyway(ctx context.Context, session error) error {
	if m.keeper.depot == nil || time.Since(m.metAt) < meetEvery {
		return session
	}
	_, err := replication.Apart(func() (struct{}, error) { return struct{}{}, m.inquire(ctx) })
	if err != nil {
		return errors.Join(session, err)
	}
	return session
}

// meet asks object storage what was decided about this timeline, once the source has
// let a session in, and before that begins. A node that holds nothing acknowledges nothing without that word: it may
// have been here before, and have lost its disk since, with the seals on it.
// One that holds WAL goes on without, if object storage is away.
func (m *Member) meet(ctx context.Context) error {
	if m.keeper.depot == nil {
		return nil
	}
	c := m.Control()
	if !m.HoldsNothing() {
		if err := m.refresh(ctx); err != nil {
			return err
		}
		return m.conflict()
	}
	err := m.meetEmpty(ctx)
	if err == nil || c.New && c.Stored == nil {
		return nil
	}
	return fmt.Errorf("nothing is acknowledged before object storage has told what was decided about this timeline: %w", err)
}

// conflict refuses a source whose promotion is not the one that was claimed.
func (m *Member) conflict() error {
	s := m.Control().Stored
	if s == nil || s.Conflict == 0 || s.Conflict != m.Held().Position.TLI {
		return nil
	}
	return &replication.RefusedError{Reason: replication.Forked, Text: s.ConflictWhy}
}

// meetEmpty takes over what object storage has decided, if it knows the timeline.
func (m *Member) meetEmpty(ctx context.Context) error {
	store, err := m.keeper.depot.open(ctx)
	if err != nil {
		return err
	}
	id, err := m.newestLife(ctx, store)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, backup.ErrDeleted) && m.Control().Again: // it has met none of them
		return nil
	case errors.Is(err, backup.ErrDeleted):
		return fmt.Errorf("%w; to begin it anew: sluice timeline delete %s, then sluice timeline create %s", err, m.ID(), m.ID())
	case err != nil:
		return err
	}
	return m.meetAs(ctx, store, id)
}

// meetAs takes over the identity, and all that was decided with it. A try that cannot find out what was decided is one of the
// receiver's, which is started again: the operation is told once, when it is known what is taken over.
func (m *Member) meetAs(ctx context.Context, store *backup.Store, id backup.Identity) error {
	met, err := surveyed(ctx, store, m.ID(), id, m.Control().Start.LSN)
	if err != nil {
		return err
	}
	ctx, end := m.keeper.cfg.Events.operation(ctx, ctx, m.ID(), opRestore)
	err = m.meeting(ctx, met)
	end(err)
	return err
}

// meeting takes over what was decided where the nodes of the timeline meet.
func (m *Member) meeting(ctx context.Context, met timeline.Meeting) error {
	if err := m.Meet(ctx, met); err != nil {
		return err
	}
	m.keeper.cfg.Events.life(m.ID(), m.Control().Incarnation)
	return nil
}

// surveyed looks at all that object storage has of one life of a timeline. Its
// unbroken run is looked for from an LSN on; 0: from the oldest segment.
func surveyed(ctx context.Context, store *backup.Store, id timeline.ID, as backup.Identity, from pg.LSN) (timeline.Meeting, error) {
	t := store.Timeline(string(id.Tenant), id.Name, as)
	survey, err := t.SurveyHistory(ctx, 1) // which looks at everything
	if err != nil {
		return timeline.Meeting{}, err
	}
	met := meeting(store, as)
	met.Newest = survey.History
	met.Seals = seals(survey.Seals)
	if survey.WholeEnd != 0 {
		lsn, err := t.BackupLSN(ctx, survey.History, from)
		if err != nil {
			return timeline.Meeting{}, err
		}
		met.Backup = pg.Position{TLI: survey.History.TLI, LSN: lsn}
	}
	return met, nil
}

func meeting(store *backup.Store, id backup.Identity) timeline.Meeting {
	return timeline.Meeting{
		Incarnation: timeline.Incarnation(id.Incarnation), Revived: id.Revived, SystemID: id.SystemID, SegmentSize: id.SegmentSize,
		StoreID: store.ID(), Compression: string(id.Compression),
	}
}

func seals(ends map[pg.TLI]pg.LSN) []timeline.Seal {
	var all []timeline.Seal
	for tli, end := range ends {
		all = append(all, timeline.Seal{TLI: tli, End: end})
	}
	return all
}

// refresh takes over what other nodes have decided since, if object storage tells
// in time. It fails only if they have ended this life.
func (m *Member) refresh(ctx context.Context) error {
	if m.Control().Stored == nil {
		return nil // the backup decides who this timeline is
	}
	ctx, cancel := context.WithTimeout(ctx, askStoreWithin)
	defer cancel()
	err := m.refreshWithin(ctx)
	if errors.Is(err, timeline.ErrEnded) {
		return err
	}
	if err != nil {
		m.keeper.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "object storage does not tell what other nodes have decided: this node goes by what it knows",
			slog.String("timeline", m.ID().String()), slog.Any("error", err))
	}
	return nil
}

func (m *Member) refreshWithin(ctx context.Context) error {
	t, err := m.stored(ctx)
	if err != nil {
		return err
	}
	store := m.keeper.depot.store.Load()
	newest, err := m.newestLife(ctx, store)
	if err != nil {
		return err
	}
	decided, err := t.Seals(ctx)
	if err != nil {
		return err
	}
	claims, err := t.Claims(ctx)
	if err != nil {
		return err
	}
	met := meeting(store, newest)
	for _, s := range decided {
		met.Seals = append(met.Seals, timeline.Seal{TLI: s.TLI, End: s.End, At: s.At, DataLossAccepted: s.DataLossAccepted})
	}
	if len(claims) > 0 {
		last := claims[len(claims)-1]
		if met.Newest, err = pg.ParseHistory(last.TLI, last.History); err != nil {
			return err
		}
	}
	return m.Meet(ctx, met)
}

// stored returns the timeline in object storage, once its identity is decided
// there.
func (m *Member) stored(ctx context.Context) (*backup.Timeline, error) {
	store, err := m.keeper.depot.open(ctx)
	if err != nil {
		return nil, err
	}
	c := m.Control()
	if c.SystemID == 0 {
		return nil, fmt.Errorf("timeline %s has seen no source yet: %w", m.ID(), timeline.ErrEmpty)
	}
	if c.Stored == nil {
		if err := m.decideIdentity(ctx, store, c.SystemID, c.SegmentSize); err != nil {
			return nil, err
		}
		c = m.Control()
	}
	if c.Stored.StoreID != store.ID() {
		return nil, fmt.Errorf("%w: its id is %s, and was %s; set object_store.url back", timeline.ErrOtherStore, store.ID(), c.Stored.StoreID)
	}
	if have := m.storedTimeline.Load(); have != nil && have.store == store && have.Identity().Incarnation == string(c.Incarnation) &&
		have.Identity().Revived == c.Revived {
		return have.Timeline, nil
	}
	t := &storedTimeline{store: store, Timeline: store.Timeline(string(m.ID().Tenant), m.ID().Name, backup.Identity{
		Incarnation: string(c.Incarnation), Revived: c.Revived, SystemID: c.SystemID, SegmentSize: c.SegmentSize, Compression: backup.Compression(c.Stored.Compression),
	})}
	m.storedTimeline.Store(t)
	return t.Timeline, nil
}

// storedTimeline is a timeline in the store that it belongs to.
type storedTimeline struct {
	*backup.Timeline
	store *backup.Store
}

// decideIdentity proposes this node's word for who the timeline is, and takes over
// the one that counts.
func (m *Member) decideIdentity(ctx context.Context, store *backup.Store, systemID uint64, size pg.SegmentSize) error {
	c := m.Control()
	if c.Stored != nil {
		return nil
	}
	id, err := store.Adopt(ctx, string(m.ID().Tenant), m.ID().Name, backup.Identity{
		Incarnation: string(c.Incarnation), SystemID: systemID, SegmentSize: size, Compression: m.keeper.depot.cfg.Compression,
	}, c.Again)
	if err != nil {
		return err
	}
	if id.Incarnation != string(c.Incarnation) {
		if err := m.meetAs(ctx, store, id); err != nil {
			return err
		}
		return errMetOther
	}
	return m.meeting(ctx, meeting(store, id))
}
