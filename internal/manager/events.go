package manager

import (
	"context"
	"time"

	"github.com/sluicewal/sluice/internal/timeline"
)

// Events reports what a manager decides and does. Any field may be nil. All are
// called on the manager's goroutine and must be quick.
type Events struct {
	// Planned is called between plan and apply. What it returns, a context derived
	// from the given one, is that of what the plan leads to: tasks are started
	// with it.
	Planned func(context.Context, Planned) context.Context
	// Iterated is called at the end of an iteration, with the context that Planned
	// returned.
	Iterated func(context.Context, Iteration)
	// ActiveChanged is called for real changes only.
	ActiveChanged func(context.Context, ActiveChange)
	// OffloaderChanged is called when another node's turn to back up has come, where
	// several keep the timeline.
	OffloaderChanged func(context.Context, OffloaderChange)
	// SaveFailed is called when the control file could not be saved.
	SaveFailed func(context.Context, SaveFailure)
	// Panicked is called when an iteration panicked: a bug. The manager goes on.
	Panicked func(context.Context, Panic)
}

// Planned is a plan that is about to be applied. It is shared, and must not be
// changed.
type Planned struct {
	Reasons timeline.WakeReasons
	Began   time.Time // of the iteration
	Plan    Plan
}

// Iteration is an iteration that has ended.
type Iteration struct {
	Reasons timeline.WakeReasons
	Acted   bool // it changed something
	// Duration is that of the whole, the others those of its parts.
	Duration, Look, Plan, Apply time.Duration
}

// ActiveChange is a timeline that has become active or is no longer.
type ActiveChange struct {
	Active bool
	Why    Why
}

// OffloaderChange is the turn to back up that has gone from one node to another.
type OffloaderChange struct {
	From, To string // nodes; "": nobody
	Mine     bool   // it is this node's now
	Why      Why
}

// SaveFailure is a control file that could not be saved.
type SaveFailure struct {
	Err    error
	InARow int
	Retry  time.Time // not before
}

// Panic is an iteration that panicked.
type Panic struct {
	Err    error // a *tasks.PanicError
	InARow int
	Pause  time.Duration // before the next
}

func (e *Events) planned(ctx context.Context, p Planned) context.Context {
	if e.Planned == nil {
		return ctx
	}
	return e.Planned(ctx, p)
}

func (e *Events) iterated(ctx context.Context, i Iteration) {
	if e.Iterated != nil {
		e.Iterated(ctx, i)
	}
}

func (e *Events) activeChanged(ctx context.Context, c ActiveChange) {
	if e.ActiveChanged != nil {
		e.ActiveChanged(ctx, c)
	}
}

func (e *Events) offloaderChanged(ctx context.Context, c OffloaderChange) {
	if e.OffloaderChanged != nil {
		e.OffloaderChanged(ctx, c)
	}
}

func (e *Events) saveFailed(ctx context.Context, f SaveFailure) {
	if e.SaveFailed != nil {
		e.SaveFailed(ctx, f)
	}
}

func (e *Events) panicked(ctx context.Context, p Panic) {
	if e.Panicked != nil {
		e.Panicked(ctx, p)
	}
}
