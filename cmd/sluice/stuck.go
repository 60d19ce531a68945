package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sluicewal/sluice/internal/keeper"
	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/telemetry"
)

const (
	// lookForStuckEvery is how often what is under way is looked at, and shown once it is stuck.
	lookForStuckEvery = time.Second
	// stuckAfter is when something has taken too long. Nothing that begins after a look can be stuck before.
	stuckAfter = 5 * time.Second
	// sayStuckEvery is how often one thing that is stuck is logged.
	sayStuckEvery = time.Minute
	// writtenWithin is how long it takes to write down what every goroutine does, on a disk that does not hang.
	writtenWithin = 10 * time.Second
)

var errNotWritten = errors.New("diagnostics are not written yet: it may be the disk that hangs")

// stuckThing is something that has begun and does not end.
type stuckThing struct {
	what  string // "manager", "operation" or "gate"
	which string // its name; of a manager and an operation the timeline's
	doing string // the phase, or the operation and its step
	since time.Time
}

// stuckWatch looks again and again for what is stuck outside of a shutdown, whose stages watch themselves: managers that are long
// in one phase, steps of operations, gates that do not close. It shows it by short spans and records while it lasts, and has
// written down what every goroutine does: when it is found to be stuck, and again whenever that lasts twice as long, so that what
// is stuck for days leaves the first of it where it is.
type stuckWatch struct {
	node     *node
	log      *slog.Logger
	tel      *telemetry.Telemetry
	diagnose func(why string) (path string, err error)

	said      map[stuckThing]stuckSaid // what is stuck now
	diagnosed time.Time                // when something was written down last
}

// stuckSaid is what was said of a thing.
type stuckSaid struct {
	at    time.Time     // when it was logged last
	wrote time.Duration // how long it had been stuck when something was written down last
}

// run looks until ctx ends.
func (s *stuckWatch) run(ctx context.Context) {
	timer := time.NewTimer(stuckAfter)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			timer.Reset(s.look(ctx, time.Now()))
		}
	}
}

// look shows what is stuck now, and forgets what is not any more. It asks for what is under way, as there may be thousands of
// timelines, all of them idle, and returns when to look again.
func (s *stuckWatch) look(ctx context.Context, now time.Time) time.Duration {
	k := s.node.keeper.Load()
	if k == nil {
		return lookForStuckEvery
	}
	said := map[stuckThing]stuckSaid{}
	tell := func(t stuckThing) {
		last := s.said[t]
		if now.Sub(last.at) >= sayStuckEvery {
			last = s.say(ctx, t, last, now)
		}
		said[t] = last
	}
	busy, gates := k.Busy(), s.node.closingGates()
	for _, m := range busy {
		s.lookAt(m, now, tell)
	}
	for _, g := range gates {
		if now.Sub(g.Since) >= stuckAfter && len(g.Holders) > 0 { // the gate itself names its holders each second
			tell(stuckThing{"gate", whose(g), "closing", g.Since})
		}
	}
	s.said = said
	if len(busy)+len(gates) == 0 {
		return stuckAfter
	}
	return lookForStuckEvery
}

// lookAt looks at one timeline on which something is under way.
func (s *stuckWatch) lookAt(m *keeper.Member, now time.Time, tell func(stuckThing)) {
	phase, since := m.Manager().Phase()
	if age := now.Sub(since); age >= stuckAfter && phase.IsWork() && phase != manager.PhaseRecover {
		s.tel.PhaseWaits(m.ID(), phase.String(), age)
		tell(stuckThing{"manager", m.ID().String(), phase.String(), since})
	}
	op := m.Operation()
	if age := now.Sub(op.Since); op.Name != "" && age >= stuckAfter {
		s.tel.StepWaits(operationOf(m.ID(), op.Name), op.Name, op.Step, age)
		tell(stuckThing{"operation", m.ID().String(), op.Name + ": " + op.Step, op.Since})
	}
}

// operationOf says whose operation it is that a timeline shows: a change of the mode is its tenant's.
func operationOf(id timeline.ID, name string) timeline.ID {
	if keeper.IsModeChange(name) {
		return timeline.ID{Tenant: id.Tenant}
	}
	return id
}

// say logs that a thing is stuck, and may have it written down.
func (s *stuckWatch) say(ctx context.Context, t stuckThing, last stuckSaid, now time.Time) stuckSaid {
	age := now.Sub(t.since)
	last.at = now
	if age >= 2*last.wrote && now.Sub(s.diagnosed) >= sayStuckEvery {
		last.wrote, s.diagnosed = age, now
		go s.writeDown(ctx, t) // nobody waits for it: the disk may be what hangs
	}
	s.log.LogAttrs(ctx, slog.LevelWarn, "stuck", slog.String("what", t.what), slog.String("which", t.which),
		slog.String("doing", t.doing), slog.Duration("for", age))
	return last
}

// writeDown keeps what every goroutine does while something is stuck. Its span ends, and is seen, also where the disk hangs.
func (s *stuckWatch) writeDown(ctx context.Context, t stuckThing) {
	ctx, end := s.tel.Stuck(ctx, t.what, t.which, t.doing, t.since)
	defer end()
	type written struct {
		path string
		err  error
	}
	done := make(chan written, 1)
	go func() {
		path, err := s.diagnose("stuck-" + t.what)
		done <- written{path, err}
	}()
	select {
	case w := <-done:
		tellDiagnosed(ctx, s.tel, s.log, w.path, w.err)
	case <-time.After(writtenWithin):
		tellDiagnosed(ctx, s.tel, s.log, "", errNotWritten)
	}
}

// tellDiagnosed says in the log and in the span of ctx where diagnostics are.
func tellDiagnosed(ctx context.Context, tel *telemetry.Telemetry, log *slog.Logger, path string, err error) {
	if err != nil {
		log.LogAttrs(ctx, slog.LevelWarn, "diagnostics are not all written down", slog.Any("error", err))
	}
	if path != "" {
		tel.Diagnosed(ctx, path)
		log.LogAttrs(ctx, slog.LevelInfo, "diagnostics are written down", slog.String("path", path))
	}
}
