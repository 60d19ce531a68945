package wal_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

func TestSegmentsArePlainPostgreSQLFiles(t *testing.T) {
	for _, size := range []pg.SegmentSize{1 << 20, 16 << 20, 64 << 20} {
		t.Run(size.String(), func(t *testing.T) {
			w := pgtest.NewWriter(pg.LSN(size), size, 1, systemID)
			for w.End() < pg.LSN(size)*2+5000 {
				w.Record(300_000)
			}
			tmp := t.TempDir()
			l, err := wal.Open(tmp, wal.Config{SegmentSize: size}, wal.Vouched{})
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Start(position(1, pg.LSN(size))); err != nil {
				t.Fatal(err)
			}
			appendAll(t, l, w, w.Start(), w.End())
			mustClose(t, l)
			first, second := pg.SegmentName(1, 1, size), pg.SegmentName(1, 2, size)+pg.PartialSuffix
			if got := names(t, wal.OSFS{}, tmp); !slices.Equal(got, []string{first, second}) {
				t.Fatalf("files are %q", got)
			}
			padded := append(slices.Clone(w.Bytes()), make([]byte, 3*int(size)-int(w.End()))...)
			got := append(file(t, wal.OSFS{}, tmp+"/"+first), file(t, wal.OSFS{}, tmp+"/"+second)...)
			if !bytes.Equal(got, padded) {
				t.Error("the files are not what was sent, and zeros")
			}
		})
	}
}

func TestAppendMustContinue(t *testing.T) {
	w := source(1000, start+mib/2)
	l := newLog(t, crashfs.New())
	var gap *wal.GapError
	if err := l.Append(start+8192, slice(w, start+8192, start+8200)); !errors.As(err, &gap) || gap.Want != start {
		t.Fatalf("append behind a gap: %v", err)
	}
	appendAll(t, l, w, start, w.End())
	if err := l.Append(w.End()-1, []byte{0}); !errors.As(err, &gap) || gap.Want != w.End() {
		t.Fatalf("append below the end, not rewound: %v", err)
	}
	if got := l.Position(); got != position(1, w.End()) {
		t.Errorf("position %s after refusals", got)
	}
}

func TestEmptyLogTakesNothing(t *testing.T) {
	l := openLog(t, crashfs.New(), wal.Vouched{})
	if err := l.Append(start, []byte{1}); !errors.Is(err, wal.ErrEmpty) {
		t.Errorf("append: %v", err)
	}
	if p := l.Position(); !p.IsZero() {
		t.Errorf("position %s", p)
	}
	if err := l.Start(position(1, start+8)); err == nil {
		t.Error("started inside a segment")
	}
	if err := l.Start(position(1, start)); err != nil {
		t.Fatal(err)
	}
}

func TestInvalidWALIsRefusedAndNothingOfItIsKept(t *testing.T) {
	w := newSource()
	w.Record(500)
	good := w.Record(500).End
	w.Record(30_000)
	bad := slices.Clone(w.Bytes())
	bad[good-start+20_000] ^= 1

	l := newLog(t, crashfs.New())
	var invalid *pg.RecordError
	if err := l.Append(start, bad); !errors.As(err, &invalid) || invalid.LSN != good {
		t.Fatalf("append: %v", err)
	}
	if got := mustSync(t, l); got != good {
		t.Fatalf("flushed %s, want the end of the last good record %s", got, good)
	}
	if got := l.Rewind(); got != start {
		t.Fatalf("rewound to %s", got)
	}
	appendAll(t, l, w, start, w.End())
	mustSync(t, l)
	wantHeld(t, l, w, position(1, w.End()))
}

// The half of a record that came in one piece is on disk when its other half shows that it was damaged on the way.
func TestDamagedHalfRecordIsReplaced(t *testing.T) {
	w := newSource()
	end := w.Record(500).End
	w.Record(2 * mib)
	w.Record(500)
	half := end + mib + mib/2
	bad := slices.Clone(w.Bytes())
	bad[end-start+90_000] ^= 1

	fs := crashfs.New()
	l := newLog(t, fs)
	if err := l.Append(start, bad[:half-start]); err != nil {
		t.Fatal(err)
	}
	mustSync(t, l)
	early := vouched(l)
	if err := l.Append(half, bad[half-start:]); err == nil {
		t.Fatal("a damaged record was taken")
	}
	// What a control file said before does not become a lie.
	l = openLog(t, fs.Restart(crashfs.Survivors{}), early)
	if from := l.Rewind(); from != start {
		t.Fatalf("rewound to %s, not to the segment in which the damaged record begins", from)
	}
	appendAll(t, l, w, start, w.End())
	mustSync(t, l)
	wantHeld(t, l, w, position(1, w.End()))
}

func TestFirstRecordOfASegmentMustNameTheLastOne(t *testing.T) {
	w := newSource()
	w.Record(500)
	w.RecordTo(start + mib)
	w.Record(500)
	w.Record(500)

	stranger := newSource()
	stranger.Record(600)
	stranger.RecordTo(start + mib)
	stranger.Record(400)

	l, _ := filledLog(t, w, start+mib)
	if got := l.RewindOpen(); got != start+mib {
		t.Fatalf("rewound to %s", got)
	}
	if l.Verified() {
		t.Error("verified with nothing compared")
	}
	if err := feed(l, stranger, start+mib, stranger.End(), 8192); err == nil {
		t.Fatal("another server's record was taken")
	}
	if l.Verified() {
		t.Error("verified by a stranger")
	}
	l.RewindOpen()
	appendAll(t, l, w, start+mib, w.End())
	if !l.Verified() {
		t.Error("not verified by the right server")
	}
}

func TestComparisonFindsOtherBytes(t *testing.T) {
	w := source(1000, start+mib+mib/2)
	l, _ := filledLog(t, w, w.End())
	from := l.Rewind()
	if from != start+mib || l.Verified() {
		t.Fatalf("rewound to %s, verified %v", from, l.Verified())
	}
	bad := slices.Clone(slice(w, from, w.End()))
	bad[200_000] ^= 1
	var other *wal.OtherBytesError
	if err := l.Append(from, bad); !errors.As(err, &other) || other.LSN != from+200_000 {
		t.Fatalf("append: %v", err)
	}
	if l.Verified() {
		t.Error("verified by other bytes")
	}
	wantHeld(t, l, w, position(1, w.End()))
}

func TestVerifiedOnceAllThatIsHeldWasCompared(t *testing.T) {
	w := source(1000, start+mib+mib/2)
	end := w.End()
	w.Record(1000)
	l, _ := filledLog(t, w, end)
	from := l.Rewind()
	appendAll(t, l, w, from, end-1)
	if l.Verified() {
		t.Error("verified one byte early")
	}
	appendAll(t, l, w, end-1, end)
	if !l.Verified() {
		t.Error("not verified")
	}
	appendAll(t, l, w, end, w.End())
	mustSync(t, l)
	wantHeld(t, l, w, position(1, w.End()))
}

// A server that crashed may give up a record of which it had sent the beginning. Where that began in an earlier segment than
// the open one, and the source no longer has that, it takes a second connection to find out.
func TestHalfRecordThatTheSourceGaveUpIsDropped(t *testing.T) {
	for name, tc := range map[string]struct {
		end      pg.LSN
		sessions int
	}{
		"in the open segment":   {start + mib/2, 1},
		"in the segment before": {start + mib - 16384, 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := newSource()
			recordsTo(w, 1000, tc.end)
			end := w.End()
			after := w.Fork(1)
			w.Record(mib / 2)
			after.Record(700)
			after.Record(mib)

			l, fs := filledLog(t, w, end+mib/4)
			control := vouched(l)
			var err error
			for i := 0; i == 0 || err != nil; i++ {
				if i == tc.sessions {
					t.Fatalf("still refused: %v", err)
				}
				err = feed(l, after, l.RewindOpen(), after.End(), 8192)
			}
			if !l.Verified() {
				t.Error("not verified")
			}
			mustSync(t, l)
			l = openLog(t, fs.Restart(crashfs.Survivors{}), control)
			wantHeld(t, l, after, position(1, after.End()))
		})
	}
}

func TestFullDiskIsNoPoison(t *testing.T) {
	w := source(1000, start+3*mib)
	fs := crashfs.New()
	l := newLog(t, fs)
	appendAll(t, l, w, start, start+mib-8192)
	full := true
	fs.Inject(func(op crashfs.Op) error {
		if full && (op.Name == "Create" || op.Name == "WriteAt" && strings.HasSuffix(op.Path, ".tmp")) {
			return syscall.ENOSPC
		}
		return nil
	})
	// The spare was begun before the disk was full, and serves once.
	for i := range 3 {
		err := feed(l, w, l.Rewind(), w.End(), 8192)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("attempt %d on a full disk: %v", i, err)
		}
	}
	mustSync(t, l)
	if got := l.Flushed().LSN; got != start+mib && got != start+2*mib {
		t.Errorf("flushed %s", got)
	}
	full = false
	appendAll(t, l, w, l.Rewind(), w.End())
	mustSync(t, l)
	wantHeld(t, l, w, position(1, w.End()))
	for _, name := range names(t, fs, dir) {
		if strings.HasSuffix(name, ".tmp") && name != "next.tmp" {
			t.Errorf("%s stayed", name)
		}
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	w := source(1000, start+mib)
	tmp := t.TempDir()
	l, err := wal.Open(tmp, wal.Config{SegmentSize: seg}, wal.Vouched{})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, l)
	if err := l.Start(position(1, start)); err != nil {
		t.Fatal(err)
	}
	at := start + 8192
	appendAll(t, l, w, start, at)
	allocs := testing.AllocsPerRun(100, func() {
		if err := l.Append(at, slice(w, at, at+1000)); err != nil {
			t.Fatal(err)
		}
		at += 1000
		mustSync(t, l)
	})
	if allocs != 0 {
		t.Errorf("%v allocations for an append and a sync", allocs)
	}
}
