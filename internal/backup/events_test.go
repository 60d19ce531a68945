package backup_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/sluicewal/sluice/internal/backup"
)

// uploadKey marks the context of an upload.
type uploadKey struct{}

// told is what the events of a store said; every event but the starts says whether its context is an upload's.
type told struct {
	starts     []backup.UploadStart
	ends       []backup.UploadEnd
	conflicts  int
	damaged    int
	operations map[string]int // within an upload
	strangers  int            // ends and conflicts outside of any upload
}

func listen(s *backup.Store) *told {
	d := &told{operations: map[string]int{}}
	within := func(ctx context.Context) bool { return ctx.Value(uploadKey{}) != nil }
	expect := func(ctx context.Context) {
		if !within(ctx) {
			d.strangers++
		}
	}
	s.SetEvents(backup.Events{
		UploadStarted: func(ctx context.Context, start backup.UploadStart) context.Context {
			d.starts = append(d.starts, start)
			return context.WithValue(ctx, uploadKey{}, start)
		},
		UploadEnded: func(ctx context.Context, end backup.UploadEnd) {
			d.ends = append(d.ends, end)
			expect(ctx)
		},
		Conflict: func(ctx context.Context, _ *backup.ConflictError) {
			d.conflicts++
			expect(ctx)
		},
		Damaged: func(context.Context, *backup.DamagedError) { d.damaged++ },
		Operation: func(ctx context.Context, o backup.Operation) {
			if within(ctx) {
				d.operations[o.Name]++
			}
		},
	})
	return d
}

// TestEachUploadIsToldFromStartToEnd: what is done for it, and how it ends, is told with the context of its start.
func TestEachUploadIsToldFromStartToEnd(t *testing.T) {
	s := memPlace(t).node(t, backup.Config{Node: "a"})
	tl := newTimeline(t, s, backup.Zstd)
	d := listen(s)
	put(t, tl, 1, 7)
	if d.operations["put"] != 1 || d.operations["head"] == 0 {
		t.Errorf("operations with the upload's context: %v", d.operations)
	}
	put(t, tl, 1, 7)
	_, err := tl.PutPartial(t.Context(), 1, 8, 8<<20+100, source(segment(8)))
	must(t, err)
	_, conflict := tl.PutSegment(t.Context(), 1, 7, source(segment(8)))
	_, short := tl.PutSegment(t.Context(), 1, 9, source(nil))
	for i, want := range []struct {
		start   backup.UploadStart
		created bool
		err     error
	}{
		{backup.UploadStart{TLI: 1, SegNo: 7, Raw: int64(mib)}, true, nil},
		{backup.UploadStart{TLI: 1, SegNo: 7, Raw: int64(mib)}, false, nil},
		{backup.UploadStart{TLI: 1, SegNo: 8, Raw: 100, Partial: true}, true, nil},
		{backup.UploadStart{TLI: 1, SegNo: 7, Raw: int64(mib)}, false, conflict},
		{backup.UploadStart{TLI: 1, SegNo: 9, Raw: int64(mib)}, false, short},
	} {
		start, end := d.starts[i], d.ends[i]
		if start != want.start || end.Created != want.created || !errors.Is(end.Err, want.err) || (end.Err == nil) != (want.err == nil) {
			t.Errorf("upload %d: %+v, %+v", i, start, end)
		}
		if end.TLI != start.TLI || end.SegNo != start.SegNo || end.Partial != start.Partial || end.Raw != start.Raw {
			t.Errorf("the end of upload %d is another's: %+v", i, end)
		}
	}
	if len(d.starts) != 5 || len(d.ends) != 5 || d.conflicts != 1 || d.strangers != 0 {
		t.Errorf("%d starts, %d ends, %d conflicts, %d outside of an upload", len(d.starts), len(d.ends), d.conflicts, d.strangers)
	}
	if conflict == nil || short == nil {
		t.Error("an upload that had to fail did not")
	}
}

// TestDamageIsToldOnce: somebody may ask for the same object every few seconds.
func TestDamageIsToldOnce(t *testing.T) {
	s := memPlace(t).node(t, backup.Config{Node: "a"})
	tl := newTimeline(t, s, backup.Zstd)
	put(t, tl, 1, 7)
	d := listen(s)
	key := tl.SegmentKey(1, 7)
	good, err := s.ReadAll(t.Context(), key)
	must(t, err)
	for want := 1; want <= 2; want++ {
		must(t, s.Put(t.Context(), key, flip(good, len(good)-1)))
		for range 3 {
			_, err := tl.OpenSegment(t.Context(), 1, 7)
			wantDamaged(t, err)
		}
		if d.damaged != want {
			t.Errorf("told %d times, want %d", d.damaged, want)
		}
		must(t, s.Put(t.Context(), key, good))
		content(t, tl, 1, 7) // put right
	}
}

// TestOutcomesAreListed: telemetry makes its series from the lists.
func TestOutcomesAreListed(t *testing.T) {
	s := memPlace(t).node(t, backup.Config{Node: "a"})
	tl := newTimeline(t, s, backup.Zstd)
	var unlisted []backup.Operation
	seen := map[string]bool{}
	s.SetEvents(backup.Events{Operation: func(_ context.Context, o backup.Operation) {
		seen[o.Name] = true
		if !slices.Contains(backup.OperationNames(), o.Name) || !slices.Contains(backup.Outcomes(), o.Outcome) {
			unlisted = append(unlisted, o)
		}
	}})
	put(t, tl, 1, 7)
	content(t, tl, 1, 7)
	_, err := tl.OpenSegment(t.Context(), 1, 8)
	wantNotExist(t, err)
	_, _, err = tl.Trim(t.Context(), 8)
	must(t, err)
	if len(unlisted) != 0 || len(seen) != len(backup.OperationNames()) {
		t.Errorf("not listed: %v; seen: %v", unlisted, seen)
	}
}
