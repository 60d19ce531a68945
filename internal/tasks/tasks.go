// Package tasks runs named goroutines that cannot outlive their owner.
//
// An owner has a gate and a context. Each task holds a pass of that gate from
// before its first instruction until after its last, and carries a context that
// ends with the owner's: cancel the context, close the gate, and no task is left.
//
// A panic in a task is an ended task, with the stack in the report. Whether and
// when a task runs again is decided elsewhere, from its [Status]: this package
// counts and remembers, and starts nothing by itself.
//
// All methods may be called at once, from any goroutine.
package tasks

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicewal/sluice/internal/gate"
)

// Name names a task of an owner: "receive", "backup". Names are constants: they
// become values of a metric's label, and the kind of the pass that a task holds.
type Name string

// Task is work for a goroutine.
type Task struct {
	Name Name
	// Generation says which version of what it works for the task is started
	// with. It means nothing here, and is found again in the status.
	Generation uint64
	// Run does the work. When its context ends it returns soon. It calls
	// [Progress] once it is clear that it did not start in vain.
	Run func(context.Context) error
}

// Config is what a group may be told; the zero value will do.
type Config struct {
	Events Events
	// Progressed is called when a run makes its first progress, on its goroutine.
	Progressed func(Name)
	// Ended is called when a task has ended and its status says so, for whoever
	// decides what runs next. The task still holds its pass.
	Ended func(Name)
}

// ErrRunning is returned to whoever starts a task that runs already.
var ErrRunning = errors.New("task runs already")

// Group is the tasks of one owner. Make one with [New].
type Group struct {
	gate  *gate.Gate
	cfg   Config
	start func(func()) // starts a goroutine; another in the model test

	mu      sync.Mutex       // never held over a callback or a wait
	records map[Name]*record // guarded by mu; of every task that was ever started
}

// New makes a group whose tasks hold passes of g. It starts nothing.
func New(g *gate.Gate, cfg Config) *Group {
	return &Group{gate: g, cfg: cfg, start: func(run func()) { go run() }, records: make(map[Name]*record)}
}

// run is one run of a task.
type run struct {
	Task
	group      *Group
	attempt    int
	started    time.Time
	pass       gate.Pass
	cancel     context.CancelCauseFunc
	progressed atomic.Bool
	ended      chan struct{} // closed when the status says that it has ended
}

// Go starts a task. ctx is the owner's, or derived from it: the task is cancelled
// when it ends, with its cause. Go fails with [gate.ErrClosed] if the owner shuts
// down, and with [ErrRunning] if the task has not ended yet.
func (g *Group) Go(ctx context.Context, t Task) error {
	pass, err := g.gate.Enter(ctx, gate.Holder(t.Name))
	if err != nil {
		return fmt.Errorf("start task %s: %w", t.Name, err)
	}
	r := &run{Task: t, group: g, pass: pass, started: time.Now(), ended: make(chan struct{})}
	taskCtx, cancel := context.WithCancelCause(ctx)
	r.cancel = cancel
	if err := g.admit(r); err != nil {
		cancel(err)
		pass.Leave()
		return fmt.Errorf("start task %s: %w", t.Name, err)
	}
	taskCtx = g.cfg.Events.started(taskCtx, Start{Name: t.Name, Generation: t.Generation, Attempt: r.attempt})
	taskCtx = context.WithValue(gate.WithPass(taskCtx, pass), runKey{}, r)
	g.start(func() { g.run(taskCtx, r) })
	return nil
}

// run is the goroutine of a task. The pass is left last: the owner takes it as
// the word that nothing of the task is left.
func (g *Group) run(ctx context.Context, r *run) {
	defer r.pass.Leave()
	err := errExited // stands if the body calls runtime.Goexit, which runs only what is deferred
	defer func() { g.end(ctx, r, err) }()
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	pprof.Do(ctx, pprof.Labels("task", string(r.Name)), func(ctx context.Context) { err = r.Run(ctx) })
}

// end reports the end of a run, and then shows it.
func (g *Group) end(ctx context.Context, r *run, err error) {
	e := End{
		Name: r.Name, Generation: r.Generation, Attempt: r.attempt,
		Outcome: outcome(ctx, err), Err: err, Ran: time.Since(r.started),
	}
	r.cancel(nil)
	g.cfg.Events.ended(ctx, e)
	g.retire(r, e)
	close(r.ended)
	if g.cfg.Ended != nil {
		g.cfg.Ended(r.Name)
	}
}

// outcome judges an end. Whatever a body returns once it was cancelled is no
// failure: closing its connections is how it was told.
func outcome(ctx context.Context, err error) Outcome {
	var panicked *PanicError
	switch {
	case errors.As(err, &panicked):
		return Panicked
	case ctx.Err() != nil:
		return Cancelled
	case err != nil:
		return Failed
	}
	return Done
}

// Stop cancels a task with a cause and does not wait for its end. Stopping a task
// that does not run does nothing.
func (g *Group) Stop(name Name, cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if rec, ok := g.records[name]; ok && rec.run != nil {
		rec.stopping = true
		rec.run.cancel(cause)
	}
}

// Wait waits until no task runs. It starts to stop none: their contexts must have
// ended, or it waits for as long as they work.
func (g *Group) Wait(ctx context.Context) error {
	for r := g.anyRun(); r != nil; r = g.anyRun() {
		select {
		case <-r.ended:
		case <-ctx.Done():
			return fmt.Errorf("wait for task %s: %w", r.Name, context.Cause(ctx))
		}
	}
	return nil
}

func (g *Group) anyRun() *run {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, rec := range g.records {
		if rec.run != nil {
			return rec.run
		}
	}
	return nil
}

// runKey is the key of a task's context to its run.
type runKey struct{}

// Progress is called by a task's body once it has achieved something: a failure
// after that is the first of a new series. It costs next to nothing when called
// again. Outside of a task it does nothing.
func Progress(ctx context.Context) {
	r, ok := ctx.Value(runKey{}).(*run)
	if !ok || r.progressed.Load() || !r.progressed.CompareAndSwap(false, true) {
		return
	}
	if told := r.group.cfg.Progressed; told != nil {
		told(r.Name)
	}
}
