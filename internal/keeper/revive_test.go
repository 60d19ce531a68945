package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/timeline"
)

// ended is a timeline in object storage that was deleted by a node which is gone, with its objects kept.
func ended(t *testing.T, w *pgtest.Writer) (dir, incarnation string) {
	t.Helper()
	dir = objects(t)
	k := newHome(t).start(t, with(dir), onNode("first"))
	m := create(t, k, main1)
	receive(t, m, w, w.End())
	backedUp(t, m, seg.StartOf(w.End()), w.End())
	must(t, k.DeleteTimeline(t.Context(), main1, true))
	stop(t, k)
	return dir, string(m.Control().Incarnation)
}

func attach(k *Keeper, incarnation string) error {
	return k.AttachTimeline(context.Background(), main1, incarnation, "")
}

// TestDeletedTimelineGoesOn where its objects were kept, on another node with an empty disk: as the same life, with all that
// object storage has of it, seals included.
func TestDeletedTimelineGoesOn(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir), onNode("first"))
	m := create(t, k, main1)
	w := source(start + 2*mib + 20_000)
	receive(t, m, w, w.End())
	backedUp(t, m, start+2*mib, w.End())
	seal, err := k.Seal(t.Context(), main1, true)
	must(t, err)
	life := string(m.Control().Incarnation)
	must(t, k.DeleteTimeline(t.Context(), main1, true))

	k = newHome(t).start(t, with(dir), func(c *Config) { c.Timelines = []TimelineConfig{{ID: main1}} })
	if _, err := k.Member(main1); err == nil {
		t.Fatal("the configuration file brought it back")
	}
	must(t, attach(k, life))
	m = member(t, k, main1)
	if c := m.Control(); string(c.Incarnation) != life || c.Revived != 1 || c.SystemID != systemID || m.Held().Stored.LSN != start+2*mib {
		t.Errorf("it is %+v", c)
	}
	if s, sealed := m.Control().SealOf(1); !sealed || s.End != seal.End {
		t.Errorf("its seal is %+v, and was %+v", s, seal)
	}
	wantAll(t, k, dir, w, seal.End)
	if err := attach(k, life); !errors.Is(err, ErrExists) {
		t.Errorf("once more: %v", err)
	}
	if err := attach(k, "another"); !errors.Is(err, backup.ErrAlive) {
		t.Errorf("another life: %v", err)
	}
	other := newHome(t).start(t, with(dir), onNode("b"))
	must(t, attach(other, life)) // a second node finds it alive
	if c := member(t, other, main1).Control(); string(c.Incarnation) != life || c.Revived != 1 {
		t.Errorf("on the second node it is %+v", c)
	}

	must(t, k.DeleteTimeline(t.Context(), main1, false))
	wantTombstonesOnly(t, dir)
	if err := attach(k, life); !errors.Is(err, backup.ErrNotKept) {
		t.Errorf("without its objects: %v", err)
	}
}

// TestAttachSaysWhyNot, and leaves the name free.
func TestAttachSaysWhyNot(t *testing.T) {
	dir, life := ended(t, source(start+20_000))
	if err := attach(newHome(t).start(t), life); !errors.Is(err, ErrNoStore) {
		t.Errorf("without object storage: %v", err)
	}
	k := newHome(t).start(t, with(dir), onNode("b"))
	if err := attach(k, "another"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an incarnation that never was: %v", err)
	}
	setMode(t, k, timeline.ModeSecondary)
	if err := attach(k, life); !errors.Is(err, ErrSecondary) {
		t.Errorf("as a warm copy: %v", err)
	}
	setMode(t, k, timeline.ModeAttached)
	m := create(t, k, main1)
	receive(t, m, source(start+20_000), start+19_000)
	waitUntil(t, 20*time.Second, "another life has begun", func() bool { return m.Backup().Decided })
	elsewhere := newHome(t).start(t, with(dir), onNode("c"))
	if err := attach(elsewhere, life); !errors.Is(err, backup.ErrAlive) || !strings.Contains(err.Error(), string(m.Control().Incarnation)) {
		t.Errorf("beside another life: %v", err)
	}
	if left := filesBelow(t, filepath.Join(dir, "acme", "main", life)); len(left) < 2 {
		t.Errorf("left in object storage: %q", left)
	}
}

// TestRefusedCreationLeavesNoTenant that nobody asked for.
func TestRefusedCreationLeavesNoTenant(t *testing.T) {
	dir, life := ended(t, source(start+20_000))
	h := newHome(t)
	k := h.start(t, with(dir), onNode("b"))
	if err := attach(k, "another"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("an incarnation that never was: %v", err)
	}
	if all, dirs := k.Tenants(), h.entries(t, tenantsDir); len(all) != 0 || len(dirs) != 0 {
		t.Errorf("it left the tenants %q, and the directories %q", all, dirs)
	}
	_, err := k.CreateTenant(t.Context(), "acme")
	must(t, err)
	if err := attach(k, "another"); err == nil {
		t.Fatal("attached")
	}
	if _, err := k.Tenant("acme"); err != nil {
		t.Errorf("a tenant that was there: %v", err)
	}
	must(t, attach(k, life))
}

// TestRefusedCreationTakesNoTenantAway from a creation beside it.
func TestRefusedCreationTakesNoTenantAway(t *testing.T) {
	k := newHome(t).start(t)
	for round := range 100 {
		tenant := timeline.TenantID(fmt.Sprintf("t%d", round))
		refused := make(chan error, 1)
		go func() {
			refused <- k.AttachTimeline(context.Background(), timeline.ID{Tenant: tenant, Name: "refused"}, "another", "")
		}()
		id := timeline.ID{Tenant: tenant, Name: "main"}
		must(t, k.CreateTimeline(t.Context(), id, "", false))
		if err := <-refused; !errors.Is(err, ErrNoStore) {
			t.Errorf("round %d: %v", round, err)
		}
		if state(member(t, k, id)) != timeline.StateRunning {
			t.Errorf("round %d: it does not run", round)
		}
	}
}

// meets lets a node know a timeline as object storage has it.
func meets(t *testing.T, k *Keeper) *Member {
	t.Helper()
	m := create(t, k, main1)
	must(t, m.meet(t.Context()))
	return m
}

// TestDeletionFromBeforeARevivalRemovesNothing: a node was asked to delete a timeline with its objects, and was cut off before it
// said so in object storage. When it comes back, another has ended that life, and a third goes on with it.
func TestDeletionFromBeforeARevivalRemovesNothing(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + mib + 20_000)
	receive(t, m, w, w.End())
	backedUp(t, m, start+mib, w.End())
	life := string(m.Control().Incarnation)

	late := newHome(t)
	kLate := late.start(t, with(dir), onNode("late"))
	mLate := meets(t, kLate)
	must(t, os.Rename(dir, dir+".away"))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := kLate.DeleteTimeline(ctx, main1, false); err == nil || mLate.Operation().Step != "objects" {
		t.Fatalf("at %q: %v", mLate.Operation().Step, err)
	}
	late.crash(kLate)
	must(t, os.Rename(dir+".away", dir))

	must(t, k.DeleteTimeline(t.Context(), main1, true))
	third := newHome(t).start(t, with(dir), onNode("third"))
	must(t, attach(third, life))

	kLate = late.start(t, with(dir), onNode("late"))
	waitUntil(t, 20*time.Second, "the deletion goes on", func() bool { _, err := kLate.Member(main1); return err != nil })
	if _, id := look(t, dir); id.Incarnation != life || id.Revived != 1 {
		t.Errorf("object storage has %+v", id)
	}
	wantAll(t, third, dir, w, w.End())
}

// TestNodeThatMissedARevivalLearnsOfIt before it receives; then its deletion is of the life that goes on.
func TestNodeThatMissedARevivalLearnsOfIt(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + 20_000)
	receive(t, m, w, w.End())
	backedUp(t, m, start, w.End())
	life := string(m.Control().Incarnation)
	other := newHome(t).start(t, with(dir), onNode("b"))
	mOther := meets(t, other)
	must(t, k.DeleteTimeline(t.Context(), main1, true))
	must(t, attach(k, life))
	must(t, mOther.refresh(t.Context()))
	if c := mOther.Control(); c.Revived != 1 {
		t.Fatalf("it is %+v", c)
	}
	must(t, other.DeleteTimeline(t.Context(), main1, false))
	wantTombstonesOnly(t, dir)
}

// TestSealThatOnlyTheNodeKnowsOutlivesItsDeletion: object storage was away when it was decided.
func TestSealThatOnlyTheNodeKnowsOutlivesItsDeletion(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + 20_000)
	receive(t, m, w, w.End())
	backedUp(t, m, start, w.End())
	must(t, os.Rename(dir, dir+".away"))
	sealed, err := k.Seal(t.Context(), main1, true)
	must(t, err)
	if s, _ := m.Control().SealOf(1); !s.Undelivered {
		t.Fatalf("object storage knows of %+v", s)
	}
	deleted := make(chan error, 1)
	go func() { deleted <- k.DeleteTimeline(context.Background(), main1, true) }()
	waitUntil(t, 20*time.Second, "it waits for object storage", func() bool { return m.Operation().Step == "objects" })
	must(t, os.Rename(dir+".away", dir))
	must(t, <-deleted)
	must(t, attach(k, string(m.Control().Incarnation)))
	if s, ok := member(t, k, main1).Control().SealOf(1); !ok || s.End != sealed.End {
		t.Errorf("its seal is %+v, and was %+v", s, sealed)
	}
}

// lifeOf is the newest life in object storage, whether it has ended or not.
func lifeOf(ctx context.Context, k *Keeper) string {
	id, _ := k.Store().Find(ctx, "acme", "main")
	return id.Incarnation
}

// TestAttachOfADeletedTimelineGoesOnAfterACrash at any operation of the disk or of object storage.
func TestAttachOfADeletedTimelineGoesOnAfterACrash(t *testing.T) {
	w := source(start + 20_000)
	prepare := func(t *testing.T, s *crashSite) {
		m := create(t, s.k, main1)
		receive(t, m, w, w.End())
		backedUp(t, m, start, w.End())
		must(t, s.k.DeleteTimeline(t.Context(), main1, true))
	}
	try := func(ctx context.Context, k *Keeper) error { return k.AttachTimeline(ctx, main1, lifeOf(ctx, k), "") }
	eachCrash(t, prepare, try, func(t *testing.T, s *crashSite) {
		life := lifeOf(t.Context(), s.k)
		if err := attach(s.k, life); err != nil && !errors.Is(err, ErrExists) {
			t.Error(err)
		}
		if c := member(t, s.k, main1).Control(); string(c.Incarnation) != life || c.Revived != 1 {
			t.Errorf("it is %+v", c)
		}
		if left := s.timelines(t); len(left) != 1 {
			t.Errorf("there are %q", left)
		}
		all := filesBelow(t, filepath.Join(s.dir, "acme", "main"))
		if !slices.Contains(all, "timeline.2.json") || slices.Contains(all, "timeline.3.json") {
			t.Errorf("in object storage: %q", all)
		}
		if partials, err := s.k.Store().Timeline("acme", "main", backup.Identity{
			Incarnation: life, SegmentSize: seg, Compression: backup.Zstd,
		}).Partials(t.Context()); err != nil || len(partials) != 1 || partials[0].End != w.End() {
			t.Errorf("its WAL is %+v, %v", partials, err)
		}
	})
}

// TestDeletionOfARevivedTimelineGoesOnAfterACrash: it ends this life, and not the one before once more.
func TestDeletionOfARevivedTimelineGoesOnAfterACrash(t *testing.T) {
	w := source(start + 20_000)
	prepare := func(t *testing.T, s *crashSite) {
		m := create(t, s.k, main1)
		receive(t, m, w, w.End())
		backedUp(t, m, start, w.End())
		must(t, s.k.DeleteTimeline(t.Context(), main1, true))
		must(t, attach(s.k, string(m.Control().Incarnation)))
	}
	try := func(ctx context.Context, k *Keeper) error { return k.DeleteTimeline(ctx, main1, false) }
	eachCrash(t, prepare, try, func(t *testing.T, s *crashSite) {
		if err := try(t.Context(), s.k); err != nil && !errors.Is(err, ErrNoTimeline) {
			t.Error(err)
		}
		if left := s.timelines(t); len(left) != 0 {
			t.Errorf("%q are left", left)
		}
		all := filesBelow(t, filepath.Join(s.dir, "acme", "main"))
		if len(all) != 4 || !strings.HasSuffix(all[0], "/deleted") || !strings.HasSuffix(all[1], "/deleted.1") {
			t.Errorf("left in object storage: %q", all)
		}
	})
}
