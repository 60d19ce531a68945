package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

// StopError is the cause with which a manager cancels a task.
type StopError struct{ Why Why }

// Error implements error.
func (e *StopError) Error() string { return "stopped by the manager: " + string(e.Why) }

// apply does what the plan says, and returns when to look again. What may take
// long, a save, comes last.
func (m *Manager) apply(ctx context.Context, p *Plan) time.Time {
	for _, d := range p.Tasks {
		switch d.Action {
		case Start:
			m.start(ctx, d)
		case Stop:
			m.group.Stop(d.Task, &StopError{d.Why})
		}
	}
	m.announce(ctx, p)
	lookAgain := p.LookAgain
	if p.Save && !m.save(ctx, p) {
		lookAgain = earliest(lookAgain, m.saveNotBefore)
	}
	m.arm(p)
	return lookAgain
}

// start starts a task. A timeline that shuts down has closed its gate, and that
// is the end of it; nothing else can go wrong but the plan.
func (m *Manager) start(ctx context.Context, d Decision) {
	err := m.group.Go(ctx, tasks.Task{Name: d.Task, Generation: d.Generation, Run: m.bodies[d.Task]})
	if err != nil && !errors.Is(err, gate.ErrClosed) {
		panic(fmt.Errorf("plan to start a task: %w", err))
	}
}

// announce tells whether the timeline is active, and whose turn it is, if that has
// changed.
func (m *Manager) announce(ctx context.Context, p *Plan) {
	was := m.turn
	m.turn = p.Turn
	if p.ActiveChanged {
		m.active = p.Active
		if m.cfg.Membership != nil {
			m.cfg.Membership.SetActive(p.Active)
		}
		m.cfg.Events.activeChanged(ctx, ActiveChange{Active: p.Active, Why: p.ActiveWhy})
	}
	if p.TurnChanged {
		m.cfg.Events.offloaderChanged(ctx, OffloaderChange{From: was.Node, To: p.Turn.Node, Mine: p.Turn.Mine, Why: p.Turn.Why})
	}
	if (p.ActiveChanged || p.TurnChanged) && m.cfg.Tell != nil {
		m.cfg.Tell()
	}
}

// save saves the control file, or remembers when to try again.
func (m *Manager) save(ctx context.Context, p *Plan) bool {
	m.enter(PhaseSave)
	err := m.tl.SaveControl(ctx)
	m.enter(PhaseApply)
	if err == nil {
		m.saveFailures, m.saveNotBefore = 0, time.Time{}
		return true
	}
	m.saveFailures++
	m.saveNotBefore = p.SaveRetry
	if ctx.Err() == nil {
		m.cfg.Events.saveFailed(ctx, SaveFailure{Err: err, InARow: m.saveFailures, Retry: p.SaveRetry})
	}
	return false
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// arm says what is worth waking for.
func (m *Manager) arm(p *Plan) {
	wake := m.tl.Wake()
	arm(&wake.Flush, p.Flush, func() pg.LSN { return m.tl.Snapshot().FlushLSN })
	arm(&wake.Commit, p.Commit, func() pg.LSN { return m.tl.Snapshot().CommitLSN })
}

func arm(m *timeline.Mark, t Threshold, now func() pg.LSN) {
	if t.At == 0 {
		m.Disarm()
		return
	}
	m.Arm(uint64(t.At), t.Reason, func() uint64 { return uint64(now()) })
}
