package wal

import (
	"errors"
	"fmt"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

var (
	// ErrPoisoned is what a log answers after a write or a sync failed, until [Log.Recover]; errors.As finds the
	// [*Poison] with the reason.
	ErrPoisoned = errors.New("log is poisoned")
	// ErrClosed is what a closed log answers.
	ErrClosed = errors.New("log is closed")
	// ErrEmpty is what a log answers that has no first position yet; see [Log.Start].
	ErrEmpty = errors.New("log has no first position")
)

// Poison is why a log takes nothing any more. What was written and not synced when a sync failed may be lost, and the kernel
// may say otherwise: only what an earlier sync vouched for is relied on.
type Poison struct {
	Err     error       // of the operation that failed
	Vouched pg.Position // the last that was made durable
	At      time.Time
}

func (p *Poison) Error() string {
	return fmt.Sprintf("%v since %s: only what is below %s counts: %v", ErrPoisoned, p.At.UTC().Format(time.RFC3339), p.Vouched, p.Err)
}

// Is makes errors.Is(p, ErrPoisoned) true.
func (p *Poison) Is(target error) bool { return target == ErrPoisoned }

// Unwrap returns the failed operation's error.
func (p *Poison) Unwrap() error { return p.Err }

// GapError says that bytes do not continue where the log is.
type GapError struct {
	Want, Got pg.LSN
}

func (e *GapError) Error() string {
	return fmt.Sprintf("WAL does not go on where it ended: expected %s, got %s", e.Want, e.Got)
}

// OtherBytesError says that a source has other bytes, below the end of our last complete record, than it once sent us: it is
// not the server that it was, or a copy of it that went its own way.
type OtherBytesError struct {
	LSN pg.LSN // the first byte that differs
}

func (e *OtherBytesError) Error() string {
	return fmt.Sprintf("WAL differs at %s from what is held", e.LSN)
}

// DamagedError says that a directory holds less than was once made durable in it. Nothing in it was changed.
type DamagedError struct {
	Dir     string
	Valid   pg.Position // the WAL can be read to here
	Vouched pg.Position // and should be to here
	Err     error       // what is there instead; nil: nothing is
}

func (e *DamagedError) Error() string {
	reason := "the rest is missing"
	if e.Err != nil {
		reason = e.Err.Error()
	}
	return fmt.Sprintf("WAL in %s is damaged: it was durable to %s and can be read to %s only: %s", e.Dir, e.Vouched, e.Valid, reason)
}

// Unwrap returns what is there instead.
func (e *DamagedError) Unwrap() error { return e.Err }
