package backup

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// Timeline is one life of a timeline in a store.
type Timeline struct {
	store    *Store
	identity Identity
	prefix   string // T/L/INCARNATION/
	layout   layout

	mu      sync.Mutex
	damaged map[string]*DamagedError // by key, below the prefix; guarded by mu
}

// Timeline returns one life of a timeline. It does nothing yet.
func (s *Store) Timeline(tenant, timeline string, id Identity) *Timeline {
	return &Timeline{
		store: s, identity: id, prefix: incarnationPrefix(tenant, timeline, id.Incarnation),
		layout:  layout{size: id.SegmentSize, compression: id.Compression},
		damaged: map[string]*DamagedError{},
	}
}

// Identity returns what was decided about it.
func (t *Timeline) Identity() Identity { return t.identity }

// quarantine remembers that an object is not what it should be: it is no longer counted as there. It stays in the store,
// for people, who are told once: it is found again whenever somebody wants it.
func (t *Timeline) quarantine(ctx context.Context, key, reason string) *DamagedError {
	d := &DamagedError{Key: t.prefix + key, Reason: reason}
	t.mu.Lock()
	_, known := t.damaged[key]
	t.damaged[key] = d
	t.mu.Unlock()
	if !known {
		t.store.cfg.Events.damaged(ctx, d)
	}
	return d
}

// sound takes an object out of quarantine: somebody has put a good one in its place.
func (t *Timeline) sound(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.damaged, key)
}

func (t *Timeline) quarantined(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.damaged[key] != nil
}

// Damaged returns the objects that were found not to be what was written, in no order.
func (t *Timeline) Damaged() []*DamagedError {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*DamagedError
	for _, d := range t.damaged {
		all = append(all, d)
	}
	return all
}

// Bury ends this life: the tombstone is written before anything is removed, and wins over every configuration file. Doing
// it twice is fine: kept is whether the first word was to keep the objects, and that word counts for all nodes.
func (t *Timeline) Bury(ctx context.Context, keepObjects bool) (kept bool, err error) {
	raw, err := json.Marshal(Tombstone{By: t.store.cfg.Node, At: time.Now().UTC(), KeepObjects: keepObjects})
	if err != nil {
		return false, err
	}
	key := t.prefix + tombstoneOf(t.identity.Revived)
	decided, err := t.store.decide(ctx, key, raw)
	if err != nil {
		return false, err
	}
	stone, err := decodeTombstone(key, decided)
	return stone.KeepObjects, err
}

// DeleteObjects removes all objects of this life but the tombstones, and returns how many. It may be called again after it
// failed. It refuses where there is no tombstone, and where that keeps the objects: they may belong to another life by now.
func (t *Timeline) DeleteObjects(ctx context.Context) (n int, err error) {
	stone, err := t.Tombstone(ctx)
	if err != nil {
		return 0, fmt.Errorf("delete the objects of %s, which must have a tombstone first: %w", t.prefix, err)
	}
	if stone.KeepObjects {
		return 0, fmt.Errorf("delete the objects of %s: %w", t.prefix, ErrKept)
	}
	keys, err := t.keys(ctx, "")
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		if t.layout.parse(key).kind == tombstone {
			continue
		}
		if err := t.store.remove(ctx, t.prefix+key); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// keys lists the keys below a directory of this life.
func (t *Timeline) keys(ctx context.Context, dir string) ([]string, error) {
	var all []string
	err := t.store.list(ctx, t.prefix+dir, func(o object) bool {
		all = append(all, o.key[len(t.prefix):])
		return true
	})
	return all, err
}
