package manager

import (
	"sync/atomic"
	"time"

	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

// Phase is what a manager is doing.
type Phase uint8

// The phases.
const (
	PhaseStarting Phase = iota // not run yet
	PhaseWait                  // waits for a reason to look
	PhaseSnapshot
	PhasePlan
	PhaseApply
	PhaseSave    // waits for the disk
	PhaseRecover // pauses after a panic
	PhaseEnding  // waits for its tasks to end
	PhaseStopped
	numPhases = iota
)

var phaseNames = [numPhases]string{
	"starting", "wait", "snapshot", "plan", "apply", "save", "recover", "ending", "stopped",
}

// Phases lists all phases.
func Phases() []Phase {
	list := make([]Phase, numPhases)
	for i := range list {
		list[i] = Phase(i)
	}
	return list
}

// String returns the phase as metrics and logs name it.
func (p Phase) String() string { return phaseNames[p] }

// IsWork leaves out the phases in which a manager may be for as long as it likes.
func (p Phase) IsWork() bool { return p != PhaseStarting && p != PhaseWait && p != PhaseStopped }

// phaseClock holds the phase and since when, in one word, so that both are read
// together and without a lock.
type phaseClock struct {
	zero time.Time
	word atomic.Uint64 // nanoseconds since zero, times 16, plus the phase
}

func newPhaseClock() phaseClock { return phaseClock{zero: time.Now()} }

func (c *phaseClock) enter(p Phase) {
	c.word.Store(uint64(time.Since(c.zero))<<4 | uint64(p))
}

func (c *phaseClock) read() (Phase, time.Time) {
	w := c.word.Load()
	return Phase(w & 15), c.zero.Add(time.Duration(w >> 4))
}

// counters are what a manager counts. Totals only grow.
type counters struct {
	iterations [][2]atomic.Uint64 // by reason, and by whether they acted
	panics     atomic.Uint64
}

func newCounters() counters {
	return counters{iterations: make([][2]atomic.Uint64, len(timeline.Reasons()))}
}

func (c *counters) iterated(r timeline.WakeReason, acted bool) {
	c.iterations[r][index(acted)].Add(1)
}

func (c *counters) total(acted bool) uint64 {
	var sum uint64
	for i := range c.iterations {
		sum += c.iterations[i][index(acted)].Load()
	}
	return sum
}

func index(acted bool) int {
	if acted {
		return 1
	}
	return 0
}

// turnRecord is what the last iteration was for, and what it decided.
type turnRecord struct {
	reasons     timeline.WakeReasons
	plan        Plan
	queuedSince time.Time // see view
}

// Status is what a manager shows of itself.
type Status struct {
	Phase      Phase
	PhaseSince time.Time

	Iterations uint64 // all
	Noops      uint64 // those of them that changed nothing
	Panics     uint64 // iterations that panicked; they count nowhere else

	LastReasons timeline.WakeReasons // of the last iteration; empty before the first
	Active      bool
	ActiveWhy   Why
	SaveWhy     Why
	Turn        Turn
	Tasks       []TaskStatus // every task there is, also those that never ran
}

// TaskStatus is what was last decided about a task, and what it is doing.
type TaskStatus struct {
	Decision Decision
	Status   tasks.Status
}

// Status reads the manager's state. It waits for no iteration.
func (m *Manager) Status() Status {
	acted, noops := m.counts.total(true), m.counts.total(false)
	s := Status{Iterations: acted + noops, Noops: noops, Panics: m.counts.panics.Load()}
	s.Phase, s.PhaseSince = m.phase.read()
	last := m.last.Load()
	if last == nil {
		return s
	}
	s.LastReasons = last.reasons
	s.Active, s.ActiveWhy, s.SaveWhy = last.plan.Active, last.plan.ActiveWhy, last.plan.SaveWhy
	s.Turn = last.plan.Turn
	now := view{tasks: m.group.Status()}
	for _, d := range last.plan.Tasks {
		s.Tasks = append(s.Tasks, TaskStatus{Decision: d, Status: now.status(d.Task)})
	}
	return s
}

// Phase returns what the manager is doing and since when. It takes no lock.
func (m *Manager) Phase() (Phase, time.Time) { return m.phase.read() }

// Iterations returns how many iterations there were for a reason (the weightiest
// they had) that did something, or did nothing.
func (m *Manager) Iterations(r timeline.WakeReason, acted bool) uint64 {
	return m.counts.iterations[r][index(acted)].Load()
}
