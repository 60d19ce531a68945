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

// WaitsFor is what a session waits for that is not the source. The list is closed.
type WaitsFor string

// What a session waits for.
const (
	WaitsForNothing   WaitsFor = ""
	WaitsForTurn      WaitsFor = "turn"      // to connect; see [Turns]
	WaitsForDecisions WaitsFor = "decisions" // what was decided elsewhere; see Config.Inquire
)

// State is what can be seen of a receiver from outside.
type State struct {
	Name StateName
	// Since is that of Name. Trying again and failing in the same way does not begin it anew; nor does a source that is refused,
	// or lacks WAL, by agreeing to stream: that counts when the sink has found that it has what is held.
	Since time.Time
	// Reason is set while Name is Refused.
	Reason Reason
	// WaitsFor is set while Name is not Connected, and something else than the source keeps the session from going on.
	WaitsFor WaitsFor
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

	// Run's own, of the session.
	undecided bool   // a stream was asked for, and the source has not yet proved itself
	streaming *State // what the state is when it has; nil: it has, or does not stream
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
	t.undecided, t.streaming = false, nil
	t.update(func(s *State) {
		if s.Name == StateStopped || s.Name == StateConnected {
			s.Name, s.Error = StateConnecting, ""
		}
	})
}

// waitFor tells what the session waits for, until it is told that the wait has ended.
func (t *tracker) waitFor(what WaitsFor) (ended func()) {
	t.update(func(s *State) { s.WaitsFor = what })
	return func() { t.update(func(s *State) { s.WaitsFor = WaitsForNothing }) }
}

// asked is a stream that was asked for: the source was not refused so far.
func (t *tracker) asked() { t.undecided = true }

// connected is the beginning of a stream. Of a source that was refused, or lacked WAL, that proves nothing yet.
func (t *tracker) connected(src Source, tli pg.TLI) {
	t.sourceEnd.Store(uint64(src.Flush))
	t.streaming = &State{Name: StateConnected, Source: src, TLI: tli}
	if !t.state.Load().denied() {
		t.stream()
	}
}

// verified is a source that was found to have what is held.
func (t *tracker) verified() {
	t.undecided = false
	t.stream()
}

// stream makes the state that of the stream.
func (t *tracker) stream() {
	if t.streaming == nil {
		return
	}
	t.update(func(s *State) {
		since := s.Since
		*s = *t.streaming
		s.Since = since
	})
	t.streaming = nil
}

// denied says whether the source was refused, or lacked WAL.
func (s *State) denied() bool { return s.Name == StateRefused || s.Name == StateMissingWAL }

// end is what a session's error makes of the state.
func (t *tracker) end(ctx context.Context, err error) {
	if t.undecided && t.state.Load().denied() && ctx.Err() == nil && !isVerdict(err) {
		return // nothing was found out
	}
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

// isVerdict says whether an error tells what the source is.
func isVerdict(err error) bool {
	refused, missing := new(RefusedError), new(MissingWALError)
	return errors.As(err, &refused) || errors.As(err, &missing)
}
