package keeper

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// crashSite is a node with object storage that ends at one of its operations: of the disk, or of object storage. What was to come
// after does not happen.
type crashSite struct {
	*home
	dir   string
	k     *Keeper
	store atomic.Int64 // how many operations of object storage are left; below zero: any number
}

func newCrashSite(t *testing.T) *crashSite {
	s := &crashSite{home: newHome(t), dir: objects(t)}
	s.store.Store(-1)
	s.k = s.start(t, following(s.dir), func(c *Config) {
		c.Store.Backup.Events.Operation = func(context.Context, backup.Operation) {
			if s.store.Load() > 0 && s.store.Add(-1) == 0 {
				s.disk().Inject(func(crashfs.Op) error { return crashfs.ErrCrashed })
				s.k.stop(errTest) // which whatever is under way listens to
			}
		}
	})
	return s
}

// run tries something that ends at the n-th operation of one kind from now on, and reports whether it did.
func (s *crashSite) run(t *testing.T, kind string, n int, try func(context.Context, *Keeper) error) (crashed bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if kind == "store" {
		s.store.Store(int64(n))
	} else {
		fail := crashfs.FailNth(s.disk().Ops()+n, crashfs.ErrCrashed)
		s.disk().Inject(func(op crashfs.Op) error {
			err := fail(op)
			if err != nil {
				s.k.stop(errTest)
				cancel() // nobody waits for a machine that is gone
			}
			return err
		})
	}
	err := try(ctx, s.k)
	s.store.Store(-1)
	s.crash(s.k)
	s.k = s.start(t, following(s.dir))
	return err != nil
}

// eachCrash ends what is tried at each operation, until it needs no more of them.
func eachCrash(t *testing.T, prepare func(*testing.T, *crashSite), try func(context.Context, *Keeper) error, then func(*testing.T, *crashSite)) {
	t.Helper()
	for _, kind := range []string{"disk", "store"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			crashes := 0
			for n, more := 1, true; more; n++ {
				t.Run(fmt.Sprint(n), func(t *testing.T) {
					s := newCrashSite(t)
					prepare(t, s)
					if more = s.run(t, kind, n, try); more {
						crashes++
					}
					then(t, s)
				})
			}
			if kind == "disk" && crashes < 5 {
				t.Errorf("%d tries were cut off", crashes)
			}
		})
	}
}

// TestChangeOfModeGoesOnAfterACrash (D6): the tenant is in one mode or the other, can go over to any, and no byte is lost.
func TestChangeOfModeGoesOnAfterACrash(t *testing.T) {
	w := source(start + 20_000) // little, because there are hundreds of crashes
	for _, c := range []struct{ from, to timeline.Mode }{
		{timeline.ModeAttached, timeline.ModeDetached}, {timeline.ModeAttached, timeline.ModeSecondary},
		{timeline.ModeSecondary, timeline.ModeAttached}, {timeline.ModeSecondary, timeline.ModeDetached},
		{timeline.ModeDetached, timeline.ModeAttached}, {timeline.ModeDetached, timeline.ModeSecondary},
	} {
		t.Run(string(c.from+"-"+c.to), func(t *testing.T) {
			prepare := func(t *testing.T, s *crashSite) {
				receive(t, create(t, s.k, main1), w, w.End())
				setMode(t, s.k, c.from)
			}
			try := func(ctx context.Context, k *Keeper) error { return k.SetMode(ctx, "acme", c.to, false) }
			eachCrash(t, prepare, try, func(t *testing.T, s *crashSite) {
				setMode(t, s.k, c.to)
				if info, err := s.k.Tenant("acme"); err != nil || info.Mode != c.to || info.Next != "" {
					t.Errorf("the tenant is %+v, %v", info, err)
				}
				setMode(t, s.k, timeline.ModeAttached)
				at := goOn(t, member(t, s.k, main1), w, w.End())
				wantAll(t, s.k, s.dir, w, at)
			})
		})
	}
}

// TestAttachFromObjectStorageGoesOnAfterACrash: of a tenant that the node did not know.
func TestAttachFromObjectStorageGoesOnAfterACrash(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir), onNode("first"))
	w := source(start + mib + 20_000)
	m := create(t, k, main1)
	receive(t, m, w, w.End())
	life := m.Control().Incarnation
	setMode(t, k, timeline.ModeDetached)
	try := func(ctx context.Context, k *Keeper) error {
		return k.SetMode(ctx, "acme", timeline.ModeAttached, false)
	}
	for n, more := 1, true; more; n++ {
		s := &crashSite{home: newHome(t), dir: dir}
		s.k = s.start(t, following(dir))
		more = s.run(t, "disk", n, try)
		setMode(t, s.k, timeline.ModeAttached)
		m := member(t, s.k, main1)
		if c := m.Control(); c.Incarnation != life || m.Held().Stored.LSN != start+mib {
			t.Errorf("%d: it is %+v", n, c)
		}
		if left := s.timelines(t); len(left) != 1 {
			t.Errorf("%d: there are %q", n, left)
		}
		wantAll(t, s.k, dir, w, w.End())
		stop(t, s.k)
	}
}

// TestDeletionWithObjectsGoesOnAfterACrash (D6): once the wish is durable, all of it goes but the tombstone.
func TestDeletionWithObjectsGoesOnAfterACrash(t *testing.T) {
	w := source(start + mib + 20_000)
	prepare := func(t *testing.T, s *crashSite) {
		m := create(t, s.k, main1)
		receive(t, m, w, w.End())
		backedUp(t, m, start+mib, w.End())
	}
	try := func(ctx context.Context, k *Keeper) error { return k.DeleteTimeline(ctx, main1, false) }
	eachCrash(t, prepare, try, func(t *testing.T, s *crashSite) {
		if err := try(t.Context(), s.k); err != nil && !errors.Is(err, ErrNoTimeline) {
			t.Error(err)
		}
		if left := s.timelines(t); len(left) != 0 {
			t.Errorf("%q are left", left)
		}
		wantTombstonesOnly(t, s.dir)
	})
}
