package backup

import (
	"context"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Events is told what happens. Any field may be nil. The functions run on the goroutine that did the work, with no lock held,
// and several of them at once. Their context is that of the work: it says for which timeline it was done.
type Events struct {
	// Operation is told each operation on the store that has ended.
	Operation func(context.Context, Operation)
	// UploadStarted is told each upload of a segment, whole or open, before the store is asked anything; what it returns, a
	// context derived from the given one, is the upload's.
	UploadStarted func(context.Context, UploadStart) context.Context
	// UploadEnded is told how that ended, with the upload's context.
	UploadEnded func(context.Context, UploadEnd)
	// Conflict is told that the store has other bytes under a name.
	Conflict func(context.Context, *ConflictError)
	// Damaged is told once that an object is not what was written, until it was found to be put right.
	Damaged func(context.Context, *DamagedError)
	// Retried is told that an upload was cut, and begins again.
	Retried func(context.Context, Retry)
}

// Operation is one request to the store.
type Operation struct {
	Name     string // one of OperationNames
	Outcome  Outcome
	Duration time.Duration
}

// UploadStart is a segment that is about to be uploaded.
type UploadStart struct {
	TLI     pg.TLI
	SegNo   pg.SegNo
	Partial bool  // the open segment
	Raw     int64 // bytes of WAL
}

// Upload is a segment that was uploaded.
type Upload struct {
	TLI      pg.TLI
	SegNo    pg.SegNo
	Partial  bool  // the open segment
	Created  bool  // false: it was there already, with the same bytes
	Raw      int64 // bytes of WAL
	Stored   int64 // bytes of the object
	Duration time.Duration
}

// UploadEnd is the end of an upload.
type UploadEnd struct {
	Upload
	Err error // nil: the store has the segment from now on, or had it already
}

// Retry is an upload that begins again.
type Retry struct {
	TLI     pg.TLI
	SegNo   pg.SegNo
	Attempt int // that failed, from 1
	Err     error
}

func (e *Events) operation(ctx context.Context, o Operation) {
	if e.Operation != nil {
		e.Operation(ctx, o)
	}
}

func (e *Events) uploadStarted(ctx context.Context, s UploadStart) context.Context {
	if e.UploadStarted == nil {
		return ctx
	}
	return e.UploadStarted(ctx, s)
}

func (e *Events) uploadEnded(ctx context.Context, end UploadEnd) {
	if e.UploadEnded != nil {
		e.UploadEnded(ctx, end)
	}
}

func (e *Events) conflict(ctx context.Context, c *ConflictError) {
	if e.Conflict != nil {
		e.Conflict(ctx, c)
	}
}

func (e *Events) damaged(ctx context.Context, d *DamagedError) {
	if e.Damaged != nil {
		e.Damaged(ctx, d)
	}
}

func (e *Events) retried(ctx context.Context, r Retry) {
	if e.Retried != nil {
		e.Retried(ctx, r)
	}
}
