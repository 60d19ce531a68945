package backup

import (
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Events is told what happens. Any field may be nil. The functions run on the goroutine that did the work, with no lock held,
// and several of them at once.
type Events struct {
	// Operation is told each operation on the store that has ended.
	Operation func(Operation)
	// Uploaded is told each segment, whole or open, that the store has from now on, or had already.
	Uploaded func(Upload)
	// Conflict is told that the store has other bytes under a name.
	Conflict func(*ConflictError)
	// Damaged is told that an object is not what was written.
	Damaged func(*DamagedError)
	// Retried is told that an upload was cut, and begins again.
	Retried func(Retry)
}

// Operation is one request to the store.
type Operation struct {
	Name     string // get, head, put, list, delete
	Outcome  Outcome
	Duration time.Duration
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

// Retry is an upload that begins again.
type Retry struct {
	TLI     pg.TLI
	SegNo   pg.SegNo
	Attempt int // that failed, from 1
	Err     error
}

func (e *Events) operation(o Operation) {
	if e.Operation != nil {
		e.Operation(o)
	}
}

func (e *Events) uploaded(u Upload) {
	if e.Uploaded != nil {
		e.Uploaded(u)
	}
}

func (e *Events) conflict(c *ConflictError) {
	if e.Conflict != nil {
		e.Conflict(c)
	}
}

func (e *Events) damaged(d *DamagedError) {
	if e.Damaged != nil {
		e.Damaged(d)
	}
}

func (e *Events) retried(r Retry) {
	if e.Retried != nil {
		e.Retried(r)
	}
}
