package telemetry

import (
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

// scopedEvents turns the events of one timeline into telemetry.
type scopedEvents struct {
	*Telemetry
	id timeline.ID

	made time.Time
	seen bool // the collector has seen the timeline; guarded by Telemetry.mu

	lastSync  atomic.Pointer[tracedSync] // the last sync that has a span
	connected atomic.Bool                // the receiver's session has streamed

	life    atomic.Pointer[timeline.Incarnation] // nil: not known
	asked   spanRef                              // the last request that no iteration has followed yet
	turn    spanRef                              // the last iteration
	open    trace.Span                           // of the iteration under way; nil: none is recorded. Only the manager's goroutine uses it
	session spanRef                              // the last session of the receiver

	mu     sync.Mutex
	logged map[tasks.Name]loggedError       // guarded by mu; nil before one is
	spawns map[tasks.Name]trace.SpanContext // guarded by mu; of the last run of each task; nil before the first
}

// tracedSync is a sync with the span that shows it, so that the acknowledgement that it allowed can
// point there.
type tracedSync struct {
	flush pg.Position
	span  trace.SpanContext
	at    time.Time
}

// loggedError is the last failure of a task that was logged.
type loggedError struct {
	text string
	at   time.Time
}

// scoped returns the events of a timeline: always the same while the timeline is there.
func (t *Telemetry) scoped(id timeline.ID) *scopedEvents {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.timelines[id]
	if s == nil {
		s = &scopedEvents{Telemetry: t, id: id, made: time.Now()}
		t.timelines[id] = s
	}
	return s
}

// known returns the events of a timeline; nil: it is not there.
func (t *Telemetry) known(id timeline.ID) *scopedEvents {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.timelines[id]
}

// opensWithin is how long a timeline may take from its first event until the collector sees it: a node with thousands opens them
// all before it shows one.
const opensWithin = time.Hour

// keepScoped forgets timelines that are gone, but not those that are still to come: what their events keep is found by nobody
// once it is made anew.
func (t *Telemetry) keepScoped(there []*TimelineStats) {
	ids := make(map[timeline.ID]timeline.Incarnation, len(there))
	for _, s := range there {
		ids[s.ID] = s.Incarnation
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, s := range t.timelines {
		life, found := ids[id]
		switch {
		case found:
			s.seen = true
			s.life.Store(&life)
		case s.seen || time.Since(s.made) >= opensWithin:
			delete(t.timelines, id)
		}
	}
}

// spawned keeps the start of a task, for the events of its work that have no context.
func (s *scopedEvents) spawned(task tasks.Name, sc trace.SpanContext) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spawns == nil {
		s.spawns = map[tasks.Name]trace.SpanContext{}
	}
	s.spawns[task] = sc
}

// spawn returns the start of the last run of a task.
func (s *scopedEvents) spawn(task tasks.Name) trace.SpanContext {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spawns[task]
}

// repeatEvery is how often a failure that repeats itself is logged.
const repeatEvery = time.Minute

// news reports whether a task's failure is worth a record: another than the last, or a while later.
func (s *scopedEvents) news(task tasks.Name, text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if last := s.logged[task]; last.text == text && now.Sub(last.at) < repeatEvery {
		return false
	}
	if s.logged == nil {
		s.logged = map[tasks.Name]loggedError{}
	}
	s.logged[task] = loggedError{text, now}
	return true
}

// forgive has the next failure of a task logged, whatever it is.
func (s *scopedEvents) forgive(task tasks.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.logged, task)
}
