package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/timeline"
)

var (
	// ErrDetached says that a tenant does nothing on this node.
	ErrDetached = errors.New("tenant is detached here")
	// ErrSecondary says that a tenant keeps a warm copy on this node.
	ErrSecondary = errors.New("tenant keeps a warm copy here, which is no member of a quorum and decides nothing")
	// ErrWaitedFor says that commits would wait for a node that has gone.
	ErrWaitedFor = errors.New("commits of the source wait for this node")
)

// errModeChanges is the cause of what ends because its tenant goes over to another
// mode.
var errModeChanges = errors.New("the tenant goes over to another mode")

// step is one step of a change. Each may have been taken before.
type step struct {
	name string
	do   func(*change, context.Context) error
}

var (
	stepFind  = step{"find", (*change).find}   // what object storage has of the tenant
	stepCheck = step{"check", (*change).check} // does somebody wait for this node?
	stepDrain = step{"drain", (*change).drain} // receive no more, and bring all that is held to object storage
	stepStop  = step{"stop", (*change).stopAll}
	stepMark  = step{"mark", (*change).mark}   // from here on there is no way back
	stepLeave = step{"leave", (*change).leave} // what is not held may exist
	stepSlot  = step{"slot", (*change).slot}   // the source need not keep WAL for this node
	stepFiles = step{"files", (*change).files} // what object storage has goes
)

// modeChanges are all ways from one mode to another, with their steps. What fails
// before the mark leaves the tenant as it was; what is cut off behind it goes on at
// the next start. At the end of each the new mode is durable, and its life begins.
var modeChanges = map[timeline.Mode]map[timeline.Mode][]step{
	timeline.ModeAttached: {
		timeline.ModeSecondary: {stepCheck, stepDrain, stepStop, stepMark, stepLeave, stepSlot},
		timeline.ModeDetached:  {stepCheck, stepDrain, stepStop, stepMark, stepLeave, stepSlot, stepFiles},
	},
	timeline.ModeSecondary: {
		timeline.ModeAttached: {stepStop, stepMark},
		timeline.ModeDetached: {stepStop, stepMark, stepFiles},
	},
	timeline.ModeDetached: {
		timeline.ModeAttached:  {stepFind, stepStop, stepMark},
		timeline.ModeSecondary: {stepFind, stepStop, stepMark},
	},
}

// behindMark are the steps that are left once a change has come to its mark.
func behindMark(steps []step) []step {
	for i, s := range steps {
		if s.name == stepMark.name {
			return steps[i+1:]
		}
	}
	return nil
}

// change is a tenant's change of mode under way. It belongs to one operation, so
// that nothing else that lasts is done with the tenant or a timeline of it.
type change struct {
	k      *Keeper
	id     timeline.TenantID
	to     timeline.Mode
	force  bool
	tenant *tenant // its life at present
	marked bool
}

// SetMode lets a tenant go over to another mode; force says that nobody is asked
// whether commits of a source wait for this node. When ctx ends first, the error
// says so and the work goes on; asking again joins it.
//
// A tenant that this node does not know is looked for in object storage.
func (k *Keeper) SetMode(ctx context.Context, id timeline.TenantID, to timeline.Mode, force bool) error {
	if _, err := timeline.ParseMode(string(to)); err != nil {
		return err
	}
	return k.do(ctx, tenantKey(id), opOfMode(to), func(ctx context.Context) error {
		if err := k.setMode(ctx, id, to, force); err != nil {
			return fmt.Errorf("tenant %s, mode %s: %w", id, to, err)
		}
		return nil
	})
}

// opOfMode names the operation that leads to a mode.
func opOfMode(to timeline.Mode) string {
	return map[timeline.Mode]string{
		timeline.ModeAttached: opAttach, timeline.ModeSecondary: opSecondary, timeline.ModeDetached: opDetach,
	}[to]
}

func (k *Keeper) setMode(ctx context.Context, id timeline.TenantID, to timeline.Mode, force bool) error {
	c := &change{k: k, id: id, to: to, force: force}
	c.tenant = k.tenant(id)
	if c.tenant == nil {
		if err := c.meetTenant(ctx); err != nil {
			return err
		}
	}
	if c.tenant.Next != "" {
		if err := k.finishChange(ctx, c.tenant); err != nil {
			return err
		}
		c.tenant = k.tenant(id)
	}
	switch {
	case c.tenant.unreadable != nil && to == timeline.ModeDetached:
		return c.end(ctx)
	case c.tenant.Mode != to:
		return c.run(ctx, modeChanges[c.tenant.Mode][to])
	case to != timeline.ModeDetached && k.depot != nil && len(k.membersOf(c.tenant)) == 0:
		// It has no timeline: it was just created, or a crash cut its first attach off.
		return c.run(ctx, modeChanges[timeline.ModeDetached][to])
	}
	return nil
}

// finishChange takes the steps that a crash or an error has cut off.
func (k *Keeper) finishChange(ctx context.Context, t *tenant) error {
	c := &change{k: k, id: t.ID(), to: t.Next, tenant: t, marked: true}
	return c.run(ctx, behindMark(modeChanges[t.Mode][t.Next]))
}

// resumeChanges goes on with what a crash or a stop has cut off.
func (k *Keeper) resumeChanges() {
	k.mu.Lock()
	all := sorted(k.tenants)
	k.mu.Unlock()
	for _, t := range all {
		if t.Next == "" || t.unreadable != nil {
			continue
		}
		k.running.Go(func() { // a deletion in it may come first; how it ends, run tells
			_ = k.do(k.ctx, tenantKey(t.ID()), opOfMode(t.Next), func(ctx context.Context) error {
				if k.tenant(t.ID()) != t {
					return nil // somebody was faster
				}
				return k.finishChange(ctx, t)
			})
		})
	}
}

// run takes the steps, then begins the life in the new mode. Whoever asked may be
// gone: what fails is also logged.
func (c *change) run(ctx context.Context, steps []step) error {
	defer c.told()
	err := c.take(ctx, steps)
	if err == nil {
		err = c.end(ctx)
	}
	if err == nil {
		return nil
	}
	if ctx.Err() == nil && !errors.Is(err, ErrWaitedFor) && !errors.Is(err, timeline.ErrShuttingDown) {
		c.k.cfg.Log.LogAttrs(ctx, slog.LevelError, "change of a tenant's mode did not end",
			slog.String("tenant", string(c.id)), slog.String("mode", string(c.to)), slog.Bool("goes_on_when_asked_again", c.marked), slog.Any("error", err))
	}
	return errors.Join(err, c.back(ctx))
}

func (c *change) take(ctx context.Context, steps []step) error {
	for _, s := range steps {
		c.tell(s.name)
		if err := s.do(c, ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	return nil
}

// tell shows which step is under way, for the tenant and on each timeline.
func (c *change) tell(step string) {
	op := timeline.Operation{Name: opOfMode(c.to), Step: step, Since: time.Now()}
	c.k.mu.Lock()
	c.k.changing[c.id] = op
	c.k.mu.Unlock()
	c.k.cfg.Events.step(tenantKey(c.id), op.Name, step)
	c.show(op)
}

// show is for the timelines of the present life.
func (c *change) show(op timeline.Operation) {
	for _, m := range c.k.membersOf(c.tenant) {
		m.SetOperation(op.Name, op.Step)
	}
}

// told ends what tell has begun.
func (c *change) told() {
	c.k.mu.Lock()
	delete(c.k.changing, c.id)
	c.k.mu.Unlock()
	c.show(timeline.Operation{})
}

// back leaves the tenant as it was, if there is a way back.
func (c *change) back(ctx context.Context) error {
	if c.marked {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil // the node stops; its next start finds the tenant as it was
	default:
	}
	c.k.mu.Lock()
	ended := c.tenant.ending
	c.k.mu.Unlock()
	if ended {
		return c.live(ctx, modeRecord{Mode: c.tenant.Mode})
	}
	for _, m := range c.k.membersOf(c.tenant) {
		m.SetDraining(false)
	}
	return nil
}

// end makes the new mode durable, and begins its life.
func (c *change) end(ctx context.Context) error {
	c.tell("open")
	r := modeRecord{Mode: c.to}
	if err := c.k.writeMode(c.id, r); err != nil {
		return err
	}
	return c.live(ctx, r)
}

// live ends the present life, in which nothing runs any more, and begins another.
func (c *change) live(ctx context.Context, r modeRecord) error {
	if err := c.k.endTenant(ctx, c.tenant, errModeChanges); err != nil {
		return err
	}
	next := c.k.newTenant(c.id, r)
	o := newOpenings()
	c.k.openTenant(ctx, next, o)
	o.all.Wait()
	c.k.mu.Lock()
	stopping := c.k.stopping
	if !stopping {
		c.k.tenants[c.id] = next
		c.k.watchLocked(next)
	}
	c.k.mu.Unlock()
	c.tenant = next
	if stopping { // nobody else knows of it
		return errors.Join(timeline.ErrShuttingDown, c.k.stopTenant(context.WithoutCancel(ctx), next, errStopping))
	}
	return nil
}

// meetTenant makes a tenant known that object storage has and this node has not: as
// a detached one.
func (c *change) meetTenant(ctx context.Context) error {
	if c.k.depot == nil || c.to == timeline.ModeDetached {
		return ErrNoTenant
	}
	store, err := c.k.depot.open(ctx)
	if err != nil {
		return err
	}
	names, err := store.Timelines(ctx, string(c.id))
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("%w here, or in object storage", ErrNoTenant)
	}
	if err := c.k.cfg.FS.MkdirAll(c.k.timelinesDir(c.id)); err != nil {
		return err
	}
	r := modeRecord{Mode: timeline.ModeDetached}
	if err := c.k.writeMode(c.id, r); err != nil {
		return err
	}
	c.tenant = c.k.newTenant(c.id, r)
	c.k.addTenant(c.tenant)
	return nil
}

// find makes the timelines that object storage has and this node has not. Where it
// is away, those that are known here go on without.
func (c *change) find(ctx context.Context) error {
	if c.k.depot == nil {
		return nil
	}
	err := c.k.findTimelines(ctx, c.tenant)
	if err == nil || ctx.Err() != nil || len(c.k.membersOf(c.tenant)) == 0 {
		return err
	}
	c.k.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "object storage does not tell which other timelines the tenant has",
		slog.String("tenant", string(c.id)), slog.Any("error", err))
	return nil
}

// askSourceWithin bounds how long a source is asked whether it waits for this node.
const askSourceWithin = 5 * time.Second

// check refuses to leave while a source may wait for this node.
func (c *change) check(ctx context.Context) error {
	if c.force {
		return nil
	}
	return c.each(func(m *Member) error {
		source := m.Control().Source
		if state, _ := m.State(); source == "" || state != timeline.StateRunning {
			return nil
		}
		return m.during(ctx, func(ctx context.Context) error { return m.waitedFor(ctx, source) })
	})
}

// each does the work for all timelines side by side.
func (c *change) each(work func(*Member) error) error {
	members := c.k.membersOf(c.tenant)
	errs := make([]error, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		all.Go(func() {
			if err := work(m); err != nil {
				errs[i] = fmt.Errorf("timeline %s: %w", m.ID(), err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// waitedFor fails if the source names this node in synchronous_standby_names, or
// did when it was last heard of.
func (m *Member) waitedFor(ctx context.Context, source string) error {
	asked, cancel := context.WithTimeout(ctx, askSourceWithin)
	defer cancel()
	q := m.Quorum()
	_, set, err := replication.Probe(asked, m.replicationConfig(source))
	if err == nil {
		q, err = timeline.ReadQuorum(set.TLI, set.SyncStandbyNames, m.keeper.cfg.NodeID, set.ReadAt)
		err = errors.Join(err, m.readSettings(ctx, set))
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case !q.Synchronous && (err == nil || !q.Unbounded):
		return nil
	case err != nil:
		return fmt.Errorf("%w, as far as is known: synchronous_standby_names was %q, and the source cannot be asked (%w); take this node out of it, or use --force", ErrWaitedFor, q.Raw, err)
	}
	return fmt.Errorf("%w: synchronous_standby_names is %q; take it out and reload, or use --force", ErrWaitedFor, q.Raw)
}

// drain brings all that is held to object storage, if there is one. Whatever did not
// get there stays on this node.
func (c *change) drain(ctx context.Context) error {
	if c.k.depot == nil {
		return nil
	}
	return c.each(func(m *Member) error { return m.drain(ctx) })
}

// drainStalled is how long a drain goes on without anything getting to object
// storage.
const drainStalled = time.Minute

// errStalled ends a drain that does not get on.
var errStalled = fmt.Errorf("nothing got there for %v", drainStalled)

// drain stops receiving, and waits until object storage has all that is held, or
// does not get on.
func (m *Member) drain(ctx context.Context) error {
	if state, _ := m.State(); state != timeline.StateRunning || m.Log() == nil {
		return nil
	}
	m.SetDraining(true)
	for {
		before := m.Backup()
		within, cancel := context.WithTimeoutCause(ctx, drainStalled, errStalled)
		err := m.manager.WaitDrained(within)
		cancel()
		switch now := m.Backup(); {
		case err == nil || errors.Is(err, gate.ErrClosed):
			return nil
		case errors.Is(err, errStalled) && (now.LSN != before.LSN || now.Partial != before.Partial):
			continue
		}
		return fmt.Errorf("object storage has it up to %s, and %s is held here: %w", m.Backup().LSN, m.Log().Flushed(), err)
	}
}

// stopAll waits until everybody has left.
func (c *change) stopAll(ctx context.Context) error {
	return c.k.endTenant(ctx, c.tenant, errModeChanges)
}

// mark makes durable where the tenant goes. From here on its timelines stand still,
// and this change alone touches them.
func (c *change) mark(ctx context.Context) error {
	r := modeRecord{Mode: c.tenant.Mode, Next: c.to}
	if err := c.k.writeMode(c.id, r); err != nil {
		c.marked = c.k.writeMode(c.id, modeRecord{Mode: c.tenant.Mode}) != nil // nobody knows what is durable
		return err
	}
	c.marked = true
	return c.live(ctx, r)
}

// leave takes back what this node may say about what does not exist.
func (c *change) leave(ctx context.Context) error {
	return c.each(func(m *Member) error {
		if m.Control().Incarnation == "" {
			return nil // it is broken, and nobody knows what it had
		}
		return m.LeaveSource(ctx)
	})
}

func (c *change) slot(ctx context.Context) error {
	return c.each(func(m *Member) error { return c.k.dropSlot(ctx, m, m.Control().Source) })
}

// files removes the WAL that object storage has. What only this node has stays; an
// attach finds it.
func (c *change) files(ctx context.Context) error {
	return c.each(func(m *Member) error {
		if state, _ := m.State(); state != timeline.StateStopped || c.k.depot == nil {
			return nil
		}
		err := m.DropWAL(ctx)
		if !errors.Is(err, timeline.ErrOnlyHere) {
			return err
		}
		c.k.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "WAL of a detached timeline stays on this node", slog.String("timeline", m.ID().String()), slog.Any("error", err))
		return nil
	})
}
