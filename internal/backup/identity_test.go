package backup_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/sluicewal/sluice/internal/backup"
)

// TestNodesAtOnceGetOneIncarnation (O1).
func TestNodesAtOnceGetOneIncarnation(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		var nodes []*backup.Store
		for i := range 4 {
			nodes = append(nodes, p.node(t, backup.Config{Node: fmt.Sprintf("n%d", i)}))
		}
		for range 10 {
			tenant := uuid.NewString()
			got := make([]backup.Identity, len(nodes))
			var wg sync.WaitGroup
			for i, n := range nodes {
				wg.Go(func() {
					var err error
					if got[i], err = n.Adopt(t.Context(), tenant, "main", identity(backup.Zstd), false); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			for _, id := range got {
				if id.Incarnation == "" || id != got[0] {
					t.Fatalf("%+v and %+v", got[0], id)
				}
			}
		}
	})
}

// TestWhoComesSecondAdopts: also the compression that the first one chose.
func TestWhoComesSecondAdopts(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		a, b, tenant := p.node(t, backup.Config{Node: "a"}), p.node(t, backup.Config{Node: "b"}), uuid.NewString()
		_, err := b.Find(t.Context(), tenant, "main")
		wantNotExist(t, err)
		want, err := a.Adopt(t.Context(), tenant, "main", identity(backup.LZ4), false)
		must(t, err)
		got, err := b.Adopt(t.Context(), tenant, "main", identity(backup.Zstd), false)
		must(t, err)
		found, err := b.Find(t.Context(), tenant, "main")
		must(t, err)
		if got != want || found != want || got.Compression != backup.LZ4 || got.CreatedBy != "a" {
			t.Errorf("adopted %+v, found %+v, want %+v", got, found, want)
		}
		_, err = b.Find(t.Context(), tenant, "other")
		wantNotExist(t, err)
	})
}

func TestOtherClusterIsRefused(t *testing.T) {
	s, tenant := memPlace(t).node(t, backup.Config{Node: "a"}), uuid.NewString()
	_, err := s.Adopt(t.Context(), tenant, "main", identity(backup.Zstd), false)
	must(t, err)
	for name, change := range map[string]func(*backup.Identity){
		"system identifier": func(id *backup.Identity) { id.SystemID++ },
		"segment size":      func(id *backup.Identity) { id.SegmentSize *= 2 },
	} {
		proposal := identity(backup.Zstd)
		change(&proposal)
		_, err := s.Adopt(t.Context(), tenant, "main", proposal, false)
		var other *backup.OtherClusterError
		if !errors.As(err, &other) || other.Theirs.SystemID != systemID {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if _, err := s.Adopt(t.Context(), tenant, "next", backup.Identity{Incarnation: "x"}, false); err == nil {
		t.Error("a proposal that says nothing was taken")
	}
}

// TestTombstoneWins (O3): what was deleted comes back only as another life.
func TestTombstoneWins(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		s, tenant := p.node(t, backup.Config{Node: "a"}), uuid.NewString()
		var lives []backup.Identity
		for life := range 3 {
			id, err := s.Adopt(t.Context(), tenant, "main", identity(backup.Zstd), life > 0)
			must(t, err)
			lives = append(lives, id)
			tl := s.Timeline(tenant, "main", id)
			put(t, tl, 1, 1)
			if _, err := tl.DeleteObjects(t.Context()); err == nil {
				t.Error("objects were deleted without a tombstone")
			}
			bury(t, tl, false)
			bury(t, tl, false)
			if n, err := tl.DeleteObjects(t.Context()); err != nil || n != 1 {
				t.Errorf("deleted %d objects, %v", n, err)
			}
			if keys, err := tl.Keys(t.Context(), ""); err != nil || len(keys) != 1 {
				t.Errorf("left are %v, %v", keys, err)
			}
			if _, err := s.Adopt(t.Context(), tenant, "main", identity(backup.Zstd), false); !errors.Is(err, backup.ErrDeleted) {
				t.Errorf("a configuration file brought it back: %v", err)
			}
			if got, err := s.Find(t.Context(), tenant, "main"); !errors.Is(err, backup.ErrDeleted) || got != id {
				t.Errorf("found %+v, %v", got, err)
			}
			if _, err := s.Adopt(t.Context(), tenant, "main", id, true); !errors.Is(err, backup.ErrDeleted) {
				t.Errorf("the same incarnation began again: %v", err)
			}
		}
		if lives[0].Incarnation == lives[1].Incarnation || lives[1].Incarnation == lives[2].Incarnation {
			t.Errorf("lives %+v", lives)
		}
		for _, key := range []string{"/main/timeline.json", "/main/timeline.2.json", "/main/timeline.3.json"} {
			if _, err := s.ReadAll(t.Context(), tenant+key); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestDamagedIdentityIsNoNewLife: a node that cannot read it must not begin one.
func TestDamagedIdentityIsNoNewLife(t *testing.T) {
	s, tenant := memPlace(t).node(t, backup.Config{Node: "a"}), uuid.NewString()
	for _, text := range []string{"", "{}", "null", `{"incarnation":"x","system_identifier":"1","segment_size":3,"compression":"zstd"}`} {
		must(t, s.Put(t.Context(), tenant+"/main/timeline.json", []byte(text)))
		_, err := s.Adopt(t.Context(), tenant, "main", identity(backup.Zstd), true)
		wantDamaged(t, err)
	}
}
