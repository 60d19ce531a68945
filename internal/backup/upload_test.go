package backup_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
)

// disk is a source of segments, of which some cannot be read.
type disk struct {
	bad  map[pg.SegNo]error
	hook func(pg.SegNo) // nil, or called when a segment is opened

	open, most atomic.Int32 // segments that are open, and the most that were
}

func (d *disk) source(_ pg.TLI, n pg.SegNo) (backup.SourceSegment, error) {
	if now := d.open.Add(1); now > d.most.Load() {
		d.most.Store(now)
	}
	if d.hook != nil {
		d.hook(n)
	}
	if err := d.bad[n]; err != nil {
		d.open.Add(-1)
		return nil, err
	}
	return &diskSegment{bytes.NewReader(segment(uint64(n))), d}, nil
}

type diskSegment struct {
	io.ReaderAt
	disk *disk
}

func (s *diskSegment) Close() error {
	s.disk.open.Add(-1)
	return nil
}

func run(ctx context.Context, tl *backup.Timeline, d *disk, r backup.Range) ([]pg.SegNo, error) {
	var told []pg.SegNo
	err := backup.NewUploader(tl, d.source).Run(ctx, r, func(n pg.SegNo) { told = append(told, n) })
	return told, err
}

func TestProgressIsInOrder(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		tl := newTimeline(t, p.node(t, backup.Config{Node: "a", Concurrency: 3}), backup.Zstd)
		d := &disk{}
		told, err := run(t.Context(), tl, d, backup.Range{TLI: 1, From: 5, To: 15})
		if want := []pg.SegNo{5, 6, 7, 8, 9, 10, 11, 12, 13, 14}; err != nil || !slices.Equal(told, want) {
			t.Errorf("told %v, %v", told, err)
		}
		if n := d.open.Load(); n != 0 {
			t.Errorf("%d segments are still open", n)
		}
		if n := d.most.Load(); n > 3 {
			t.Errorf("%d at once", n)
		}
		wantBackupLSN(t, tl, pg.History{TLI: 1}, 5<<20, 15<<20)
		if told, err := run(t.Context(), tl, d, backup.Range{TLI: 1, From: 15, To: 15}); err != nil || told != nil {
			t.Errorf("of nothing: %v, %v", told, err)
		}
	})
}

// TestErrorKeepsTheProgressBefore (U3), and nothing begins after it.
func TestErrorKeepsTheProgressBefore(t *testing.T) {
	errDisk := errors.New("bad sector")
	tl := newTimeline(t, memPlace(t).node(t, backup.Config{Node: "a", Concurrency: 4}), backup.Zstd)
	told, err := run(t.Context(), tl, &disk{bad: map[pg.SegNo]error{9: errDisk}}, backup.Range{TLI: 1, From: 5, To: 200})
	if !errors.Is(err, errDisk) || !slices.Equal(told, []pg.SegNo{5, 6, 7, 8}) {
		t.Errorf("told %v, %v", told, err)
	}
	l, err := tl.List(t.Context())
	if err != nil || len(l.Segments) > 40 {
		t.Errorf("%d segments were uploaded, %v", len(l.Segments), err)
	}
	told, err = run(t.Context(), tl, &disk{}, backup.Range{TLI: 1, From: 9, To: 12})
	if err != nil || !slices.Equal(told, []pg.SegNo{9, 10, 11}) {
		t.Errorf("the next run told %v, %v", told, err)
	}
}

// TestTwoNodesUploadTheSame (U4).
func TestTwoNodesUploadTheSame(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		var created, same atomic.Int32
		var wg sync.WaitGroup
		var first *backup.Timeline
		for _, node := range []string{"a", "b"} {
			s := p.node(t, backup.Config{Node: node, Events: backup.Events{UploadEnded: func(_ context.Context, u backup.UploadEnd) {
				if u.Created {
					created.Add(1)
				} else {
					same.Add(1)
				}
			}}})
			if first == nil {
				first = newTimeline(t, s, backup.Zstd)
			}
			tl := s.Timeline(first.Prefix()[:36], "main", first.Identity())
			wg.Go(func() {
				if told, err := run(t.Context(), tl, &disk{}, backup.Range{TLI: 1, From: 5, To: 15}); err != nil || len(told) != 10 {
					t.Errorf("told %v, %v", told, err)
				}
			})
		}
		wg.Wait()
		if created.Load() != 10 || same.Load() != 10 {
			t.Errorf("%d created, %d there already", created.Load(), same.Load())
		}
	})
}

// TestLimitIsTheNodes (U7): several timelines share it, each upload takes one place, and all get their turn.
func TestLimitIsTheNodes(t *testing.T) {
	s := memPlace(t).node(t, backup.Config{Node: "a", Concurrency: 2})
	d := &disk{}
	var wg sync.WaitGroup
	for range 5 {
		tl := newTimeline(t, s, backup.Zstd)
		wg.Go(func() {
			if told, err := run(t.Context(), tl, d, backup.Range{TLI: 1, From: 5, To: 9}); err != nil || len(told) != 4 {
				t.Errorf("told %v, %v", told, err)
			}
		})
	}
	wg.Wait()
	if d.most.Load() != 2 {
		t.Errorf("%d at once", d.most.Load())
	}
	if stats := s.Stats(); stats.Uploads != 0 || stats.UploadLimit != 2 || stats.Pending != 0 {
		t.Errorf("%+v", stats)
	}
}

// TestWaitForALimitEndsWithItsContext (G12).
func TestWaitForALimitEndsWithItsContext(t *testing.T) {
	s := memPlace(t).node(t, backup.Config{Node: "a", Concurrency: 1})
	inside, leave := make(chan struct{}), make(chan struct{})
	holder := &disk{hook: func(pg.SegNo) {
		close(inside)
		<-leave
	}}
	done := make(chan error)
	go func() {
		_, err := run(t.Context(), newTimeline(t, s, backup.Zstd), holder, backup.Range{TLI: 1, From: 5, To: 6})
		done <- err
	}()
	<-inside
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errCrash)
	if _, err := run(ctx, newTimeline(t, s, backup.Zstd), &disk{}, backup.Range{TLI: 1, From: 5, To: 9}); !errors.Is(err, errCrash) {
		t.Errorf("got %v", err)
	}
	close(leave)
	must(t, <-done)
}

// TestPanicIsAFailedUpload: it does not take the process with it.
func TestPanicIsAFailedUpload(t *testing.T) {
	s := memPlace(t).node(t, backup.Config{Node: "a"})
	tl := newTimeline(t, s, backup.Zstd)
	d := &disk{hook: func(n pg.SegNo) {
		if n == 6 {
			panic("a bug")
		}
	}}
	told, err := run(t.Context(), tl, d, backup.Range{TLI: 1, From: 5, To: 7})
	if err == nil || !slices.Equal(told, []pg.SegNo{5}) || s.Stats().Uploads != 0 {
		t.Errorf("told %v, %v", told, err)
	}
}
