package backup_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/explore"
)

// begin begins a life, with one segment.
func begin(t *testing.T, s *backup.Store, tenant string) (backup.Identity, *backup.Timeline) {
	t.Helper()
	id, err := s.Adopt(t.Context(), tenant, "main", identity(backup.Zstd), true)
	must(t, err)
	tl := s.Timeline(tenant, "main", id)
	put(t, tl, 1, 1)
	return id, tl
}

// TestRevivedLifeHasItsObjects, each time; and ends by a tombstone of its own.
func TestRevivedLifeHasItsObjects(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		s, tenant := p.node(t, backup.Config{Node: "a"}), uuid.NewString()
		first, tl := begin(t, s, tenant)
		for revived := range 3 {
			bury(t, tl, true)
			if _, err := tl.DeleteObjects(t.Context()); !errors.Is(err, backup.ErrKept) {
				t.Errorf("its objects were to be kept: %v", err)
			}
			if _, err := s.Find(t.Context(), tenant, "main"); !errors.Is(err, backup.ErrDeleted) {
				t.Errorf("it lives: %v", err)
			}
			for range 2 { // asking again finds it alive
				id, err := s.Revive(t.Context(), tenant, "main", first.Incarnation)
				must(t, err)
				if id.Incarnation != first.Incarnation || id.Revived != revived+1 || id.SystemID != first.SystemID || id.Compression != first.Compression {
					t.Fatalf("revived as %+v", id)
				}
				found, err := s.Find(t.Context(), tenant, "main")
				must(t, err)
				if found != id {
					t.Errorf("found %+v, revived %+v", found, id)
				}
				tl = s.Timeline(tenant, "main", id)
			}
			l, err := tl.List(t.Context())
			must(t, err)
			if len(l.Segments) != 1 || len(l.Quarantined) != 0 {
				t.Errorf("it has %+v", l)
			}
		}
		bury(t, tl, false)
		if n, err := tl.DeleteObjects(t.Context()); err != nil || n != 1 {
			t.Errorf("deleted %d objects, %v", n, err)
		}
		if keys, err := tl.Keys(t.Context(), ""); err != nil || !slices.Equal(keys, []string{"deleted", "deleted.1", "deleted.2", "deleted.3"}) {
			t.Errorf("left are %v, %v", keys, err)
		}
		if _, err := s.Revive(t.Context(), tenant, "main", first.Incarnation); !errors.Is(err, backup.ErrNotKept) {
			t.Errorf("revived without its objects: %v", err)
		}
	})
}

// TestOnlyWhatHasEndedIsRevived, and only where nobody else has the name.
func TestOnlyWhatHasEndedIsRevived(t *testing.T) {
	s, tenant := memPlace(t).node(t, backup.Config{Node: "a"}), uuid.NewString()
	_, err := s.Revive(t.Context(), tenant, "main", "x")
	wantNotExist(t, err)
	first, tl := begin(t, s, tenant)
	if id, err := s.Revive(t.Context(), tenant, "main", first.Incarnation); err != nil || id != first {
		t.Errorf("what lives is %+v, %v", id, err)
	}
	bury(t, tl, true)
	_, err = s.Revive(t.Context(), tenant, "main", "x")
	wantNotExist(t, err)
	second, tl := begin(t, s, tenant)
	if _, err := s.Revive(t.Context(), tenant, "main", first.Incarnation); !errors.Is(err, backup.ErrAlive) {
		t.Errorf("two lives at once: %v", err)
	}
	bury(t, tl, false)
	id, err := s.Revive(t.Context(), tenant, "main", first.Incarnation)
	must(t, err)
	if id.Revived != 1 {
		t.Errorf("revived as %+v", id)
	}
	if _, err := s.Revive(t.Context(), tenant, "main", second.Incarnation); !errors.Is(err, backup.ErrAlive) {
		t.Errorf("two lives at once: %v", err)
	}
}

// interruptions bounds the orders below. With 2 there are 660 of them, in a few seconds:
//
//	go test ./internal/backup -run TestNothingRevived -revive.interruptions=2 -v
var interruptions = flag.Int("revive.interruptions", 1, "how often a node is interrupted in the model of a revival")

// TestNothingRevivedIsRemoved: two nodes delete a timeline at once, one with its objects and one without, and somebody brings it
// back, in every order of their requests to the store that has at most so many interruptions.
func TestNothingRevivedIsRemoved(t *testing.T) {
	orders, err := explore.Orders(*interruptions, deletionsAndRevival(t, func(ctx context.Context, _ *backup.Store, tl *backup.Timeline) {
		if kept, err := tl.Bury(ctx, false); err != nil || kept {
			return
		}
		_, _ = tl.DeleteObjects(ctx)
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d orders", orders)
}

// TestModelFindsRemovalByAnOwnWord shows that the model could find what it looks for.
func TestModelFindsRemovalByAnOwnWord(t *testing.T) {
	orders, err := explore.Orders(*interruptions, deletionsAndRevival(t, func(ctx context.Context, s *backup.Store, tl *backup.Timeline) {
		_, _ = tl.Bury(ctx, false)
		keys, _ := tl.Keys(ctx, "seal/")
		for _, key := range keys {
			_ = s.Remove(ctx, tl.Prefix()+key)
		}
	}))
	if err == nil {
		t.Fatalf("not found in %d orders", orders)
	}
	t.Logf("order %d: %v", orders, err)
}

func deletionsAndRevival(t *testing.T, remove func(context.Context, *backup.Store, *backup.Timeline)) func(*explore.Order) func() error {
	p, tenants := memPlace(t), 0
	return func(o *explore.Order) func() error {
		tenants++
		tenant := fmt.Sprintf("t%d", tenants)
		step := func(context.Context, backup.Operation) { o.Step(nil) }
		node := func() *backup.Store { return p.node(t, backup.Config{Events: backup.Events{Operation: step}}) }
		id, err := node().Adopt(t.Context(), tenant, "main", identity(backup.Zstd), false)
		must(t, err)
		tl := node().Timeline(tenant, "main", id)
		_, err = tl.DecideSeal(t.Context(), backup.Seal{TLI: 1, End: 1}) // an object
		must(t, err)
		var revived backup.Identity
		o.Go("removes", func() { remove(t.Context(), node(), node().Timeline(tenant, "main", id)) })
		o.Go("keeps", func() { _, _ = node().Timeline(tenant, "main", id).Bury(t.Context(), true) })
		o.Go("revives", func() { revived, _ = node().Revive(t.Context(), tenant, "main", id.Incarnation) })
		return func() error {
			found, err := node().Find(t.Context(), tenant, "main")
			seals, listed := tl.Seals(t.Context())
			switch {
			case listed != nil:
				return listed
			case revived.Revived == 0:
				if !errors.Is(err, backup.ErrDeleted) {
					return fmt.Errorf("deleted, and found is %+v, %w", found, err)
				}
			case err != nil || found != revived:
				return fmt.Errorf("revived is %+v, and found %+v, %w", revived, found, err)
			case len(seals) != 1:
				return errors.New("what was revived has lost its objects")
			}
			return nil
		}
	}
}

// TestDamagedTombstoneRemovesNothing: whether its objects were to be kept is not known.
func TestDamagedTombstoneRemovesNothing(t *testing.T) {
	s, tenant := memPlace(t).node(t, backup.Config{Node: "a"}), uuid.NewString()
	id, tl := begin(t, s, tenant)
	must(t, s.Put(t.Context(), tl.Prefix()+"deleted", []byte("x")))
	_, err := tl.Bury(t.Context(), false)
	wantDamaged(t, err)
	_, err = tl.DeleteObjects(t.Context())
	wantDamaged(t, err)
	_, err = s.Revive(t.Context(), tenant, "main", id.Incarnation)
	wantDamaged(t, err)
	if errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
