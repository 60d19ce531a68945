package main

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/keeper"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/restore"
)

// storeTimeout bounds each operation on object storage, beside the time that its bytes may take.
const storeTimeout = 15 * time.Second

// storedPlace is a timeline in object storage, or the reason why it cannot be read; neither where none is named.
type storedPlace struct {
	*keeper.Stored
	err   error
	store *backup.Store // to be closed; may be nil
}

// openStore opens the store for reading, for the life of the timeline that the data directories keep.
func (o *offline) openStore(ctx context.Context, incarnation string) *storedPlace {
	p := &storedPlace{}
	if o.store == "" {
		return p
	}
	if p.store, p.err = backup.Open(ctx, o.store, backup.Config{ReadOnly: true, Timeout: storeTimeout}); p.err == nil {
		p.Stored, p.err = keeper.OpenStored(ctx, p.store, o.id, incarnation)
	}
	return p
}

// close lets go of the store. What was fetched stays.
func (p *storedPlace) close() {
	if p.store != nil {
		_ = p.store.Close() // it was read
	}
}

// place is what restore asks; nil where no store is named.
func (p *storedPlace) place() restore.Place {
	switch {
	case p.err != nil:
		return keeper.UnreachableStore(p.err)
	case p.Stored == nil:
		return nil
	}
	return p.Stored
}

// gave reports whether an answer comes from the store.
func (p *storedPlace) gave(d restore.Decision) bool {
	return p.Stored != nil && len(d.From) > 0 && d.From[0] == keeper.StoreName
}

func (p *storedPlace) segmentSize() pg.SegmentSize {
	if p.Stored == nil {
		return 0
	}
	return p.Identity().SegmentSize
}

// unknown says why the store, which is all that was named, cannot be read. What only a person can change is not tried again.
func (p *storedPlace) unknown() restore.Found {
	lasting := slices.ContainsFunc(lastingErrors, func(e error) bool { return errors.Is(p.err, e) })
	d := restore.Decision{Reason: restore.Unreachable, Text: p.err.Error(), Retry: !lasting}
	if lasting {
		d.Reason = restore.Refused
	}
	return restore.Found{Decision: d}
}

// lastingErrors stay until a person acts.
var lastingErrors = []error{backup.ErrBadURL, backup.ErrDenied, backup.ErrNoBucket, backup.ErrDeleted, fs.ErrNotExist}
