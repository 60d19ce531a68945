package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/timeline"
)

// Tenants returns the names of the tenants, sorted.
func (k *Keeper) Tenants() []timeline.TenantID {
	k.mu.Lock()
	defer k.mu.Unlock()
	ids := make([]timeline.TenantID, 0, len(k.tenants))
	for _, t := range sorted(k.tenants) {
		ids = append(ids, t.ID())
	}
	return ids
}

// TenantInfo is what is known of a tenant.
type TenantInfo struct {
	ID        timeline.TenantID
	Mode      timeline.Mode
	Next      timeline.Mode      // that a change leads to; "": there is none, or it may still end without one
	Reason    error              // why nothing is done with it; nil: something is
	Operation timeline.Operation // the change of its mode under way; zero if there is none
	Timelines int
	Stopping  bool
}

// Tenant describes a tenant; ErrNoTenant.
func (k *Keeper) Tenant(id timeline.TenantID) (TenantInfo, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.tenants[id]
	if t == nil {
		return TenantInfo{}, fmt.Errorf("tenant %s: %w", id, ErrNoTenant)
	}
	return TenantInfo{
		ID: id, Mode: t.Mode, Next: t.Next, Reason: t.idle(), Operation: k.changing[id],
		Timelines: len(t.members), Stopping: t.ending || k.stopping,
	}, nil
}

// CreateTenant makes a tenant; created is false when it was there. While one of
// that name is being deleted, that is waited for.
func (k *Keeper) CreateTenant(ctx context.Context, id timeline.TenantID) (created bool, err error) {
	made := false
	err = k.do(ctx, tenantKey(id), opCreate, func(context.Context) error {
		if k.tenant(id) != nil {
			return nil
		}
		if err := k.cfg.FS.MkdirAll(k.timelinesDir(id)); err != nil {
			return fmt.Errorf("create tenant %s: %w", id, err)
		}
		k.addTenant(k.newTenant(id, modeRecord{Mode: timeline.ModeAttached}))
		made = true
		return nil
	})
	if err != nil {
		return false, err // the work may go on, and write to made
	}
	return made, nil
}

// DeleteTenant deletes a tenant's timelines, then the tenant. A creation in it
// that comes later is refused. When ctx ends first, the error says so and the
// work goes on; a second call joins it.
//
// A warm copy is [ErrSecondary]: see DeleteTimeline.
func (k *Keeper) DeleteTenant(ctx context.Context, id timeline.TenantID, keepObjects bool) error {
	if err := k.deletable(id); err != nil {
		return err
	}
	return k.do(ctx, tenantKey(id), opDelete, func(ctx context.Context) error {
		if err := k.deleteTenant(ctx, id, keepObjects); err != nil {
			return fmt.Errorf("delete tenant %s: %w", id, err)
		}
		return nil
	})
}

// deleteTenant marks all timelines first, so that after a crash none is live
// again.
func (k *Keeper) deleteTenant(ctx context.Context, id timeline.TenantID, keepObjects bool) error {
	t, members := k.beginTenantDelete(id)
	if t == nil {
		return ErrNoTenant
	}
	for _, m := range members {
		if err := markDeleting(ctx, m, keepObjects); err != nil {
			return err
		}
	}
	if err := k.deleteTimelines(ctx, members, keepObjects); err != nil {
		return err
	}
	if err := t.Shutdown(ctx, errDeleting); err != nil { // creations that had begun end first
		return err
	}
	dir := k.tenantDir(id)
	if err := k.cfg.FS.RemoveAll(dir); err != nil {
		return err
	}
	if err := k.cfg.FS.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.tenants, id)
	return nil
}

// beginTenantDelete lets no timeline join any more, and returns those that have.
func (k *Keeper) beginTenantDelete(id timeline.TenantID) (*tenant, []*Member) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.tenants[id]
	if t == nil {
		return nil, nil
	}
	t.ending = true
	return t, sorted(t.members)
}

// deleteTimelines deletes side by side: one that is stuck keeps no other.
func (k *Keeper) deleteTimelines(ctx context.Context, members []*Member, keepObjects bool) error {
	errs := make([]error, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		all.Go(func() {
			if err := k.DeleteTimeline(ctx, m.ID(), keepObjects); !errors.Is(err, ErrNoTimeline) {
				errs[i] = err
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// CreateTimeline makes a timeline, and its tenant if need be. A name that is
// taken is ErrExists; while one of that name is being deleted, that is waited for.
//
// isNew is an operator's word that no other node and no object storage has ever
// held it. Where a timeline of that name was deleted, another life begins.
func (k *Keeper) CreateTimeline(ctx context.Context, id timeline.ID, source string, isNew bool) error {
	return k.create(ctx, id, "", timeline.Creation{Source: source, New: isNew, Again: true})
}

// AttachTimeline makes a timeline of what object storage has of one of its lives:
// of one that was deleted with its objects kept, which begins again, or of the one
// that goes on. It is ErrExists where that life is here, and [backup.ErrAlive] where
// another is, or goes on. See [backup.Store.Revive].
func (k *Keeper) AttachTimeline(ctx context.Context, id timeline.ID, incarnation, source string) error {
	return k.create(ctx, id, incarnation, timeline.Creation{Source: source})
}

// create makes a timeline; with an incarnation, of that life in object storage.
func (k *Keeper) create(ctx context.Context, id timeline.ID, incarnation string, with timeline.Creation) error {
	if err := checkConninfo(k.cfg.NodeID, with.Source); err != nil {
		return err
	}
	return k.do(ctx, id, opCreate, func(ctx context.Context) error {
		m, err := k.member(id)
		switch {
		case err != nil:
		case m.Control().Ended != nil && incarnation == string(m.Control().Incarnation):
			return k.goOn(ctx, m, with)
		default:
			return m.taken(incarnation)
		}
		made, err := k.CreateTenant(ctx, id.Tenant)
		if err != nil {
			return err
		}
		err = k.makeTimeline(ctx, id, incarnation, with)
		if err != nil && made {
			return errors.Join(err, k.undoTenant(ctx, id))
		}
		return err
	})
}

// undoTenant removes the tenant that was made for a timeline which could not be,
// unless another came to it meanwhile.
func (k *Keeper) undoTenant(ctx context.Context, id timeline.ID) error {
	return k.do(ctx, tenantKey(id.Tenant), opDelete, func(ctx context.Context) error {
		if !k.endUnused(id) {
			return nil
		}
		return k.deleteTenant(ctx, id.Tenant, true)
	})
}

// endUnused lets no timeline join a tenant any more, if none has, and none but id is
// being made. One that is asked for from now on waits for the tenant's end.
func (k *Keeper) endUnused(id timeline.ID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.tenants[id.Tenant]
	if t == nil || len(t.members) > 0 {
		return false
	}
	for key := range k.operations {
		if key.Tenant == id.Tenant && key != id && key != tenantKey(id.Tenant) {
			return false
		}
	}
	t.ending = true
	return true
}

// taken is why a timeline is not made.
func (m *Member) taken(incarnation string) error {
	if _, why := m.State(); errors.Is(why, timeline.ErrEnded) {
		return fmt.Errorf("timeline %s: %w: %w", m.ID(), ErrExists, why)
	}
	if here := string(m.Control().Incarnation); incarnation != "" && incarnation != here {
		return fmt.Errorf("timeline %s: %w: its incarnation is %s", m.ID(), backup.ErrAlive, here)
	}
	return fmt.Errorf("timeline %s: %w", m.ID(), ErrExists)
}

// makeTimeline holds the tenant's gate, so that the tenant's directory does not go
// before the work is done.
func (k *Keeper) makeTimeline(ctx context.Context, id timeline.ID, incarnation string, with timeline.Creation) error {
	k.mu.Lock()
	t := k.tenants[id.Tenant]
	ending := t != nil && t.ending
	k.mu.Unlock()
	switch {
	case t == nil:
		return fmt.Errorf("tenant %s: %w", id.Tenant, ErrNoTenant)
	case !t.runs():
		return fmt.Errorf("tenant %s: %w", id.Tenant, t.idle())
	case ending:
		return fmt.Errorf("tenant %s: %w", id.Tenant, timeline.ErrShuttingDown)
	}
	leave, err := t.EnterFor(ctx, holderRequest, "")
	if err != nil {
		return err
	}
	defer leave()
	if incarnation != "" {
		met, err := k.revive(ctx, t, id, incarnation)
		if err != nil {
			return fmt.Errorf("timeline %s: %w", id, err)
		}
		with.Met = &met
	}
	tl, err := timeline.Create(t.Context(), k.timelineConfig(id), id, with)
	if err != nil {
		return err
	}
	if _, err := k.join(t, tl); err != nil {
		// The tenant began to stop meanwhile: what was refused must not come to life at the next start.
		return errors.Join(err, tl.Shutdown(context.WithoutCancel(ctx), err), tl.RemoveFiles())
	}
	return nil
}

// checkConninfo refuses what no receiver could be made of, before it is kept.
func checkConninfo(nodeID, source string) error {
	if source == "" {
		return nil
	}
	if err := replication.CheckConninfo(source, nodeID); err != nil {
		return fmt.Errorf("%w: %w", ErrBadConninfo, err)
	}
	return nil
}

// SetTimeline sets the source; "" leaves it. acceptDataLoss follows a source
// that lacks what a seal promised.
func (k *Keeper) SetTimeline(ctx context.Context, id timeline.ID, source string, acceptDataLoss bool) error {
	m, err := k.member(id)
	if err != nil {
		return err
	}
	if err := checkConninfo(k.cfg.NodeID, source); err != nil {
		return err
	}
	return m.during(ctx, func(ctx context.Context) error { return m.SetSource(ctx, source, acceptDataLoss) })
}

// DeleteTimeline deletes a timeline: a durable mark first, then everybody out,
// then its objects, unless they are kept, the slot on the source, and the files.
// When ctx ends first, the error says so and the work goes on; a second call joins
// it.
//
// Of a warm copy it is [ErrSecondary]: whoever asks may want to be rid of the copy,
// and a deletion ends the timeline's life on all nodes. Of a life that has ended, it
// removes what is here.
func (k *Keeper) DeleteTimeline(ctx context.Context, id timeline.ID, keepObjects bool) error {
	m, err := k.member(id)
	if err != nil {
		return err
	}
	if err := k.deletable(id.Tenant); err != nil && !m.Control().Deleting && m.Control().Ended == nil {
		return err
	}
	return k.do(ctx, id, opDelete, func(ctx context.Context) error { return k.delete(ctx, m, keepObjects) })
}

// deletable fails for a tenant of which this node has a warm copy.
func (k *Keeper) deletable(id timeline.TenantID) error {
	t := k.tenant(id)
	if t == nil || t.Mode != timeline.ModeSecondary || t.Next != "" {
		return nil
	}
	return fmt.Errorf("%w: a deletion would end its timelines on all nodes, and in object storage. To end this copy: 'sluice tenant mode %s detached'; "+
		"to delete: on a node where it is attached, or here after 'sluice tenant mode %s attached'", ErrSecondary, id, id)
}

// resumeDeletions goes on with what a crash or a stop has cut off.
func (k *Keeper) resumeDeletions() {
	for _, m := range k.Members() {
		if !m.Control().Deleting {
			continue
		}
		// Nothing else runs on it yet; how it ends, delete tells.
		_, _, _ = k.begin(k.ctx, m.ID(), opDelete, func(ctx context.Context) error { return k.delete(ctx, m, m.Control().KeepObjects) })
	}
}

// delete takes the steps of a deletion, each of which may have been taken before.
// Whoever asked may be gone: what fails is also logged.
func (k *Keeper) delete(ctx context.Context, m *Member, keepObjects bool) error {
	err := k.deleteSteps(ctx, m, keepObjects)
	if err == nil {
		return nil
	}
	m.SetOperation("", "")
	if ctx.Err() == nil {
		k.cfg.Log.LogAttrs(ctx, slog.LevelError, "deletion did not end: it goes on at the next start, or when it is asked for again",
			slog.String("timeline", m.ID().String()), slog.Any("error", err))
	}
	return fmt.Errorf("delete timeline %s: %w", m.ID(), err)
}

func (k *Keeper) deleteSteps(ctx context.Context, m *Member, keepObjects bool) error {
	source := m.Control().Source
	m.SetOperation(opDelete, "mark")
	if err := markDeleting(ctx, m, keepObjects); err != nil {
		return err
	}
	m.SetOperation(opDelete, "stop")
	if err := m.shutdown(ctx, errDeleting); err != nil {
		return err
	}
	m.SetOperation(opDelete, "objects")
	if err := k.deleteObjects(ctx, m); err != nil {
		return err
	}
	m.SetOperation(opDelete, "slot")
	if err := k.dropSlot(ctx, m, source); err != nil {
		return err
	}
	k.tellLeftWaiting(ctx, m, source)
	m.SetOperation(opDelete, "files")
	if err := m.RemoveFiles(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if t := k.tenants[m.ID().Tenant]; t != nil {
		delete(t.members, m.ID().Name)
	}
	return nil
}

// markDeleting makes the wish durable, where there is a control file to do so.
func markDeleting(ctx context.Context, m *Member, keepObjects bool) error {
	if m.Control().Incarnation == "" {
		return nil
	}
	return m.MarkDeleting(ctx, keepObjects)
}

// dropSlot lets the source forget us, so that it does not keep WAL for ever. A
// source that cannot be reached within a limit does not hold a deletion up: the log
// names the slot that somebody has to drop. The error is why ctx has ended: then
// the next start tries again.
func (k *Keeper) dropSlot(ctx context.Context, m *Member, source string) error {
	if source == "" {
		return nil
	}
	within, cancel := context.WithTimeout(ctx, dropSlotTimeout)
	defer cancel()
	err := replication.DropSlot(within, m.replicationConfig(source))
	for inUse(err) && within.Err() == nil { // by our own last connection, which the source has not seen the end of
		select {
		case <-within.Done():
		case <-time.After(dropSlotAgain):
			err = replication.DropSlot(within, m.replicationConfig(source))
		}
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		k.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "slot is left on the source, drop it there: it keeps WAL",
			slog.String("timeline", m.ID().String()), slog.String("slot", replication.SlotName(k.cfg.NodeID)), slog.Any("error", err))
	}
	return nil
}

// tellLeftWaiting says so where commits of the source waited for this node when its
// settings were last read: nothing else does, and they hang.
func (k *Keeper) tellLeftWaiting(ctx context.Context, m *Member, source string) {
	q := m.Quorum()
	if source == "" || !q.Synchronous {
		return
	}
	k.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "timeline is deleted, and its source names this node in synchronous_standby_names: commits there hang unless enough others are connected; take this node out of it and reload",
		slog.String("timeline", m.ID().String()), slog.String("synchronous_standby_names", q.Raw), slog.Time("read_at", q.ReadAt))
}

func inUse(err error) bool {
	refused := new(replication.RefusedError)
	return errors.As(err, &refused) && refused.Reason == replication.NameTaken
}

// Seal seals a timeline; see [timeline.Timeline.Seal].
func (k *Keeper) Seal(ctx context.Context, id timeline.ID, acceptDataLoss bool) (timeline.SealResult, error) {
	m, err := k.member(id)
	if err != nil {
		return timeline.SealResult{}, err
	}
	var res timeline.SealResult
	err = m.during(ctx, func(ctx context.Context) (err error) {
		res, err = m.seal(ctx, acceptDataLoss)
		return m.sealedByOne(err)
	})
	return res, err
}

func (m *Member) seal(ctx context.Context, acceptDataLoss bool) (timeline.SealResult, error) {
	if err := m.voter(); err != nil {
		return timeline.SealResult{}, err
	}
	if m.keeper.depot != nil && m.HoldsNothing() {
		if err := m.meetEmpty(ctx); err != nil {
			return timeline.SealResult{}, err
		}
	}
	defer m.BeginOperation(opSeal, "decide")()
	return m.Seal(ctx, acceptDataLoss)
}

// voter fails for a timeline whose word about its TLI does not count.
func (m *Member) voter() error {
	if m.tenant.Mode == timeline.ModeSecondary {
		return fmt.Errorf("timeline %s: %w", m.ID(), ErrSecondary)
	}
	return nil
}

// Unseal takes a seal back; see [timeline.Timeline.Unseal].
func (k *Keeper) Unseal(ctx context.Context, id timeline.ID, force bool) (timeline.Seal, error) {
	m, err := k.member(id)
	if err != nil {
		return timeline.Seal{}, err
	}
	var seal timeline.Seal
	err = m.during(ctx, func(ctx context.Context) (err error) {
		seal, err = m.unseal(ctx, force)
		return err
	})
	return seal, err
}

func (m *Member) unseal(ctx context.Context, force bool) (timeline.Seal, error) {
	if err := m.voter(); err != nil {
		return timeline.Seal{}, err
	}
	defer m.BeginOperation(opUnseal, "take_back")()
	if m.keeper.depot != nil && m.Control().Stored != nil {
		if err := m.unsealStored(ctx, force); err != nil {
			return timeline.Seal{}, err
		}
	}
	return m.Unseal(ctx, force)
}
