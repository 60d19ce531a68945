package manager

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a timeline without WAL: only what a manager sees of one. Gate, wake
// cell and tasks are the real ones.
type world struct {
	wake *timeline.Wake
	door *gate.Gate

	// These are called, where set, by the manager; before the run begins they may
	// be set.
	looked func()                      // after a snapshot was taken
	saving func(context.Context) error // instead of a save that succeeds

	mu    sync.Mutex
	state timeline.Snapshot // guarded by mu
	saves int               // guarded by mu
}

// start0 is where the WAL of a world begins to be received: it is saved, too.
const start0 pg.LSN = 0x1000100

func newWorld() *world {
	return &world{
		wake: timeline.NewWake(), door: gate.New(gate.Config{Kind: "timeline", Name: "acme/main"}),
		state: timeline.Snapshot{
			State: timeline.StateRunning, HasSource: true, SourceGeneration: 1,
			TLI: 1, SegmentSize: pg.DefaultSegmentSize, FlushLSN: start0, CommitLSN: start0,
			ControlSavedAt: time.Now(), ControlSaved: pg.Position{TLI: 1, LSN: start0},
		},
	}
}

func (w *world) Wake() *timeline.Wake { return w.wake }
func (w *world) Gate() *gate.Gate     { return w.door }

func (w *world) Snapshot() timeline.Snapshot {
	w.mu.Lock()
	s := w.state
	w.mu.Unlock()
	if w.looked != nil {
		w.looked()
	}
	return s
}

func (w *world) SaveControl(ctx context.Context) error {
	if w.saving != nil {
		if err := w.saving(ctx); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.saves++
	w.state.ControlSaved = pg.Position{TLI: w.state.TLI, LSN: w.state.FlushLSN}
	w.state.ControlSavedAt = time.Now()
	return nil
}

// saved is how often the control file was saved.
func (w *world) saved() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.saves
}

// change changes the state as an operation on the timeline does.
func (w *world) change(set func(*timeline.Snapshot)) {
	w.mu.Lock()
	set(&w.state)
	w.mu.Unlock()
	w.wake.Ring(timeline.ReasonRequest)
}

// flush makes WAL durable up to an LSN, as a receiver does.
func (w *world) flush(to pg.LSN) {
	w.mu.Lock()
	w.state.FlushLSN, w.state.CommitLSN = to, to
	w.mu.Unlock()
	w.wake.Flush.Set(uint64(to))
	w.wake.Commit.Set(uint64(to))
}

// streaming is the body of a task that is connected until it is cancelled.
func streaming(ctx context.Context) error {
	tasks.Progress(ctx)
	<-ctx.Done()
	return context.Cause(ctx)
}

// bodies are tasks that all work, but for those given.
func bodies(other Bodies) Bodies {
	all := Bodies{
		Receive: streaming, Settings: streaming, Follow: streaming,
		Remove:        func(ctx context.Context) error { tasks.Progress(ctx); return nil },
		Backup:        func(ctx context.Context) error { tasks.Progress(ctx); return nil },
		BackupPartial: func(ctx context.Context) error { tasks.Progress(ctx); return nil },
	}
	for name, body := range other {
		all[name] = body
	}
	return all
}

// errShutdown is the cause with which tests end a timeline.
var errShutdown = errors.New("shutdown")

// managed runs a manager of w in the test's bubble. The function that it returns
// shuts the timeline down as Timeline.Shutdown does, and returns how the manager
// ended.
func managed(t *testing.T, w *world, b Bodies, cfg Config) (*Manager, func() error) {
	t.Helper()
	if cfg.Seed == 0 {
		cfg.Seed = 1
	}
	m := New(w, b, cfg)
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	synctest.Wait()
	return m, func() error {
		t.Helper()
		cancel(errShutdown)
		if err := w.door.Close(context.WithoutCancel(ctx)); err != nil {
			t.Fatalf("close the gate: %v", err)
		}
		if phase, _ := m.Phase(); phase != PhaseStopped {
			t.Fatalf("the gate is closed and the manager is in phase %v", phase)
		}
		return <-ended
	}
}

// mustEnd shuts down without an error.
func mustEnd(t *testing.T, end func() error) {
	t.Helper()
	if err := end(); err != nil {
		t.Fatal(err)
	}
}

// task is what the manager says of a task.
func task(t *testing.T, m *Manager, name tasks.Name) TaskStatus {
	t.Helper()
	for _, s := range m.Status().Tasks {
		if s.Decision.Task == name {
			return s
		}
	}
	t.Fatalf("the status does not have the task %s", name)
	return TaskStatus{}
}

// told collects what a manager tells, for a test that reads while it runs.
type told[T any] struct {
	mu   sync.Mutex
	list []T // guarded by mu
}

func (l *told[T]) add(_ context.Context, one T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, one)
}

func (l *told[T]) all() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.list)
}
