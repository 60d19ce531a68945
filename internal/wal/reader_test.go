package wal_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

func openSegment(t *testing.T, l *wal.Log, n pg.SegNo) *wal.SegmentReader {
	t.Helper()
	r, err := l.OpenSegment(1, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() }) // closed twice is fine
	return r
}

func TestReaderSeesWhatIsDurableAndNoMore(t *testing.T) {
	w := source(1000, start+mib+mib/2)
	l := newLog(t, crashfs.New())
	appendAll(t, l, w, start, start+100_000)
	r := openSegment(t, l, 1)
	if n, err := r.ReadAt(make([]byte, 10), 0); n != 0 || !errors.Is(err, io.EOF) || r.Durable() != start {
		t.Errorf("before a sync: %d bytes, %v, durable %s", n, err, r.Durable())
	}
	mustSync(t, l)
	b := make([]byte, 1000)
	if n, err := r.ReadAt(b, 99_500); n != 500 || !errors.Is(err, io.EOF) || !bytes.Equal(b[:n], slice(w, start+99_500, start+100_000)) {
		t.Errorf("at the end: %d bytes, %v", n, err)
	}
	// The reader goes on while the segment becomes whole, and gets another name.
	appendAll(t, l, w, start+100_000, w.End())
	mustSync(t, l)
	all, err := io.ReadAll(io.NewSectionReader(r, 0, mib))
	if err != nil || !bytes.Equal(all, slice(w, start, start+mib)) || r.Durable() != start+mib {
		t.Errorf("%d bytes, %v, durable %s", len(all), err, r.Durable())
	}
	if _, err := l.OpenSegment(1, 9); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a segment that is not there: %v", err)
	}
}

func TestShortSegmentIsNotReadAsAWholeOne(t *testing.T) {
	w := source(1000, start+3*mib)
	l, disk := filledLog(t, w, w.End())
	overwrite(t, disk, first, slice(w, start, start+5000))
	r := openSegment(t, l, 1)
	if n, err := r.ReadAt(make([]byte, mib), 0); n != 5000 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestRemove(t *testing.T) {
	w := source(1000, start+4*mib+mib/2)
	l, disk := filledLog(t, w, w.End())
	r := openSegment(t, l, 2)
	n, size, err := l.Remove(t.Context(), start+2*mib+5)
	if n != 1 || size != mib || err != nil {
		t.Fatalf("removed %d segments, %d bytes, %v", n, size, err)
	}
	want := []string{"000000010000000000000002", "000000010000000000000003", "000000010000000000000004", "000000010000000000000005.partial"}
	if got := names(t, disk, dir); !slices.Equal(slices.DeleteFunc(got, isSpare), want) {
		t.Errorf("files %q; the one that is read stays, and so does the one that holds the LSN", got)
	}
	if got := l.BytesAbove(0, start+2*mib, start+2*mib-1, w.End()+mib); !slices.Equal(got, []int64{4 * mib, 3 * mib, 4 * mib, 0}) {
		t.Errorf("above these positions are %d bytes; a segment that ends at one is not above it", got)
	}
	if _, err := l.OpenSegment(1, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open what was removed: %v", err)
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	// However high the LSN, the next start finds what it needs.
	if n, _, err := l.Remove(t.Context(), pg.LSN(1<<60)); n != 2 || err != nil {
		t.Errorf("removed %d segments, %v", n, err)
	}
	if n, _, err := l.Remove(t.Context(), pg.LSN(1<<60)); n != 0 || err != nil {
		t.Errorf("removed %d segments, %v", n, err)
	}
	if s := l.Stats(); s.RemovedSegments != 3 || s.Segments != 2 || s.LocalBytes != 2*mib {
		t.Errorf("%+v", s)
	}
	l = openLog(t, disk.Restart(crashfs.Survivors{}), vouched(l))
	if got := l.Flushed(); got != position(1, w.End()) {
		t.Errorf("flushed %s after a restart", got)
	}
	if got := l.Segments(); len(got) != 2 || got[0].SegNo != 4 || got[0].Partial || !got[1].Partial {
		t.Errorf("segments %+v", got)
	}
}

func isSpare(name string) bool { return name == "next.tmp" }

func TestRemoveKeepsTheBeginningOfTheLastRecord(t *testing.T) {
	w := newSource()
	recordsTo(w, 1000, start+mib+mib/2)
	w.Record(3 * mib)
	l, disk := filledLog(t, w, w.End()-8192)
	if n, _, err := l.Remove(t.Context(), pg.LSN(1<<60)); n != 0 || err != nil {
		t.Errorf("removed %d segments, %v", n, err)
	}
	l = openLog(t, disk.Restart(crashfs.Survivors{}), vouched(l))
	appendAll(t, l, w, l.Rewind(), w.End())
	mustSync(t, l)
	wantHeld(t, l, w, position(1, w.End()))
}

func TestRemoveTakesParentsToo(t *testing.T) {
	s := stories()["fork at the end"]
	recordsTo(s.child, 20_000, start+4*mib)
	l, disk := filledLog(t, s.parent, s.last)
	if _, err := l.SwitchTLI(childHistory(s.fork), childHistoryFile(s.fork)); err != nil {
		t.Fatal(err)
	}
	appendAll(t, l, s.child, l.Rewind(), s.child.End())
	mustSync(t, l)
	if n, _, err := l.Remove(t.Context(), start+mib); n != 2 || err != nil {
		t.Errorf("removed %d segments, %v", n, err)
	}
	if got := names(t, disk, dir); got[0] != "00000002.history" {
		t.Errorf("files %q", got)
	}
}

func TestRemoveGoesOnAfterAnError(t *testing.T) {
	w := source(1000, start+4*mib+mib/2)
	l, disk := filledLog(t, w, w.End())
	disk.Inject(func(op crashfs.Op) error {
		if op.Name == "Remove" && op.Path == first {
			return fs.ErrPermission
		}
		return nil
	})
	if n, _, err := l.Remove(t.Context(), start+2*mib); n != 1 || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("removed %d segments, %v", n, err)
	}
	disk.Inject(nil)
	if n, _, err := l.Remove(t.Context(), start+2*mib); n != 1 || err != nil {
		t.Errorf("removed %d segments, %v", n, err)
	}
}

// TestRemoveLooksAtTheContext (G15) before each segment; what it did not come to is there as before.
func TestRemoveLooksAtTheContext(t *testing.T) {
	w := source(1000, start+4*mib+mib/2)
	l, disk := filledLog(t, w, w.End())
	ctx, cancel := context.WithCancel(t.Context())
	disk.Inject(func(op crashfs.Op) error {
		if op.Name == "Remove" {
			cancel()
		}
		return nil
	})
	if n, size, err := l.Remove(ctx, start+3*mib); n != 1 || size != mib || !errors.Is(err, context.Canceled) {
		t.Errorf("removed %d segments, %d bytes, %v", n, size, err)
	}
	if oldest := l.Oldest(); oldest != position(1, start+mib) {
		t.Errorf("the oldest is %s", oldest)
	}
	openSegment(t, l, 2)
	if n, _, err := l.Remove(t.Context(), start+3*mib); n != 1 || err != nil {
		t.Errorf("removed %d segments, %v: one is read", n, err)
	}
}

func TestVerifySegment(t *testing.T) {
	w := newSource()
	recordsTo(w, 1000, start+mib-5000)
	w.Record(200_000) // over the border
	recordsTo(w, 1000, start+2*mib+mib/2)
	for name, tc := range map[string]struct {
		file string
		flip int
		bad  []pg.SegNo
	}{
		"all is well":                            {first, -1, nil},
		"a bit in the middle":                    {second, mib / 2, []pg.SegNo{2}},
		"in the part of a record below a border": {first, mib - 100, []pg.SegNo{1, 2}},
		"in the part of a record above a border": {second, 100_000, []pg.SegNo{1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			l, disk := filledLog(t, w, w.End())
			if tc.flip >= 0 {
				b := file(t, disk, tc.file)
				b[tc.flip] ^= 1
				overwrite(t, disk, tc.file, b)
			}
			for n := pg.SegNo(1); n <= 3; n++ {
				err := l.VerifySegment(1, n, w.End())
				var damaged *pg.RecordError
				if bad := slices.Contains(tc.bad, n); bad != errors.As(err, &damaged) || !bad && err != nil {
					t.Errorf("segment %d: %v", n, err)
				}
			}
			if err := l.VerifySegment(1, 7, w.End()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a segment that is not there: %v", err)
			}
		})
	}
}

func TestVerifyDoesNotLookAboveItsBound(t *testing.T) {
	w := source(1000, start+mib/2)
	l, disk := filledLog(t, w, w.End())
	b := file(t, disk, firstPartial)
	b[400_000] ^= 1
	overwrite(t, disk, firstPartial, b)
	if err := l.VerifySegment(1, 1, start+390_000); err != nil {
		t.Error(err)
	}
	if err := l.VerifySegment(1, 1, w.End()); err == nil {
		t.Error("a flipped bit was not found")
	}
}

func TestInspectSaysWhatOpenWouldFindAndChangesNothing(t *testing.T) {
	for name, s := range stories() {
		t.Run(name, func(t *testing.T) {
			l, disk := filledLog(t, s.parent, s.last)
			control := vouched(l)
			if s.fork != 0 {
				if _, err := l.SwitchTLI(childHistory(s.fork), childHistoryFile(s.fork)); err != nil {
					t.Fatal(err)
				}
				appendAll(t, l, s.child, l.Rewind(), s.child.End())
			}
			mustSync(t, l)
			segments := l.Segments()
			last := segments[len(segments)-1]
			want := readSegment(t, l, last.TLI, last.SegNo)
			disk = disk.Restart(crashfs.Survivors{})
			disk.Inject(func(op crashfs.Op) error {
				if op.Mutates {
					t.Errorf("%+v", op)
				}
				return nil
			})
			i, err := wal.Inspect(disk, dir, seg, control)
			if err != nil {
				t.Fatal(err)
			}
			if i.Position != l.Flushed() || i.RecordEnd != l.RecordEnd() || !slices.Equal(timeless(i.Segments), timeless(segments)) || !slices.Equal(i.Diverged, l.Stats().Diverged) {
				t.Errorf("%+v, want %s, record end %s", i, l.Flushed(), l.RecordEnd())
			}
			r, err := i.OpenSegment(last.TLI, last.SegNo)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(io.NewSectionReader(r, 0, mib))
			if err := errors.Join(err, r.Close(), i.VerifySegment(last.TLI, last.SegNo, i.RecordEnd)); err != nil {
				t.Error(err)
			}
			if !bytes.Equal(b, want) {
				t.Errorf("read %d bytes, want %d", len(b), len(want))
			}
			if s.fork != 0 {
				if raw, err := i.History(2); err != nil || !bytes.Equal(raw, childHistoryFile(s.fork)) {
					t.Errorf("history %q, %v", raw, err)
				}
			}
		})
	}
}

func TestInspectSeesASwitchThatWasCutShort(t *testing.T) {
	s := stories()["fork below two segments"]
	l, disk := filledLog(t, s.parent, s.last)
	overwrite(t, disk, dir+"/00000002.history", childHistoryFile(s.fork))
	i, err := wal.Inspect(disk, dir, seg, vouched(l))
	if err != nil || i.Position != position(2, s.fork) || i.RecordEnd != s.fork {
		t.Errorf("%+v, %v", i, err)
	}
}

func TestInspectOfNothing(t *testing.T) {
	disk := crashfs.New()
	if _, err := wal.Inspect(disk, dir, seg, wal.Vouched{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if err := disk.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	if i, err := wal.Inspect(disk, dir, seg, wal.Vouched{}); err != nil || !i.Position.IsZero() {
		t.Errorf("empty directory: %+v, %v", i, err)
	}
}

// timeless is what does not depend on when a file was written.
func timeless(all []wal.SegmentInfo) []wal.SegmentInfo {
	all = slices.Clone(all)
	for i := range all {
		all[i].Whole = time.Time{}
	}
	return all
}
