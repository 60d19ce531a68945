package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/timeline"
)

// findTimelines makes what object storage has of a tenant and this node has not.
func (k *Keeper) findTimelines(ctx context.Context, t *tenant) error {
	store, err := k.depot.open(ctx)
	if err != nil {
		return err
	}
	return eachStored(ctx, t, store, func(id timeline.ID) error {
		_, err := k.findTimeline(ctx, t, store, id)
		return err
	})
}

// eachStored goes through the timelines of a tenant that object storage knows, those that have ended, too.
func eachStored(ctx context.Context, t *tenant, store *backup.Store, visit func(timeline.ID) error) error {
	names, err := store.Timelines(ctx, string(t.ID()))
	if err != nil {
		return err
	}
	for _, name := range names {
		id, err := timeline.NewID(string(t.ID()), name)
		if err != nil {
			continue // it is no timeline's
		}
		if err := visit(id); err != nil {
			return fmt.Errorf("timeline %s: %w", id, err)
		}
	}
	return nil
}

// findTimeline makes the directory of a timeline that is not here; false: it is, or its life has ended.
func (k *Keeper) findTimeline(ctx context.Context, t *tenant, store *backup.Store, id timeline.ID) (bool, error) {
	if _, err := k.cfg.FS.Stat(timeline.Dir(k.cfg.DataDir, id)); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	identity, err := store.Find(ctx, string(id.Tenant), id.Name)
	if errors.Is(err, backup.ErrDeleted) || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	met, err := surveyed(ctx, store, id, identity, 0)
	if err != nil {
		return false, err
	}
	tl, err := timeline.Create(t.Context(), k.timelineConfig(id), id, timeline.Creation{Met: &met})
	if err != nil {
		return false, err
	}
	return true, tl.Shutdown(ctx, errModeChanges) // its directory is what was wanted
}

// revive lets a life of a timeline go on in object storage, and surveys it. What a
// crash leaves is a timeline that is kept by no node: whoever asks again finds it.
//
// It runs inside the tenant's gate, and ends with the tenant.
func (k *Keeper) revive(ctx context.Context, t *tenant, id timeline.ID, incarnation string) (timeline.Meeting, error) {
	switch {
	case k.depot == nil:
		return timeline.Meeting{}, ErrNoStore
	case t.Mode == timeline.ModeSecondary:
		return timeline.Meeting{}, ErrSecondary
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(t.Context(), func() { cancel(timeline.ErrShuttingDown) })()
	store, err := k.depot.open(ctx)
	if err != nil {
		return timeline.Meeting{}, err
	}
	identity, err := store.Revive(ctx, string(id.Tenant), id.Name, incarnation)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.Join(err, store.Confirm(ctx))
	}
	if err != nil {
		return timeline.Meeting{}, err
	}
	return surveyed(ctx, store, id, identity, 0)
}

// lookEvery is how many times less often than for WAL a warm copy looks for timelines that it does not know.
const lookEvery = 6

// watchLocked lets the warm copy of a tenant find, now and then, the timelines that
// came to object storage since its life began.
func (k *Keeper) watchLocked(t *tenant) {
	if k.depot == nil || t.Mode != timeline.ModeSecondary || !t.runs() || k.stopping {
		return
	}
	k.running.Go(func() {
		for {
			select {
			case <-t.Context().Done():
				return
			case <-time.After(lookEvery * k.cfg.Store.FollowInterval):
			}
			if err := k.look(t); err != nil && t.Context().Err() == nil {
				k.cfg.Log.LogAttrs(t.Context(), slog.LevelWarn, "object storage does not tell which other timelines the tenant has",
					slog.String("tenant", string(t.ID())), slog.Any("error", err))
			}
		}
	})
}

// look is inside the tenant's gate, as every download of a warm copy is.
func (k *Keeper) look(t *tenant) error {
	ctx := t.Context()
	leave, err := t.EnterFor(ctx, holderFollow, "")
	if err != nil {
		return err
	}
	defer leave()
	store, err := k.depot.open(ctx)
	if err != nil {
		return err
	}
	return eachStored(ctx, t, store, func(id timeline.ID) error {
		if _, err := k.member(id); err == nil {
			return nil
		}
		return k.copyNew(ctx, t, store, id)
	})
}

// copyNew makes a timeline that was found, and begins to copy it.
func (k *Keeper) copyNew(ctx context.Context, t *tenant, store *backup.Store, id timeline.ID) error {
	made, err := k.findTimeline(ctx, t, store, id)
	if err != nil || !made {
		return err
	}
	k.openTimeline(ctx, t, id.Name)
	return nil
}
