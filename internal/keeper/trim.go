package keeper

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/timeline"
)

var (
	// ErrNoStore says that the node has no object storage.
	ErrNoStore = errors.New("no object storage is configured (object_store.url): local WAL goes by `retain`")
	// ErrBadSegment says that a name is no segment's, or not one that may be trimmed to.
	ErrBadSegment = errors.New("segment cannot be used")
)

// Trimmed is what a trim has removed.
type Trimmed struct {
	Segments int
	Bytes    int64  // of their objects
	Before   pg.LSN // what is above is still there
}

// Trim removes what object storage has below a segment: the first that the oldest
// base backup needs. As pg_archivecleanup does, it takes the name of a .backup
// file, too. Histories, claims and seals stay.
func (k *Keeper) Trim(ctx context.Context, id timeline.ID, before string) (Trimmed, error) {
	m, err := k.member(id)
	if err != nil {
		return Trimmed{}, err
	}
	if k.depot == nil {
		return Trimmed{}, ErrNoStore
	}
	var res Trimmed
	err = m.during(ctx, func(ctx context.Context) (err error) {
		res, err = m.trim(ctx, before)
		return err
	})
	return res, err
}

func (m *Member) trim(ctx context.Context, before string) (Trimmed, error) {
	t, err := m.living(ctx)
	if err != nil {
		return Trimmed{}, err
	}
	n, err := trimPoint(before, m.Control().SegmentSize, m.Backup().LSN)
	if err != nil {
		return Trimmed{}, err
	}
	defer m.BeginOperation(opTrim, "objects")()
	res := Trimmed{Before: m.Control().SegmentSize.Start(n)}
	if res.Segments, res.Bytes, err = t.Trim(ctx, n); err != nil {
		return Trimmed{}, fmt.Errorf("%d segments were removed: %w", res.Segments, err)
	}
	return res, nil
}

// trimPoint reads the name of a segment, and refuses one above all that is there:
// after that, nothing could be restored.
func trimPoint(name string, size pg.SegmentSize, backedUp pg.LSN) (pg.SegNo, error) {
	segment, _, _ := strings.Cut(name, ".")
	_, n, err := pg.ParseSegmentName(segment, size)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrBadSegment, err)
	}
	if size.Start(n) > backedUp {
		return 0, fmt.Errorf("%w: %s begins at %s, above %s, up to where object storage has this timeline: nothing of it would be left there",
			ErrBadSegment, segment, size.Start(n), backedUp)
	}
	return n, nil
}
