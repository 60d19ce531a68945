package keeper

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDeletedTimelineIsNotBroughtBackByTheFile (O3), and is by an operator: as another life, of which nothing is old (D7).
func TestDeletedTimelineIsNotBroughtBackByTheFile(t *testing.T) {
	dir := objects(t)
	inFile := func(c *Config) { c.Timelines = []TimelineConfig{{ID: main1, Source: ""}} }
	k := newHome(t).start(t, with(dir), inFile)
	m := member(t, k, main1)
	w := source(start + 2*mib + 1000)
	receive(t, m, w, w.End())
	backedUp(t, m, start+2*mib, w.End())
	first := m.Control().Incarnation
	must(t, k.DeleteTimeline(t.Context(), main1, false))
	stop(t, k)
	if left := filesBelow(t, filepath.Join(dir, "acme", "main", string(first))); len(left) != 1 || left[0] != "deleted" {
		t.Errorf("left in object storage: %q", left)
	}

	k = newHome(t).start(t, with(dir), inFile)
	if _, err := k.Member(main1); !errors.Is(err, ErrNoTimeline) && !errors.Is(err, ErrNoTenant) {
		t.Fatalf("the file brought it back: %v", err)
	}
	m = create(t, k, main1)
	other := source(start + mib + 5000)
	receive(t, m, other, other.End())
	backedUp(t, m, start+mib, other.End())
	if again := m.Control().Incarnation; again == first {
		t.Errorf("the same life: %s", again)
	}
	if _, id := look(t, dir); id.Incarnation != string(m.Control().Incarnation) {
		t.Errorf("object storage has %s", id.Incarnation)
	}
}

// TestDeletionKeepsObjects, if that was asked for.
func TestDeletionKeepsObjects(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + mib + 1000)
	receive(t, m, w, w.End())
	backedUp(t, m, start+mib, w.End())
	life := string(m.Control().Incarnation)
	must(t, k.DeleteTimeline(t.Context(), main1, true))
	if left := filesBelow(t, filepath.Join(dir, "acme", "main", life)); len(left) < 3 {
		t.Errorf("left in object storage: %q", left)
	}
}

// TestDeletionOfObjectsGoesOnAfterACrash (D3, D6): object storage was away, and the node was killed.
func TestDeletionOfObjectsGoesOnAfterACrash(t *testing.T) {
	dir := objects(t)
	h := newHome(t)
	k := h.start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + mib + 1000)
	receive(t, m, w, w.End())
	backedUp(t, m, start+mib, w.End())
	life := string(m.Control().Incarnation)
	must(t, os.Rename(dir, dir+".away"))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := k.DeleteTimeline(ctx, main1, false); err == nil {
		t.Fatal("deleted, and nobody knows what object storage has")
	}
	if op := m.Operation(); op.Name != opDelete || op.Step != "objects" {
		t.Errorf("operation: %+v", op)
	}
	h.crash(k)
	must(t, os.Rename(dir+".away", dir))
	k = h.start(t, with(dir))
	waitUntil(t, 20*time.Second, "deleted", func() bool { _, err := k.Member(main1); return err != nil })
	if left := filesBelow(t, filepath.Join(dir, "acme", "main", life)); len(left) != 1 {
		t.Errorf("left in object storage: %q", left)
	}
}

// wantTombstonesOnly: of each life that began, its identity and its tombstone are there.
func wantTombstonesOnly(t *testing.T, dir string) {
	t.Helper()
	for _, f := range filesBelow(t, filepath.Join(dir, "acme", "main")) {
		if life, key := filepath.Split(f); life != "" && !strings.HasPrefix(key, "deleted") {
			t.Errorf("left in object storage: %s", f)
		}
	}
}

// TestDeletionThatWaitsForObjectStorageHoldsUpNoShutdown (D3): it says what it waits for, and the next start goes on.
func TestDeletionThatWaitsForObjectStorageHoldsUpNoShutdown(t *testing.T) {
	dir := objects(t)
	h := newHome(t)
	var log bytes.Buffer
	k := h.start(t, with(dir), func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	m := create(t, k, main1)
	w := source(start + mib + 1000)
	receive(t, m, w, w.End())
	backedUp(t, m, start+mib, w.End())
	must(t, os.Rename(dir, dir+".away"))
	deleted := make(chan error, 1)
	go func() { deleted <- k.DeleteTimeline(t.Context(), main1, false) }()
	waitUntil(t, 20*time.Second, "it waits for object storage", func() bool { return m.Operation().Step == "objects" })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	must(t, k.Shutdown(ctx))
	if err := <-deleted; err == nil {
		t.Error("deleted, and nobody knows what object storage has")
	}
	if !strings.Contains(log.String(), "objects of a deleted timeline could not be removed yet") {
		t.Errorf("logged: %s", &log)
	}
	must(t, os.Rename(dir+".away", dir))
	k = h.start(t, with(dir))
	waitUntil(t, 20*time.Second, "deleted", func() bool { _, err := k.Member(main1); return err != nil })
	wantTombstonesOnly(t, dir)
}

func filesBelow(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			all = append(all, rel)
		}
		return err
	})
	must(t, err)
	return all
}

func TestTrim(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + 4*mib + 1000)
	receive(t, m, w, w.End())
	backedUp(t, m, start+4*mib, w.End())
	for _, bad := range []string{"nonsense", "000000010000000000000009", "00000002.history"} {
		if _, err := k.Trim(t.Context(), main1, bad); !errors.Is(err, ErrBadSegment) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	res, err := k.Trim(t.Context(), main1, "000000010000000000000003.00000028.backup")
	must(t, err)
	if res.Segments != 2 || res.Bytes == 0 || res.Before != 3*mib {
		t.Errorf("trimmed: %+v", res)
	}
	store, id := look(t, dir)
	l, err := store.Timeline("acme", "main", id).List(t.Context())
	must(t, err)
	if len(l.Segments) != 2 || l.Segments[0].SegNo != 3 {
		t.Errorf("left: %+v", l.Segments)
	}
	if _, err := newHome(t).start(t).Trim(t.Context(), main1, "x"); !errors.Is(err, ErrNoTenant) {
		t.Error(err)
	}
}
