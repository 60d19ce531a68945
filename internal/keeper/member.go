package keeper

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

const (
	// dropSlotTimeout bounds how long a deletion talks to the source.
	dropSlotTimeout = 10 * time.Second
	// dropSlotAgain is the pause after a slot was found in use.
	dropSlotAgain = 500 * time.Millisecond
)

// Member is a timeline of this node with its manager.
type Member struct {
	*timeline.Timeline
	keeper  *Keeper
	tenant  *tenant
	manager *manager.Manager
	inside  gate.Pass // the tenant's
	leave   sync.Once // leaves it
	// membership is the timeline's among the active ones; its manager's to change.
	membership *timeline.Membership
	lastKey    atomic.Pointer[keyOf] // see key

	receiver       atomic.Pointer[receiver]
	lastSettings   atomic.Pointer[replication.Settings]
	storedTimeline atomic.Pointer[storedTimeline] // see stored; nil before it was used
	metAt          time.Time                      // when object storage was last asked for what was decided; of receive
	alive          atomic.Pointer[alive]          // what object storage said last of this life
	copies         copies
	claiming       chan struct{} // holds one while a TLI is claimed: the session and the backup both do it, see claimAll
}

// receiver is a receiver and the source that it was made for.
type receiver struct {
	*replication.Receiver
	conninfo string
	sink     *sink
	inquired bool            // this session has asked what was decided; of Run's goroutine
	session  context.Context //nolint:containedctx // of the task that runs Run; set before each, used by Run's goroutine
}

// progress says that the session has achieved something.
func (r *receiver) progress() { tasks.Progress(r.session) }

// join makes a timeline a member of its tenant, and runs its manager until it is
// shut down. A timeline that is broken, stopped or to be deleted has a manager that
// never runs.
func (k *Keeper) join(t *tenant, tl *timeline.Timeline) (*Member, error) {
	pass, err := t.Enter(t.Context(), holderTimeline)
	if err != nil {
		return nil, err
	}
	m := &Member{Timeline: tl, keeper: k, tenant: t, inside: pass, claiming: make(chan struct{}, 1), membership: k.active.Join(tl)}
	m.alive.Store(&alive{upTo: m.Backup().LSN}) // of a start that finds object storage away, WAL that was backed up goes
	if c := tl.Control(); c.Stored != nil && c.Stored.Partial.LSN != 0 {
		m.copies.add(c.SegmentSize.SegNo(c.Stored.Partial.LSN))
	}
	m.manager = manager.New(faulty(tl, manager.Bodies{
		manager.Receive: m.receive, manager.Settings: m.settings, manager.Remove: m.remove,
		manager.Backup: m.backup, manager.BackupPartial: m.backupPartial, manager.Follow: m.follow,
	}, manager.Config{
		Seed: seedOf(tl.ID()), Removable: m.removable,
		Backup: k.depot != nil, PartialInterval: k.cfg.Store.PartialInterval, Secondary: t.Mode == timeline.ModeSecondary,
		Heard: m.heard, Limits: k.cfg.Limits, Membership: m.membership, Tell: m.tell, Worked: func() { k.busy.note(m) },
		Events: k.cfg.Events.manager(tl.ID()), Tasks: k.cfg.Events.tasks(tl.ID()),
	}))
	k.mu.Lock()
	if t.ending || k.stopping {
		k.mu.Unlock()
		pass.Leave()
		return nil, fmt.Errorf("tenant %s: %w", t.ID(), timeline.ErrShuttingDown)
	}
	t.members[tl.ID().Name] = m
	k.cfg.Events.life(tl.ID(), tl.Control().Incarnation)
	if state, _ := tl.State(); state == timeline.StateRunning && !tl.Control().Deleting {
		k.running.Go(m.run)
	}
	k.mu.Unlock()
	return m, nil
}

// run runs the manager, which holds the timeline's gate for as long.
func (m *Member) run() {
	ctx := m.Context()
	if err := m.manager.Run(ctx); err != nil && !errors.Is(err, gate.ErrClosed) {
		m.keeper.cfg.Log.LogAttrs(ctx, slog.LevelError, "manager ended with an error", slog.Any("error", err))
	}
}

// shutdown stops the timeline and leaves the tenant. When it failed it may be
// called again.
func (m *Member) shutdown(ctx context.Context, cause error) error {
	ctx, end := m.keeper.cfg.Events.shutdown(ctx, m.ID(), cause)
	err := m.Shutdown(ctx, cause)
	end(err)
	if err != nil {
		return err
	}
	m.leave.Do(m.inside.Leave)
	return nil
}

// SetOperation shows which step of an operation is under way, and tells it.
func (m *Member) SetOperation(name, step string) {
	m.Timeline.SetOperation(name, step)
	m.keeper.busy.note(m)
	m.keeper.cfg.Events.step(m.ID(), name, step)
}

// BeginOperation does so for one that runs beside others; see
// [timeline.Timeline.BeginOperation].
func (m *Member) BeginOperation(name, step string) (end func()) {
	m.keeper.cfg.Events.step(m.ID(), name, step)
	ended := m.Timeline.BeginOperation(name, step)
	m.keeper.busy.note(m)
	return func() { ended(); m.keeper.busy.note(m) }
}

// during lets a request in. Its context ends with the timeline's too: nobody keeps a shutdown waiting for an answer that takes long.
func (m *Member) during(ctx context.Context, request func(context.Context) error) error {
	leave, err := m.EnterFor(ctx, holderRequest, "")
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(m.Context(), func() { cancel(timeline.ErrShuttingDown) })()
	err = request(ctx)
	if err != nil && errors.Is(context.Cause(ctx), timeline.ErrShuttingDown) && !errors.Is(err, timeline.ErrShuttingDown) {
		return fmt.Errorf("%w: %w", timeline.ErrShuttingDown, err)
	}
	return err
}

// seedOf spreads the pauses of timelines that lost the same server.
func seedOf(id timeline.ID) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id.String())) // never fails
	return h.Sum64()
}
