package keeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/broker"
	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
)

var (
	// ErrNoTenant says that there is no tenant of that name on this node.
	ErrNoTenant = errors.New("no such tenant")
	// ErrNoTimeline says that there is no timeline of that name on this node.
	ErrNoTimeline = errors.New("no such timeline")
	// ErrExists says that the name is taken.
	ErrExists = errors.New("it exists already")
	// ErrBadConninfo says that a source cannot be used as it is written.
	ErrBadConninfo = errors.New("source is not usable")
)

// errStopping is the cause of every cancellation when the node stops.
var errStopping = errors.New("the node stops")

// errReopened is the cause of a broken timeline's end when it could be opened.
var errReopened = errors.New("the timeline was opened again")

// errDeleting is the cause of a deleted timeline's cancellation.
var errDeleting = errors.New("the timeline is deleted")

// TimelineConfig is a timeline that the configuration file wants.
type TimelineConfig struct {
	ID     timeline.ID
	Source string
}

// Config is what a node is told.
type Config struct {
	// NodeID names the node towards PostgreSQL and its peers.
	NodeID  string
	DataDir string
	// Retain is how much WAL a timeline may keep locally, in bytes, before
	// DropUnbacked lets the oldest go.
	Retain int64
	// DropUnbacked lets local WAL above Retain go though nothing else has it.
	DropUnbacked bool
	Store        StoreConfig
	Timelines    []TimelineConfig
	// Broker says how the other nodes are reached; without a URL, they are not.
	// Node and Log are the keeper's word. Peers are the other nodes that are known
	// by configuration.
	Broker broker.Config
	Peers  []string
	// Limits say how long nodes wait for each other; all have the zero value, but for tests.
	Limits manager.Limits
	Events Events
	Log    *slog.Logger
	// FS is the file system below DataDir; nil = the operating system's.
	FS wal.FS
}

// Keeper is a node. Make one with [Open].
type Keeper struct {
	cfg    Config
	depot  *depot // nil: the node has no object storage
	turns  *replication.Turns
	unlock func() error    // lets go of the data directory, once
	ctx    context.Context //nolint:containedctx // this type is a lifetime
	stop   context.CancelCauseFunc
	gates  *gate.Hooks // of all gates
	busy   busy

	broker  *broker.Broker // nil: nobody else can be reached
	link    link
	active  timeline.Set // the active timelines
	leaving atomic.Bool  // see Leave
	stopped atomic.Bool  // see Stop

	// running counts managers and operations; Shutdown waits for them. What begins
	// while a node runs is added with mu held, after a look at stopping.
	running sync.WaitGroup

	mu         sync.Mutex
	tenants    map[timeline.TenantID]*tenant // guarded by mu
	operations map[timeline.ID]*operation    // guarded by mu
	// changing has the step of each change of a mode that is under way.
	changing map[timeline.TenantID]timeline.Operation // guarded by mu
	stopping bool                                     // guarded by mu; nothing new begins
}

// Open locks the data directory, opens everything that is in it side by side,
// and creates the configured timelines that are missing. One timeline's
// directory that cannot be used makes that timeline broken; an error means that
// the node cannot run at all.
func Open(ctx context.Context, cfg Config) (*Keeper, error) {
	k := newKeeper(ctx, cfg)
	lock, err := lockDataDir(k.cfg.FS, cfg.DataDir)
	if err != nil {
		return nil, err
	}
	k.unlock = sync.OnceValue(lock.Close)
	if err := k.start(ctx); err != nil {
		return nil, errors.Join(err, k.Shutdown(ctx))
	}
	return k, nil
}

func newKeeper(ctx context.Context, cfg Config) *Keeper {
	if cfg.FS == nil {
		cfg.FS = wal.OSFS{}
	}
	if cfg.Store.FollowInterval == 0 {
		cfg.Store.FollowInterval = defaultFollowInterval
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.FS = faultyFS(cfg)
	k := &Keeper{
		cfg: cfg, depot: newDepot(cfg.Store, cfg.NodeID), turns: replication.NewTurns(), tenants: map[timeline.TenantID]*tenant{},
		operations: map[timeline.ID]*operation{}, changing: map[timeline.TenantID]timeline.Operation{},
	}
	k.ctx, k.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	k.broker = k.newBroker()
	k.gates = &gate.Hooks{Trace: cfg.Events.Trace, Events: cfg.Events.Gate, Closings: &gate.Closings{}, Clock: gate.NewClock()}
	return k
}

func (k *Keeper) start(ctx context.Context) error {
	if err := claimNodeID(k.cfg.FS, k.cfg.DataDir, k.cfg.NodeID); err != nil {
		return err
	}
	for _, want := range k.cfg.Timelines {
		if err := checkConninfo(k.cfg.NodeID, want.Source); err != nil {
			return fmt.Errorf("timeline %s of the configuration file: %w", want.ID, err)
		}
	}
	if err := k.openStore(ctx); err != nil {
		return err
	}
	if err := k.openAll(ctx); err != nil {
		return err
	}
	for _, want := range k.cfg.Timelines {
		if err := k.want(ctx, want); err != nil {
			k.cfg.Log.LogAttrs(ctx, slog.LevelError, "timeline of the configuration file cannot be used",
				slog.String("timeline", want.ID.String()), slog.Any("error", err))
		}
	}
	k.startBroker()
	k.resumeDeletions()
	k.resumeChanges()
	return nil
}

// openStore finds out whether object storage is what it should be. One that is
// away keeps no node from starting.
func (k *Keeper) openStore(ctx context.Context) error {
	if k.depot == nil {
		return nil
	}
	_, err := k.depot.open(ctx)
	if refused(err) {
		return err
	}
	if err != nil {
		k.cfg.Log.LogAttrs(ctx, slog.LevelError, "object storage cannot be used: it is tried again when it is needed", slog.Any("error", err))
	}
	return nil
}

// want makes a configured timeline exist, and takes over its source where the
// file's word changed. The file does not bring back what is being deleted, or was.
func (k *Keeper) want(ctx context.Context, w TimelineConfig) error {
	m, err := k.member(w.ID)
	if err != nil {
		if err := k.buried(ctx, w.ID); err != nil {
			return err
		}
		return k.create(ctx, w.ID, "", timeline.Creation{Source: w.Source, FileSource: w.Source})
	}
	if state, _ := m.State(); state == timeline.StateBroken || m.Control().Deleting {
		return nil
	}
	return m.SetFileSource(ctx, w.Source)
}

// buried fails if object storage has the tombstone of a timeline. If that cannot be
// found out now, it is asked again before anything is received.
func (k *Keeper) buried(ctx context.Context, id timeline.ID) error {
	store := k.Store()
	if store == nil {
		return nil
	}
	if _, err := store.Find(ctx, string(id.Tenant), id.Name); errors.Is(err, backup.ErrDeleted) {
		return fmt.Errorf("%w: take it out of the file, or create it again with 'sluice timeline create %s'", err, id)
	}
	return nil
}

// openAll opens every timeline below the data directory.
func (k *Keeper) openAll(ctx context.Context) error {
	names, err := subdirectories(k.cfg.FS, filepath.Join(k.cfg.DataDir, tenantsDir))
	if err != nil {
		return err
	}
	o := newOpenings()
	for _, name := range names {
		id, err := timeline.ParseTenantID(name)
		if err != nil {
			k.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "directory is no tenant's, left alone", slog.String("name", name))
			continue
		}
		t := k.readTenant(id)
		k.addTenant(t)
		k.openTenant(ctx, t, o)
	}
	o.all.Wait()
	return nil
}

// openTimeline opens one directory. What cannot be opened is shown as broken;
// where that may pass, it is tried again.
func (k *Keeper) openTimeline(ctx context.Context, t *tenant, name string) {
	id, err := timeline.NewID(string(t.ID()), name)
	if err != nil {
		k.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "directory is no timeline's, left alone", slog.String("name", name))
		return
	}
	tl := k.open(t, id)
	m, err := k.join(t, tl)
	if err != nil {
		err = errors.Join(err, tl.Shutdown(ctx, err))
		k.cfg.Log.LogAttrs(ctx, slog.LevelError, "timeline cannot run", slog.String("timeline", id.String()), slog.Any("error", err))
		return
	}
	state, why := tl.State()
	if state != timeline.StateBroken {
		return
	}
	k.cfg.Log.LogAttrs(ctx, slog.LevelError, "timeline is broken", slog.String("timeline", id.String()), slog.Any("error", why))
	if mayPass(why) && !tl.Control().Deleting {
		k.running.Go(func() { k.reopen(t, m) })
	}
}

// open opens a timeline, or stands for one that cannot be opened, or with which
// nothing is done.
func (k *Keeper) open(t *tenant, id timeline.ID) *timeline.Timeline {
	open := timeline.Open
	if why := t.idle(); why != nil {
		open = func(ctx context.Context, cfg timeline.Config, id timeline.ID) (*timeline.Timeline, error) {
			return timeline.OpenStopped(ctx, cfg, id, why)
		}
	}
	tl, err := open(t.Context(), k.timelineConfig(id), id)
	if err != nil {
		return timeline.OpenBroken(t.Context(), k.timelineConfig(id), id, err)
	}
	return tl
}

// mayPass reports whether what keeps a timeline from being opened may end by
// itself, as a full disk may. Damage does not.
func mayPass(why error) bool {
	var damaged *wal.DamagedError
	var errno syscall.Errno
	return errors.As(why, &errno) && !errors.Is(why, fs.ErrNotExist) && !errors.As(why, &damaged) && !errors.Is(why, timeline.ErrControlDamaged)
}

// reopenEvery is how often a timeline that could not be opened is tried again.
const reopenEvery = 2 * time.Second

// errStillBroken says that a timeline could not be opened this time either.
var errStillBroken = errors.New("the timeline is still broken")

// reopen tries to open a broken timeline until it succeeds, is found to be
// damaged, or the timeline shuts down.
func (k *Keeper) reopen(t *tenant, broken *Member) {
	ctx := broken.Context()
	again := func(context.Context) error { return k.reopenOnce(t, broken) }
	for err := errStillBroken; errors.Is(err, errStillBroken); err = k.do(ctx, broken.ID(), opOpen, again) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(reopenEvery):
		}
	}
}

// reopenOnce puts the timeline in the place of the broken one, if it can be
// opened now. It is an operation, so that no deletion comes in between.
func (k *Keeper) reopenOnce(t *tenant, broken *Member) error {
	if m, err := k.member(broken.ID()); err != nil || m != broken {
		return err // it was deleted
	}
	tl := k.open(t, broken.ID())
	if state, why := tl.State(); state == timeline.StateBroken {
		if err := tl.Shutdown(k.ctx, errReopened); err != nil || !mayPass(why) {
			return err
		}
		return errStillBroken
	}
	if err := broken.shutdown(k.ctx, errReopened); err != nil {
		return errors.Join(err, tl.Shutdown(k.ctx, errReopened))
	}
	if _, err := k.join(t, tl); err != nil {
		return errors.Join(err, tl.Shutdown(k.ctx, errReopened))
	}
	for _, w := range k.cfg.Timelines {
		if w.ID == tl.ID() {
			if err := tl.SetFileSource(k.ctx, w.Source); err != nil {
				k.cfg.Log.LogAttrs(k.ctx, slog.LevelWarn, "source of the configuration file is not kept", slog.Any("error", err))
			}
		}
	}
	k.cfg.Log.LogAttrs(k.ctx, slog.LevelInfo, "timeline is no longer broken", slog.String("timeline", tl.ID().String()))
	return nil
}

// subdirectories lists the directories in dir; none if dir is absent.
func subdirectories(fsys wal.FS, dir string) ([]string, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// tenant returns the tenant of that name; nil if there is none.
func (k *Keeper) tenant(id timeline.TenantID) *tenant {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tenants[id]
}

// membersOf lists a tenant's timelines.
func (k *Keeper) membersOf(t *tenant) []*Member {
	k.mu.Lock()
	defer k.mu.Unlock()
	return sorted(t.members)
}

func (k *Keeper) timelineConfig(id timeline.ID) timeline.Config {
	cfg := timeline.Config{
		Dir: timeline.Dir(k.cfg.DataDir, id), FS: k.cfg.FS, NodeID: k.cfg.NodeID,
		Gate: gate.Config{Kind: "timeline", Name: id.String(), Hooks: k.gates},
		WAL:  k.cfg.Events.wal(id), DecideSeal: k.sealDecider(id),
	}
	if k.broker != nil {
		cfg.CommitBound = k.commitBound
	}
	return cfg
}

// sealDecider is where an end of that timeline is decided; nil: on the node.
func (k *Keeper) sealDecider(id timeline.ID) func(context.Context, timeline.Seal) (timeline.Seal, error) {
	if k.depot == nil {
		return nil
	}
	return func(ctx context.Context, s timeline.Seal) (timeline.Seal, error) { return k.decideSeal(ctx, id, s) }
}

// member returns an open timeline, broken ones too.
func (k *Keeper) member(id timeline.ID) (*Member, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.tenants[id.Tenant]
	if t == nil {
		return nil, fmt.Errorf("tenant %s: %w", id.Tenant, ErrNoTenant)
	}
	m := t.members[id.Name]
	if m == nil {
		return nil, fmt.Errorf("timeline %s: %w", id, ErrNoTimeline)
	}
	return m, nil
}

// Shutdown stops everything: timelines in parallel, then their tenants, then the
// lock on the data directory goes. When ctx ends first, the error lists who is
// still inside; it may be called again to finish, and after that.
func (k *Keeper) Shutdown(ctx context.Context) error {
	if err := k.Stop(ctx); err != nil {
		return err
	}
	return k.Disconnect(ctx)
}

// Disconnect is the part of Shutdown that comes after Stop: it ends the connection to the other nodes, and lets go of the data
// directory and of object storage. What Stop did not succeed to stop may still use those: then they go with the process.
func (k *Keeper) Disconnect(ctx context.Context) error {
	if err := k.stopBroker(ctx); err != nil || !k.stopped.Load() {
		return err
	}
	return errors.Join(k.depot.close(), k.unlock())
}

// Drain stops receiving, and waits until object storage has all that is held, the
// open segments included, or until ctx ends. It is for a node that is about to stop:
// what it did not come to is on its disk. The error names the timelines that are
// not drained.
func (k *Keeper) Drain(ctx context.Context) error {
	if k.depot == nil || k.Store() == nil {
		return k.depot.problemOrNil()
	}
	members := k.Members()
	errs := make([]error, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		if state, _ := m.State(); state != timeline.StateRunning || m.Log() == nil {
			continue
		}
		all.Go(func() { errs[i] = m.drainToStop(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// drainToStop is the timeline's part of Drain. What it does not come to goes on at the
// next start, as with all that a shutdown cuts off.
func (m *Member) drainToStop(ctx context.Context) error {
	ctx, end := m.keeper.cfg.Events.operation(ctx, ctx, m.ID(), opDrain)
	defer m.BeginOperation(opDrain, "upload")()
	m.SetDraining(true)
	err := m.manager.WaitDrained(ctx)
	if err == nil || errors.Is(err, gate.ErrClosed) {
		end(nil)
		return nil
	}
	end(fmt.Errorf("%w: %w", timeline.ErrShuttingDown, err))
	return fmt.Errorf("timeline %s is not drained: object storage has it up to %s, and %s is held here: %w",
		m.ID(), m.Backup().LSN, m.Log().Flushed(), err)
}

// Stop is the part of Shutdown that stops the tenants; the other nodes are still
// told, and the data directory is locked. Once it has succeeded it does nothing.
func (k *Keeper) Stop(ctx context.Context) error {
	if k.stopped.Load() {
		return nil
	}
	err := k.stopAll(ctx)
	k.stopped.Store(err == nil)
	return err
}

// stopAll is Stop, each time.
func (k *Keeper) stopAll(ctx context.Context) error {
	k.mu.Lock()
	k.stopping = true
	tenants := sorted(k.tenants)
	k.mu.Unlock()
	errs := make([]error, len(tenants))
	var all sync.WaitGroup
	for i, t := range tenants {
		all.Go(func() { errs[i] = k.stopTenant(ctx, t, errStopping) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	k.stop(errStopping)
	if err := waitFor(ctx, &k.running); err != nil {
		return fmt.Errorf("wait for operations under way: %w", err)
	}
	return nil
}

// endTenant lets no timeline join any more, and stops those that have.
func (k *Keeper) endTenant(ctx context.Context, t *tenant, cause error) error {
	k.mu.Lock()
	t.ending = true
	k.mu.Unlock()
	return k.stopTenant(ctx, t, cause)
}

// stopTenant shuts a tenant's timelines down in parallel, then the tenant.
func (k *Keeper) stopTenant(ctx context.Context, t *tenant, cause error) (err error) {
	ctx, end := k.cfg.Events.shutdown(ctx, tenantKey(t.ID()), cause)
	defer func() { end(err) }()
	members := k.membersOf(t)
	errs := make([]error, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		all.Go(func() { errs[i] = m.shutdown(ctx, cause) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return t.Shutdown(ctx, cause)
}

// sorted returns a map's values in the order of their keys.
func sorted[K cmp.Ordered, V any](m map[K]V) []V {
	keys := make([]K, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	values := make([]V, len(keys))
	for i, key := range keys {
		values[i] = m[key]
	}
	return values
}

// waitFor waits for a group, or for ctx.
func waitFor(ctx context.Context, wg *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() { // ends with the group: nobody waits for it when ctx ends first
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
