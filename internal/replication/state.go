package replication

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// StateName is what a receiver is doing, in one word. The list is closed: it is a metric's label.
type StateName string

// The states.
const (
	StateStopped    StateName = "stopped"     // Run was not called yet, or was cancelled
	StateConnecting StateName = "connecting"  // on the way to a source, or waiting to be called again after an error
	StateConnected  StateName = "connected"   // streaming
	StateRefused    StateName = "refused"     // the source was refused; State.Reason says why
	StateMissingWAL StateName = "missing_wal" // the source lacks the WAL that comes next
)

// State is what can be seen of a receiver from outside.
type State struct {
	Name  StateName
	Since time.Time // of Name; trying again and failing in the same way does not begin it anew
	// Reason is set while Name is Refused.
	Reason Reason
	// Error is what went wrong last, with what to do; empty while Name is Connected or Stopped.
	Error string
	// Source is the last one that streamed; its zero value: none yet.
	Source Source
	// TLI that is streamed; 0 unless Name is Connected.
	TLI pg.TLI
	// SourceEnd is the end of the source's WAL as far as it has told us; 0 unless Name is Connected.
	SourceEnd pg.LSN
}

// tracker keeps the state. Run's goroutine writes, anybody reads.
type tracker struct {
	state     atomic.Pointer[State] // without SourceEnd, which changes with each message
	sourceEnd atomic.Uint64
}

func newTracker() *tracker {
	t := &tracker{}
	t.state.Store(&State{Name: StateStopped, Since: time.Now()})
	return t
}

// load returns the state as of now.
func (t *tracker) load() State {
	s := *t.state.Load()
	if s.Name == StateConnected {
		s.SourceEnd = pg.LSN(t.sourceEnd.Load())
	}
	return s
}

// update changes the state. Only Run's goroutine calls it, so that nothing comes in between.
func (t *tracker) update(change func(*State)) {
	s := *t.state.Load()
	before := s.Name
	change(&s)
	if s.Name != before {
		s.Since = time.Now()
	}
	t.state.Store(&s)
}

// begin is the start of a session. A refusal stays, with its age, until the source is found to be another.
func (t *tracker) begin() {
	t.update(func(s *State) {
		if s.Name == StateStopped || s.Name == StateConnected {
			s.Name, s.Error = StateConnecting, ""
		}
	})
}

func (t *tracker) connected(src Source, tli pg.TLI) {
	t.sourceEnd.Store(uint64(src.Flush))
	t.update(func(s *State) {
		*s = State{Name: StateConnected, Since: s.Since, Source: src, TLI: tli}
	})
}

// end is what a session's error makes of the state.
func (t *tracker) end(ctx context.Context, err error) {
	t.update(func(s *State) {
		*s = State{Name: StateConnecting, Since: s.Since, Source: s.Source}
		if ctx.Err() != nil {
			s.Name = StateStopped
			return
		}
		if err == nil {
			return // the end of a TLI; the next session is about to begin
		}
		s.Error = err.Error()
		if refused := new(RefusedError); errors.As(err, &refused) {
			s.Name, s.Reason = StateRefused, refused.Reason
		}
		if missing := new(MissingWALError); errors.As(err, &missing) {
			s.Name = StateMissingWAL
		}
	})
}
