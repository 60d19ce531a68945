package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"

	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
)

// tenant is one life of a tenant in one mode, and its timelines. Another mode is
// another life, with a gate of its own: it begins when everybody has left this one.
type tenant struct {
	*timeline.Tenant
	modeRecord
	unreadable error              // why it is not known which mode it should be in
	members    map[string]*Member // by the timeline's name; guarded by Keeper.mu
	ending     bool               // guarded by Keeper.mu; no timeline may join
}

// modeRecord is what is durable of a tenant's mode.
type modeRecord struct {
	Mode timeline.Mode `json:"mode"`
	// Next is the mode that a change leads to from which there is no way back; "":
	// there is none.
	Next timeline.Mode `json:"next,omitempty"`
}

const (
	tenantFile         = "tenant.json"
	tenantFileMaxBytes = 64 << 10
)

func (k *Keeper) tenantDir(id timeline.TenantID) string {
	return filepath.Join(k.cfg.DataDir, tenantsDir, string(id))
}

func (k *Keeper) timelinesDir(id timeline.TenantID) string {
	return filepath.Join(k.tenantDir(id), timelinesDir)
}

// readMode reads which mode a tenant is in: attached, where nobody said otherwise.
func (k *Keeper) readMode(id timeline.TenantID) (modeRecord, error) {
	file := filepath.Join(k.tenantDir(id), tenantFile)
	b, err := wal.ReadFile(k.cfg.FS, file, tenantFileMaxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return modeRecord{Mode: timeline.ModeAttached}, nil
	}
	var r modeRecord
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err == nil {
		_, err = timeline.ParseMode(string(r.Mode))
	}
	if err == nil && r.Next != "" {
		_, err = timeline.ParseMode(string(r.Next))
	}
	if err != nil {
		return modeRecord{}, fmt.Errorf("read the mode of tenant %s in %s: %w; set it again: sluice tenant mode", id, file, err)
	}
	return r, nil
}

func (k *Keeper) writeMode(id timeline.TenantID, r modeRecord) error {
	b, err := json.Marshal(r)
	if err == nil {
		err = wal.WriteFileAtomic(k.cfg.FS, filepath.Join(k.tenantDir(id), tenantFile), b)
	}
	if err != nil {
		return fmt.Errorf("write the mode of tenant %s: %w", id, err)
	}
	return nil
}

// newTenant begins a life. Nothing is opened yet.
func (k *Keeper) newTenant(id timeline.TenantID, r modeRecord) *tenant {
	cfg := gate.Config{Kind: "tenant", Name: string(id), Hooks: k.gates}
	return &tenant{Tenant: timeline.NewTenant(k.ctx, id, cfg), modeRecord: r, members: map[string]*Member{}}
}

// addTenant makes a tenant known, unless it is.
func (k *Keeper) addTenant(t *tenant) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tenants[t.ID()] == nil {
		k.tenants[t.ID()] = t
		k.watchLocked(t)
	}
}

// readTenant begins the life of a tenant in the mode that its directory says.
func (k *Keeper) readTenant(id timeline.TenantID) *tenant {
	r, err := k.readMode(id)
	if err != nil {
		r.Mode = timeline.ModeDetached // nothing is done with it, and nothing removed
	}
	t := k.newTenant(id, r)
	t.unreadable = err
	return t
}

// runs reports whether something is done with the tenant's timelines.
func (t *tenant) runs() bool { return t.idle() == nil }

// idle is why nothing is done with the tenant's timelines; nil: something is.
func (t *tenant) idle() error {
	switch {
	case t.unreadable != nil:
		return fmt.Errorf("%w: %w", ErrDetached, t.unreadable)
	case t.Next != "":
		return fmt.Errorf("%w: it is on its way from %s to %s", ErrDetached, t.Mode, t.Next)
	case t.Mode == timeline.ModeDetached:
		return fmt.Errorf("%w: sluice tenant mode %s attached", ErrDetached, t.ID())
	}
	return nil
}

// openings opens timelines side by side.
type openings struct {
	room chan struct{}
	all  sync.WaitGroup
}

// openAtOnce is how many timelines are opened side by side: each needs a few
// file descriptors, and a disk is not faster for more.
const openAtOnce = 32

func newOpenings() *openings { return &openings{room: make(chan struct{}, openAtOnce)} }

func (o *openings) do(work func()) {
	o.room <- struct{}{} // whoever is inside leaves by itself
	o.all.Go(func() {
		defer func() { <-o.room }()
		work()
	})
}

// openTenant begins to open what is below a tenant's directory, as far as there
// is room. One that cannot be read disturbs no other.
func (k *Keeper) openTenant(ctx context.Context, t *tenant, o *openings) {
	if t.unreadable != nil {
		k.cfg.Log.LogAttrs(ctx, slog.LevelError, "tenant's mode cannot be read: nothing is done with it", slog.String("tenant", string(t.ID())), slog.Any("error", t.unreadable))
	}
	dir := k.timelinesDir(t.ID())
	names, err := subdirectories(k.cfg.FS, dir)
	if err != nil {
		k.cfg.Log.LogAttrs(ctx, slog.LevelError, "tenant cannot be read", slog.String("tenant", string(t.ID())), slog.Any("error", err))
		return
	}
	for _, name := range names {
		if strings.HasPrefix(name, timeline.TempPrefix) {
			if err := k.cfg.FS.RemoveAll(filepath.Join(dir, name)); err != nil {
				k.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "what a crash left behind cannot be removed", slog.Any("error", err))
			}
			continue
		}
		o.do(func() { k.openTimeline(ctx, t, name) })
	}
}
