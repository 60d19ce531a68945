package wal_test

import (
	"errors"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/wal"
)

// border is where the first segment of the sources ends.
const border = start + mib

// switched returns a source and a copy of it. Each wrote a record of the same size, with other bytes, and switched to the next
// segment: as two idle servers do that have an archive_timeout.
func switched() (w, copied *pgtest.Writer) {
	w = newSource()
	w.Record(500)
	copied = w.Fork(1)
	for _, s := range []*pgtest.Writer{w, copied} {
		s.Record(300)
		s.Switch()
	}
	return w, copied
}

func TestCopyThatWentItsOwnWayIsFound(t *testing.T) {
	for name, ours := range map[string]func(*pgtest.Writer){
		"on a border": func(*pgtest.Writer) {},
		// What is in the open segment may be equal by chance: of a record that says that no transaction runs, say.
		"behind a border": func(w *pgtest.Writer) { w.Record(24) },
	} {
		t.Run(name, func(t *testing.T) {
			w, copied := switched()
			ours(w)
			ours(copied)
			l, _ := filledLog(t, w, w.End())
			copied.Record(700)
			var other *wal.OtherBytesError
			if err := feed(l, copied, l.Rewind(), copied.End(), 8192); !errors.As(err, &other) || other.LSN >= border {
				t.Fatalf("append: %v", err)
			}
			if l.Verified() {
				t.Error("verified by other bytes")
			}
			wantHeld(t, l, w, position(1, w.End()))
		})
	}
}

// A commit may wait for the acknowledgement that the last connection did not get through, and nobody else write anything.
func TestComparisonOnABorderNeedsNoNewRecord(t *testing.T) {
	w, _ := switched()
	l, _ := filledLog(t, w, border)
	from := l.Rewind()
	appendAll(t, l, w, from, border-1)
	if l.Verified() {
		t.Error("verified one byte early")
	}
	appendAll(t, l, w, border-1, border)
	if !l.Verified() {
		t.Error("not verified")
	}
}

func TestComparisonCoversTheLastCompleteRecord(t *testing.T) {
	w := newSource()
	w.Record(500)
	long := w.Record(3 * mib) // it begins in the first segment
	half := w.End()
	w.Record(2 * mib)
	for name, test := range map[string]struct{ end, from pg.LSN }{
		"on a border":                        {border, start},
		"no record is complete in a segment": {start + 3*mib, start},
		"it goes over borders":               {long.End, start},
		"the next has begun":                 {half + mib, start},
		"it is far below":                    {w.End(), seg.StartOf(half)},
	} {
		t.Run(name, func(t *testing.T) {
			l, _ := filledLog(t, w, test.end)
			if got := l.Rewind(); got != test.from || got != l.CompareFrom() {
				t.Fatalf("rewound to %s, want %s", got, test.from)
			}
			appendAll(t, l, w, test.from, test.end)
			if !l.Verified() {
				t.Error("not verified")
			}
			wantHeld(t, l, w, position(1, test.end))
		})
	}
}

// Other bytes in half a record, which was complete in no segment but the first: the source gave it up.
func TestHalfRecordOverBordersIsDroppedByComparing(t *testing.T) {
	w := newSource()
	end := w.Record(500).End
	after := w.Fork(1)
	w.Record(4 * mib)
	after.Record(700)
	recordsTo(after, 5000, start+3*mib)
	l, _ := filledLog(t, w, start+2*mib+5000)
	appendAll(t, l, after, l.Rewind(), after.End())
	if !l.Verified() {
		t.Error("not verified")
	}
	mustSync(t, l)
	wantHeld(t, l, after, position(1, after.End()))
	if end >= border {
		t.Fatal("the record that stays must be in the first segment")
	}
}

// A source on a TLI has no file of that below the segment with its fork.
func TestComparisonStaysOnItsTLI(t *testing.T) {
	for name, s := range stories() {
		t.Run(name, func(t *testing.T) {
			l, _ := filledLog(t, s.parent, s.last)
			if _, err := l.SwitchTLI(childHistory(s.fork), childHistoryFile(s.fork)); err != nil {
				t.Fatal(err)
			}
			if got := l.Rewind(); got != seg.StartOf(s.fork) {
				t.Errorf("rewound to %s, the fork is at %s", got, s.fork)
			}
		})
	}
}
