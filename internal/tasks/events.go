package tasks

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Outcome is how a run ended.
type Outcome string

// The outcomes. An empty one: it has not ended yet.
const (
	Done      Outcome = "done"      // the work is done
	Cancelled Outcome = "cancelled" // stopped, or the owner shuts down
	Failed    Outcome = "error"
	Panicked  Outcome = "panic"
)

// Outcomes lists all of them.
func Outcomes() []Outcome { return []Outcome{Done, Cancelled, Failed, Panicked} }

// Bad reports whether something went wrong.
func (o Outcome) Bad() bool { return o == Failed || o == Panicked }

// Events reports starts and ends. Any field may be nil.
type Events struct {
	// Started is called before a task's goroutine is started, on that of whoever
	// starts it; what it returns, a context derived from the given one, is the
	// task's.
	Started func(context.Context, Start) context.Context
	// Ended is called with the task's context, on its goroutine, before its status
	// shows the end.
	Ended func(context.Context, End)
}

// Start is the start of a run.
type Start struct {
	Name       Name
	Generation uint64
	// Attempt is 1 more than the number of fruitless runs before it.
	Attempt int
}

// End is the end of a run.
type End struct {
	Name       Name
	Generation uint64
	Attempt    int
	Outcome    Outcome
	// Err is what the body returned, also when it was cancelled; a [*PanicError] if
	// it panicked.
	Err error
	Ran time.Duration
}

// PanicError is the end of a body that panicked.
type PanicError struct {
	Value any
	Stack []byte // of the panic
}

// Error shows the value, not the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the value of the panic if it was an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// errExited is the end of a body that called runtime.Goexit, as the testing
// package's FailNow does.
var errExited = errors.New("task left its goroutine without returning")

func (e *Events) started(ctx context.Context, s Start) context.Context {
	if e.Started == nil {
		return ctx
	}
	return e.Started(ctx, s)
}

func (e *Events) ended(ctx context.Context, end End) {
	if e.Ended != nil {
		e.Ended(ctx, end)
	}
}
