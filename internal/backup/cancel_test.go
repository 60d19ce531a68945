package backup_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
)

// cancelling is a segment whose upload is the last: its end cancels.
type cancelling struct {
	backup.SourceSegment
	cancel context.CancelFunc
}

func (c cancelling) Close() error {
	c.cancel()
	return c.SourceSegment.Close()
}

// TestUploadsLookAtTheContext (G15) before each segment, also where the library would not.
func TestUploadsLookAtTheContext(t *testing.T) {
	p := filePlace(t)
	for i := range 20 { // whoever only waits for a place or the end may get a place
		tl := newTimeline(t, p.node(t, backup.Config{Node: fmt.Sprintf("n%d", i), Concurrency: 1}), backup.Zstd)
		ctx, cancel := context.WithCancel(t.Context())
		d := &disk{}
		opened := 0
		open := func(tli pg.TLI, n pg.SegNo) (backup.SourceSegment, error) {
			opened++
			s, err := d.source(tli, n)
			return cancelling{s, cancel}, err
		}
		err := backup.NewUploader(tl, open).Run(ctx, backup.Range{TLI: 1, From: 1, To: 9}, nil)
		if !errors.Is(err, context.Canceled) || opened != 1 {
			t.Fatalf("%d segments were opened, %v", opened, err)
		}
	}
}

// TestDeletionOfObjectsLooksAtTheContext (G15) before each object: there may be a hundred thousand.
func TestDeletionOfObjectsLooksAtTheContext(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := p.node(t, backup.Config{Node: "a"})
		tl := newTimeline(t, s, backup.Zstd)
		for n := range pg.SegNo(4) {
			put(t, tl, 1, n+1)
		}
		bury(t, tl, false)
		before := objectsOf(t, tl)
		s.SetEvents(backup.Events{Operation: func(_ context.Context, o backup.Operation) {
			if o.Name == "delete" {
				cancel()
			}
		}})
		if n, err := tl.DeleteObjects(ctx); n != 1 || !errors.Is(err, context.Canceled) {
			t.Errorf("%d objects were removed, %v", n, err)
		}
		if left := objectsOf(t, tl); left != before-1 {
			t.Errorf("of %d objects %d are left", before, left)
		}
		must(t, ignoreCount(tl.DeleteObjects(t.Context())))
	})
}

func objectsOf(t *testing.T, tl *backup.Timeline) int {
	t.Helper()
	l, err := tl.List(t.Context())
	must(t, err)
	return len(l.Segments)
}

func ignoreCount(_ int, err error) error { return err }
