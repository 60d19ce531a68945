package gate

import (
	"context"
	"time"
)

// Events reports what happens at a gate. Any field may be nil. The functions are
// called without a lock, on the goroutine that caused the event, and must be
// quick: the byte path enters gates too.
type Events struct {
	// Counts returns where the entries of a kind's gates are counted, nil: nowhere.
	// It is called when somebody comes to a gate first; many gates share what it
	// returns.
	Counts func(kind string) *Counts
	// Entered is called for an entry that is traced ([Hooks.Trace]), also for one
	// that is refused; for all others there are Counts.
	Entered func(context.Context, Entry)
	// Left is called after a pass was left that was held for LongStay or longer: a
	// Close that waited for it may return at the same time. It has no context, as
	// whoever leaves need not be who entered.
	Left func(Exit)
	// LongStay is how long a stay is that is worth telling; 0: each is. The gate
	// measures stays to within 5 ms, 15 where it has a [Clock]; one that is told
	// has Exit.Held of LongStay or more.
	LongStay time.Duration
	// CloseStarted is called when a Close begins to wait; the context that it
	// returns is that of the other close events.
	CloseStarted func(context.Context, CloseStart) context.Context
	// CloseWaiting names the holders once a close has waited for 100 ms, and then
	// once a second, whatever the number of those who wait.
	CloseWaiting func(context.Context, CloseWait)
	// CloseEnded is called when a Close returns.
	CloseEnded func(context.Context, CloseEnd)
	// Misused is called when a pass was used wrongly: a bug, harmless as such.
	Misused func(Misuse)
}

// Entry is an attempt to enter.
type Entry struct {
	Kind, Name string
	Holder     Holder
	Refused    bool
}

// Exit is the end of a stay.
type Exit struct {
	Kind, Name string
	Holder     Holder
	Since      time.Time
	Held       time.Duration
	Trace      Trace
}

// CloseStart is the begin of a Close.
type CloseStart struct{ Kind, Name string }

// CloseWait is a Close that waits.
type CloseWait struct {
	Kind, Name string
	Waited     time.Duration // by the Close that reports
	Holders    []HolderInfo  // the oldest first; the receiver's to keep
}

// CloseEnd is the end of a Close.
type CloseEnd struct {
	Kind, Name string
	Waited     time.Duration
	Err        error // nil: complete; else a *CloseError
}

// MisuseKind is a way to use a gate wrongly.
type MisuseKind string

// The misuses that a gate notices.
const (
	LeftTwice        MisuseKind = "left_twice"
	ClonedAfterLeave MisuseKind = "cloned_after_leave"
	ClosedByHolder   MisuseKind = "closed_by_holder"
)

// MisuseKinds lists all of them.
func MisuseKinds() []MisuseKind {
	return []MisuseKind{LeftTwice, ClonedAfterLeave, ClosedByHolder}
}

// Misuse is a bug of a holder's, noticed by the gate.
type Misuse struct {
	Kind, Name string
	Misuse     MisuseKind
	Holder     Holder
}

func (e *Events) closeStarted(ctx context.Context, start CloseStart) context.Context {
	if e.CloseStarted == nil {
		return ctx
	}
	return e.CloseStarted(ctx, start)
}

func (e *Events) closeWaiting(ctx context.Context, wait CloseWait) {
	if e.CloseWaiting != nil {
		e.CloseWaiting(ctx, wait)
	}
}

func (e *Events) closeEnded(ctx context.Context, end CloseEnd) {
	if e.CloseEnded != nil {
		e.CloseEnded(ctx, end)
	}
}

// left reports the end of a stay.
func (g *Gate) left(stay record, now time.Duration) {
	g.hooks.Events.Left(Exit{
		Kind: g.kind, Name: g.name, Holder: stay.holder,
		Since: g.room.Load().clock.at(stay.since), Held: now - stay.since, Trace: stay.trace,
	})
}

// misuse counts a bug and reports it.
func (g *Gate) misuse(kind MisuseKind, h Holder) {
	g.inside().misused.Add(1)
	if misused := g.hooks.Events.Misused; misused != nil {
		misused(Misuse{Kind: g.kind, Name: g.name, Misuse: kind, Holder: h})
	}
}
