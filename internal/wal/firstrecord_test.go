package wal_test

import (
	"bytes"
	"errors"
	"io/fs"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// TestFirstRecordTellsPromotionsApart: two servers that were promoted at one LSN chose TLI 2, and wrote the same history.
func TestFirstRecordTellsPromotionsApart(t *testing.T) {
	for name, fork := range map[string]pg.LSN{"inside a segment": start + 300_000, "on a page's border": start + 5*8192, "on a segment's border": start + mib} {
		t.Run(name, func(t *testing.T) {
			one, again, other := promotedAt(t, fork, 120), promotedAt(t, fork, 120), promotedAt(t, fork, 128)
			if !bytes.Equal(one, again) || bytes.Equal(one, other) || len(one) == 0 {
				t.Errorf("%x, %x, %x", one, again, other)
			}
		})
	}
}

// promotedAt is the digest of the first record above the fork, of so many bytes.
func promotedAt(t *testing.T, fork pg.LSN, size int) []byte {
	t.Helper()
	parent := newSource()
	parent.RecordTo(fork)
	l, _ := filledLog(t, parent, fork)
	if _, err := l.SwitchTLI(childHistory(fork), childHistoryFile(fork)); err != nil {
		t.Fatal(err)
	}
	child := parent.Fork(2)
	child.Record(size)
	child.Record(40_000) // over page borders, and of no account
	if _, err := l.FirstRecord(2, fork); err == nil {
		t.Error("nothing of TLI 2 is held, and it has a first record")
	}
	first := fork + pg.LSN(size)/2
	l.Rewind()
	appendAll(t, l, child, l.CompareFrom(), first)
	mustSync(t, l)
	if _, err := l.FirstRecord(2, fork); !errors.Is(err, wal.ErrNoRecord) {
		t.Errorf("half of it: %v", err)
	}
	appendAll(t, l, child, first, child.End())
	mustSync(t, l)
	sum, err := l.FirstRecord(2, fork)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestFirstRecordOfASegmentThatIsNotHeld(t *testing.T) {
	w := source(5_000, start+mib)
	l, _ := filledLog(t, w, w.End())
	if _, err := l.FirstRecord(7, start); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestStartAgain: a source that no longer has what was asked for has sent nothing, and the log may begin elsewhere.
func TestStartAgain(t *testing.T) {
	w := source(5_000, start+2*mib)
	disk := crashfs.New()
	l := newLog(t, disk)
	if !l.HoldsNothing() {
		t.Error("a new log holds something")
	}
	second := start + mib
	if err := l.Start(position(1, second)); err != nil {
		t.Fatal(err)
	}
	appendAll(t, l, w, second, w.End())
	mustSync(t, l)
	if err := l.Start(position(1, start)); err == nil || l.HoldsNothing() {
		t.Errorf("a log that holds WAL begins elsewhere: %v", err)
	}
	if got := l.Flushed(); got != position(1, w.End()) {
		t.Errorf("flushed %s", got)
	}
}
