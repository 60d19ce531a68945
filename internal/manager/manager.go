package manager

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

// Holder is the kind of the pass that a manager holds while it runs.
const Holder gate.Holder = "manager"

// defaultSaveAfter is how long the control file may lag what is durable.
const defaultSaveAfter = 5 * time.Second

// Timeline is what a manager needs of the timeline that it manages.
type Timeline interface {
	// Snapshot returns the state to plan by. It waits for no I/O.
	Snapshot() timeline.Snapshot
	// Wake is rung when the state changes; SaveControl does not ring it.
	Wake() *timeline.Wake
	Gate() *gate.Gate
	// SaveControl makes the positions durable.
	SaveControl(context.Context) error
}

// Membership is what a manager needs of a [timeline.Membership].
type Membership interface {
	SetActive(active bool) (changed bool)
	End() (changed bool)
}

// Bodies are the tasks' work, one for each task there is.
type Bodies map[tasks.Name]func(context.Context) error

// Config is what a manager may be told; the zero value will do.
type Config struct {
	// SaveAfter is how long the control file's positions may lag; 0 = 5 s. A
	// whole segment is never waited for.
	SaveAfter time.Duration
	// Seed decides the jitter of pauses; 0 = a random one.
	Seed uint64
	// Removable says how many bytes of local WAL the retention rule lets go. It
	// is pure, and at least one whole segment or 0; nil: nothing ever goes.
	Removable func(timeline.Snapshot) int64
	// Backup says that there is object storage; PartialInterval is how old the copy
	// of the open segment there may become.
	Backup          bool
	PartialInterval time.Duration
	// Secondary says that the tenant keeps a warm copy: nothing is received or
	// uploaded, object storage is followed.
	Secondary bool
	// Heard tells of the other nodes that keep the timeline; it waits for no I/O.
	// Nil: there are none.
	Heard func() Heard
	// Limits say how long the nodes of the timeline wait for each other.
	Limits Limits
	// Membership is the timeline's among the active ones; nil: nobody asks for them.
	Membership Membership
	// Worked is called when the manager goes to work, and when it no longer does: its
	// phase tells which. Nil: nobody wants to know.
	Worked func()
	// Tell makes the other nodes hear at once what has begun or ended; nil: there
	// are none.
	Tell   func()
	Events Events
	Tasks  tasks.Events
}

// Manager manages one timeline. Make one with [New].
type Manager struct {
	tl     Timeline
	bodies Bodies
	cfg    Config
	group  *tasks.Group

	phase  phaseClock
	counts counters
	last   atomic.Pointer[turnRecord] // what was decided last; nil before the first

	// The rest belongs to the goroutine of Run.
	active        bool // as announced last
	saveFailures  int  // in a row
	saveNotBefore time.Time
	panics        int // iterations in a row
	dirt          dirt
	turn          Turn      // as decided last
	queuedSince   time.Time // see view

	mu       sync.Mutex
	iterated chan struct{} // guarded by mu; closed at the end of an iteration; nil: nobody waits for one
}

// New makes a manager that does nothing until it is run. There must be a body
// for each task.
func New(tl Timeline, bodies Bodies, cfg Config) *Manager {
	for _, r := range rules {
		if bodies[r.task] == nil {
			panic("manager: there is no body for the task " + string(r.task))
		}
	}
	if cfg.SaveAfter == 0 {
		cfg.SaveAfter = defaultSaveAfter
	}
	if cfg.Seed == 0 {
		cfg.Seed = rand.Uint64()
	}
	m := &Manager{tl: tl, bodies: bodies, cfg: cfg, phase: newPhaseClock(), counts: newCounters()}
	wake := tl.Wake()
	m.group = tasks.New(tl.Gate(), tasks.Config{
		Events: cfg.Tasks,
		Ended:  func(tasks.Name) { wake.Ring(timeline.ReasonTaskEnded) },
		Progressed: func(name tasks.Name) {
			if name == Receive {
				wake.Ring(timeline.ReasonSourceConnected)
			}
		},
	})
	return m
}

// Run manages the timeline until ctx, which is the timeline's, ends; then it
// waits for the tasks, saves the control file once more and returns. It holds a
// pass of the timeline's gate for as long.
//
// There is no limit on that wait: the tasks were cancelled, and whoever closes
// the gate sees those that do not end as its holders, beside the manager.
func (m *Manager) Run(ctx context.Context) error {
	pass, err := m.tl.Gate().Enter(ctx, Holder)
	if err != nil {
		m.stopped()
		return fmt.Errorf("run the manager: %w", err)
	}
	defer pass.Leave()
	defer m.stopped()
	m.loop(ctx)
	return m.finish(ctx)
}

// enter goes over to a phase.
func (m *Manager) enter(p Phase) {
	was, _ := m.phase.read()
	m.phase.enter(p)
	if m.cfg.Worked != nil && p.IsWork() != was.IsWork() {
		m.cfg.Worked()
	}
}

// stopped tells whoever waits for an iteration that there will be none.
func (m *Manager) stopped() {
	m.enter(PhaseStopped)
	m.tellIterated()
}

// loop makes iterations until ctx ends.
func (m *Manager) loop(ctx context.Context) {
	wake := m.tl.Wake()
	reasons := wake.Take().With(timeline.ReasonStarted)
	for ctx.Err() == nil {
		lookAgain, err := m.supervised(ctx, reasons)
		if err != nil {
			reasons = m.recoverFrom(ctx, err)
			continue
		}
		m.enter(PhaseWait)
		reasons, err = wake.Wait(ctx, lookAgain)
		if err != nil {
			return
		}
	}
}

// supervised makes an iteration and survives its panic.
func (m *Manager) supervised(ctx context.Context, reasons timeline.WakeReasons) (lookAgain time.Time, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &tasks.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	lookAgain = m.iterate(ctx, reasons)
	m.panics = 0
	return lookAgain, nil
}

// recoverFrom pauses after an iteration that panicked. Nothing else wakes the
// manager meanwhile, or a panic that each piece of news repeats would spin.
func (m *Manager) recoverFrom(ctx context.Context, err error) timeline.WakeReasons {
	m.panics++
	m.counts.panics.Add(1)
	m.enter(PhaseRecover)
	pause := backoff(m.panics, m.cfg.Seed, retryCap)
	m.cfg.Events.panicked(ctx, Panic{Err: err, InARow: m.panics, Pause: pause})
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
	return m.tl.Wake().Take().With(timeline.ReasonRecovered)
}

// iterate is one iteration. It returns when to look again.
func (m *Manager) iterate(ctx context.Context, reasons timeline.WakeReasons) time.Time {
	began := time.Now()
	m.enter(PhaseSnapshot)
	v := m.look(reasons)

	m.enter(PhasePlan)
	looked := time.Now()
	p := plan(&v, looked, &m.cfg)
	m.last.Store(&turnRecord{reasons: reasons, plan: p, queuedSince: m.queuedSince})
	ctx = m.cfg.Events.planned(ctx, Planned{Reasons: reasons, Began: began, Plan: p})

	m.enter(PhaseApply)
	planned := time.Now()
	lookAgain := m.apply(ctx, &p)

	m.PeersSaid() // who spoke while this was planned compared it with what was decided before

	acted := p.Acts()
	m.counts.iterated(reasons.First(), acted)
	m.cfg.Events.iterated(ctx, Iteration{
		Reasons: reasons, Acted: acted, Duration: time.Since(began),
		Look: looked.Sub(began), Plan: planned.Sub(looked), Apply: time.Since(planned),
	})
	m.tellIterated()
	return lookAgain
}

// WaitDrained waits until a plan says that all is drained; see
// [timeline.Timeline.SetDraining], which comes before. It fails with the cause of
// ctx, and when the manager has ended.
func (m *Manager) WaitDrained(ctx context.Context) error {
	for {
		next := m.nextIteration()
		if last := m.last.Load(); last != nil && last.plan.Drained {
			return nil
		}
		if phase, _ := m.Phase(); phase == PhaseStopped {
			return gate.ErrClosed
		}
		select {
		case <-next:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (m *Manager) nextIteration() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.iterated == nil {
		m.iterated = make(chan struct{})
	}
	return m.iterated
}

// tellIterated wakes whoever waits for an iteration.
func (m *Manager) tellIterated() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.iterated != nil {
		close(m.iterated)
		m.iterated = nil
	}
}

func (m *Manager) look(reasons timeline.WakeReasons) view {
	v := view{
		Snapshot: m.tl.Snapshot(), tasks: m.group.Status(), active: m.active,
		saveFailures: m.saveFailures, saveNotBefore: m.saveNotBefore,
	}
	if m.cfg.Removable != nil {
		v.removable = m.cfg.Removable(v.Snapshot)
	}
	if m.cfg.Heard != nil {
		v.heard = m.cfg.Heard()
	}
	m.queuedSince = sinceQueued(&v, m.queuedSince, time.Now())
	v.turn, v.queuedSince = m.turn, m.queuedSince
	m.dirt = m.dirt.look(&v, reasons, time.Now())
	v.partialSince = m.dirt.since
	return v
}

// finish ends what Run began. The timeline's context has ended, and with it the
// tasks'.
func (m *Manager) finish(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	m.enter(PhaseEnding)
	p := planEnd(m.active, m.turn)
	m.last.Store(&turnRecord{plan: p})
	m.announce(ctx, &p)
	if m.cfg.Membership != nil {
		m.cfg.Membership.End()
	}
	if err := m.group.Wait(ctx); err != nil {
		return err
	}
	return m.saveLast(ctx)
}

// saveLast saves what is not saved yet.
func (m *Manager) saveLast(ctx context.Context) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &tasks.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	if s := m.tl.Snapshot(); !unsaved(&s) {
		return nil
	}
	m.enter(PhaseSave)
	if err := m.tl.SaveControl(ctx); err != nil {
		return fmt.Errorf("save the control file: %w", err)
	}
	return nil
}
