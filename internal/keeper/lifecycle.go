package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

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
	return TenantInfo{ID: id, Timelines: len(t.members), Stopping: t.deleting || k.stopping}, nil
}

// tenantKey is the key of a tenant's own operations.
func tenantKey(id timeline.TenantID) timeline.ID { return timeline.ID{Tenant: id} }

// CreateTenant makes a tenant; created is false when it was there.
func (k *Keeper) CreateTenant(ctx context.Context, id timeline.TenantID) (created bool, err error) {
	err = k.do(ctx, tenantKey(id), "create tenant", func(context.Context) error {
		k.mu.Lock()
		t := k.tenants[id]
		k.mu.Unlock()
		if t != nil {
			return nil
		}
		if err := k.cfg.FS.MkdirAll(k.timelinesDir(id)); err != nil {
			return fmt.Errorf("create tenant %s: %w", id, err)
		}
		k.addTenant(id)
		created = true
		return nil
	})
	return created, err
}

func (k *Keeper) timelinesDir(id timeline.TenantID) string {
	return filepath.Join(k.cfg.DataDir, tenantsDir, string(id), timelinesDir)
}

// DeleteTenant deletes a tenant's timelines, then the tenant. A creation in it
// that comes later is refused. When ctx ends first, the error says so and the
// work goes on; a second call joins it.
func (k *Keeper) DeleteTenant(ctx context.Context, id timeline.TenantID) error {
	return k.do(ctx, tenantKey(id), "delete tenant", func(ctx context.Context) error { return k.deleteTenant(ctx, id) })
}

// deleteTenant marks all timelines first, so that after a crash none is live
// again.
func (k *Keeper) deleteTenant(ctx context.Context, id timeline.TenantID) error {
	t, members, err := k.beginTenantDelete(id)
	if err != nil {
		return err
	}
	for _, m := range members {
		if state, _ := m.State(); state == timeline.StateBroken {
			continue
		}
		if err := m.MarkDeleting(ctx); err != nil {
			return fmt.Errorf("delete tenant %s: %w", id, err)
		}
	}
	for _, m := range members {
		if err := k.DeleteTimeline(ctx, m.ID()); err != nil && !errors.Is(err, ErrNoTimeline) {
			return err
		}
	}
	if err := t.Shutdown(ctx, errDeleting); err != nil {
		return err
	}
	if err := k.cfg.FS.RemoveAll(filepath.Dir(k.timelinesDir(id))); err != nil {
		return fmt.Errorf("delete tenant %s: %w", id, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.tenants, id)
	return nil
}

func (k *Keeper) beginTenantDelete(id timeline.TenantID) (*tenant, []*Member, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.tenants[id]
	if t == nil {
		return nil, nil, fmt.Errorf("tenant %s: %w", id, ErrNoTenant)
	}
	t.deleting = true
	return t, sorted(t.members), nil
}

// CreateTimeline makes a timeline, and its tenant if need be. A name that is
// taken is ErrExists.
func (k *Keeper) CreateTimeline(ctx context.Context, id timeline.ID, source string) error {
	return k.create(ctx, id, source, "")
}

func (k *Keeper) create(ctx context.Context, id timeline.ID, source, fileSource string) error {
	if err := checkConninfo(k.cfg.NodeID, source); err != nil {
		return err
	}
	if _, err := k.member(id); err == nil {
		return fmt.Errorf("timeline %s: %w", id, ErrExists)
	}
	if _, err := k.CreateTenant(ctx, id.Tenant); err != nil {
		return err
	}
	return k.do(ctx, id, "create", func(context.Context) error {
		if _, err := k.member(id); err == nil {
			return fmt.Errorf("timeline %s: %w", id, ErrExists)
		}
		return k.makeTimeline(id, source, fileSource)
	})
}

func (k *Keeper) makeTimeline(id timeline.ID, source, fileSource string) error {
	k.mu.Lock()
	t := k.tenants[id.Tenant]
	refused := k.stopping || t != nil && t.deleting
	k.mu.Unlock()
	switch {
	case t == nil:
		return fmt.Errorf("tenant %s: %w", id.Tenant, ErrNoTenant)
	case refused:
		return fmt.Errorf("tenant %s: %w", id.Tenant, timeline.ErrShuttingDown)
	}
	tl, err := timeline.Create(t.Context(), k.timelineConfig(id), id, source, fileSource)
	if err != nil {
		return err
	}
	if _, err = k.join(t, tl); err != nil {
		// The tenant began to stop meanwhile: what was refused must not come to life at the next start.
		return errors.Join(err, tl.Shutdown(k.ctx, err), tl.RemoveFiles())
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
	pass, err := m.Enter(ctx, holderRequest)
	if err != nil {
		return err
	}
	defer pass.Leave()
	return m.SetSource(ctx, source, acceptDataLoss)
}

// DeleteTimeline deletes a timeline: a durable mark first, then everybody out,
// then the slot on the source, then the files. When ctx ends first, the error
// says so and the work goes on; a second call joins it.
func (k *Keeper) DeleteTimeline(ctx context.Context, id timeline.ID) error {
	m, err := k.member(id)
	if err != nil {
		return err
	}
	return k.do(ctx, id, "delete", func(ctx context.Context) error { return k.delete(ctx, m) })
}

// resumeDelete goes on with a deletion that a crash or a stop cut off. Nothing
// of the timeline runs any more.
func (k *Keeper) resumeDelete(ctx context.Context, t *tenant, tl *timeline.Timeline) {
	m, err := k.add(t, tl)
	if err != nil {
		k.cfg.Log.LogAttrs(ctx, slog.LevelError, "deletion cannot go on", slog.String("timeline", tl.ID().String()), slog.Any("error", err))
		return
	}
	op, mine, err := k.begin(m.ID(), "delete")
	if err != nil || !mine {
		return
	}
	k.running.Go(func() {
		err := k.delete(k.ctx, m)
		if err != nil {
			k.cfg.Log.LogAttrs(ctx, slog.LevelError, "deletion cannot go on", slog.String("timeline", m.ID().String()), slog.Any("error", err))
		}
		k.finish(m.ID(), op, err)
	})
}

func (k *Keeper) delete(ctx context.Context, m *Member) error {
	source := m.Control().Source
	m.SetOperation("delete", "mark")
	if state, _ := m.State(); state != timeline.StateBroken {
		if err := m.MarkDeleting(ctx); err != nil {
			return fmt.Errorf("delete timeline %s: %w", m.ID(), err)
		}
	}
	m.SetOperation("delete", "stop")
	if err := m.shutdown(ctx, errDeleting); err != nil {
		return err
	}
	m.SetOperation("delete", "slot")
	k.dropSlot(ctx, m, source)
	m.SetOperation("delete", "files")
	if err := m.RemoveFiles(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if t := k.tenants[m.ID().Tenant]; t != nil {
		delete(t.members, m.ID().Name)
	}
	return nil
}

// dropSlot lets the source forget us, so that it does not keep WAL for ever. A
// source that cannot be reached does not hold a deletion up: the log names the
// slot that somebody has to drop.
func (k *Keeper) dropSlot(ctx context.Context, m *Member, source string) {
	if source == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, dropSlotTimeout)
	defer cancel()
	if err := replication.DropSlot(ctx, m.replicationConfig(source)); err != nil {
		k.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "slot is left on the source, drop it there: it keeps WAL",
			slog.String("timeline", m.ID().String()), slog.String("slot", replication.SlotName(k.cfg.NodeID)), slog.Any("error", err))
	}
}

// Seal seals a timeline; see [timeline.Timeline.Seal].
func (k *Keeper) Seal(ctx context.Context, id timeline.ID, acceptDataLoss bool) (timeline.SealResult, error) {
	m, err := k.member(id)
	if err != nil {
		return timeline.SealResult{}, err
	}
	pass, err := m.Enter(ctx, holderRequest)
	if err != nil {
		return timeline.SealResult{}, err
	}
	defer pass.Leave()
	return m.Seal(ctx, acceptDataLoss)
}

// Unseal takes a seal back; see [timeline.Timeline.Unseal].
func (k *Keeper) Unseal(ctx context.Context, id timeline.ID, force bool) (timeline.Seal, error) {
	m, err := k.member(id)
	if err != nil {
		return timeline.Seal{}, err
	}
	pass, err := m.Enter(ctx, holderRequest)
	if err != nil {
		return timeline.Seal{}, err
	}
	defer pass.Leave()
	return m.Unseal(ctx, force)
}
