package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/restore"
	"github.com/sluicewal/sluice/internal/timeline"
)

// StoreName names the object store among the places that are asked. There is one.
const StoreName = "object storage"

// ErrOtherLife says that object storage keeps another life of a timeline than the one that was asked for.
var ErrOtherLife = errors.New("object storage keeps another life of the timeline")

// Stored answers for one life of a timeline out of object storage. It needs no node.
type Stored struct{ timeline *backup.Timeline }

// NewStored returns the place that a timeline's objects are.
func NewStored(t *backup.Timeline) *Stored { return &Stored{timeline: t} }

// OpenStored finds the newest life of a timeline in a store. It is fs.ErrNotExist if there never was one, and
// backup.ErrDeleted if it has ended; both only after the store confirmed that it is the one that was opened. With an
// incarnation, it is ErrOtherLife if the newest is another one.
func OpenStored(ctx context.Context, store *backup.Store, id timeline.ID, incarnation string) (*Stored, error) {
	identity, err := store.Find(ctx, string(id.Tenant), id.Name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, backup.ErrDeleted) {
		if lost := store.Confirm(ctx); lost != nil {
			return nil, fmt.Errorf("look for timeline %s in object storage: %w", id, lost)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no timeline %s in object storage: %w", id, fs.ErrNotExist)
	case err != nil:
		return nil, fmt.Errorf("look for timeline %s in object storage: %w", id, err)
	case incarnation != "" && incarnation != identity.Incarnation:
		return nil, fmt.Errorf("timeline %s: %w: incarnation %s, and not %s", id, ErrOtherLife, identity.Incarnation, incarnation)
	}
	return NewStored(store.Timeline(string(id.Tenant), id.Name, identity)), nil
}

// Identity returns what the nodes of the timeline agreed on.
func (s *Stored) Identity() backup.Identity { return s.timeline.Identity() }

// Answer implements restore.Place. An answer that lacks the file was confirmed by the store.
func (s *Stored) Answer(ctx context.Context, f restore.File) restore.Answer {
	var survey backup.Survey
	var err error
	if f.History {
		survey, err = s.timeline.SurveyHistory(ctx, f.TLI)
	} else {
		survey, err = s.timeline.SurveySegment(ctx, f.SegNo)
	}
	if err != nil {
		return restore.Answer{From: StoreName, Err: err}
	}
	a := restore.Answer{
		From: StoreName, SystemID: s.Identity().SystemID, History: survey.History, Seals: survey.Seals,
		HasHistory: survey.HasHistory, Segments: survey.Segments, OldestLSN: survey.Oldest,
		// Only segments below the commit LSN are uploaded whole, so that the end of one is a commit LSN. An open segment says
		// nothing: it holds what one node had made durable, which may be more than was committed. Nor does a seal, which counts
		// by itself: where it ends above the whole segments, what is between was decided, and need not be here.
		CommitLSN: survey.WholeEnd,
	}
	if survey.History.TLI == 0 {
		a.SystemID = 0 // nothing was uploaded yet, and nothing contradicts anybody
	}
	for tli := range survey.Damaged {
		// It was uploaded, so that it is not missing, and below the commit LSN. Who opens it hears what is wrong with it.
		a.Segments[tli] = f.End()
		if backup.NewestAt(a.History, f.SegNo, f.Size) == tli {
			a.CommitLSN = max(a.CommitLSN, f.End())
		}
	}
	return a
}

// OpenSegment implements restore.Place: it is fetched and held against its checksum before this returns.
func (s *Stored) OpenSegment(ctx context.Context, tli pg.TLI, n pg.SegNo) (restore.Segment, error) {
	seg, err := s.timeline.OpenSegment(ctx, tli, n)
	if err != nil {
		return nil, asDamaged(pg.SegmentName(tli, n, s.Identity().SegmentSize), err)
	}
	return seg, nil
}

// History implements restore.Place.
func (s *Stored) History(ctx context.Context, tli pg.TLI) ([]byte, error) {
	raw, err := s.timeline.History(ctx, tli)
	return raw, asDamaged(pg.HistoryName(tli), err)
}

// asDamaged says in restore's words that an object is not what was written.
func asDamaged(file string, err error) error {
	if bad := (*backup.DamagedError)(nil); errors.As(err, &bad) {
		return &restore.DamagedError{File: file, Err: bad}
	}
	return err
}

// DecideSeal lets the store decide the end of a TLI that was sealed on a node. That it has decided on another one is an error.
func (s *Stored) DecideSeal(ctx context.Context, seal timeline.Seal) error {
	decided, err := s.timeline.DecideSeal(ctx, backup.Seal{TLI: seal.TLI, End: seal.End, DataLossAccepted: seal.DataLossAccepted})
	if err == nil && decided.End != seal.End {
		return fmt.Errorf("TLI %d was sealed at %s, and object storage has decided on %s", seal.TLI, seal.End, decided.End)
	}
	return err
}

// MarkTailServed makes durable in the store that a sealed tail was handed out: see [backup.Timeline.MarkTailServed].
func (s *Stored) MarkTailServed(ctx context.Context, tli pg.TLI) error {
	return s.timeline.MarkTailServed(ctx, tli)
}

// Unreachable is a place that does not answer, for this reason: what only it knows cannot be found out.
func Unreachable(name string, err error) restore.Place { return unreachable{name, err} }

// UnreachableStore is an object store that does not answer.
func UnreachableStore(err error) restore.Place { return unreachable{StoreName, err} }

type unreachable struct {
	name string
	err  error
}

// Answer implements restore.Place.
func (u unreachable) Answer(context.Context, restore.File) restore.Answer {
	return restore.Answer{From: u.name, Err: u.err}
}

// OpenSegment implements restore.Place; nobody asks for what was not offered.
func (u unreachable) OpenSegment(context.Context, pg.TLI, pg.SegNo) (restore.Segment, error) {
	return nil, u.err
}

// History implements restore.Place.
func (u unreachable) History(context.Context, pg.TLI) ([]byte, error) { return nil, u.err }
