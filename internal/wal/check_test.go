package wal_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// verifiedLog is a log that holds some records, whose source has proved itself.
func verifiedLog(t *testing.T, w *pgtest.Writer, end pg.LSN) (*wal.Log, *crashfs.FS) {
	t.Helper()
	l, fs := filledLog(t, w, end)
	if !l.Verified() {
		t.Fatal("not verified")
	}
	return l, fs
}

func mustCheck(t *testing.T, l *wal.Log, w *pgtest.Writer, from, to pg.LSN) pg.Walker {
	t.Helper()
	end, err := l.Check(from, slice(w, from, to))
	if err != nil {
		t.Fatal(err)
	}
	return end
}

func TestCheckAndWriteAreAnAppend(t *testing.T) {
	w := source(3000, start+3*mib)
	l, _ := verifiedLog(t, w, start+100_000)
	for from := start + 100_000; from < w.End(); {
		to := min(w.End(), seg.StartOf(from)+mib)
		middle := (from + to) / 2
		mustCheck(t, l, w, from, middle)
		end := mustCheck(t, l, w, middle, to)
		if l.Position().LSN != from {
			t.Fatalf("position %s before it was written, from %s", l.Position(), from)
		}
		if err := l.Write(slice(w, from, to), &end); err != nil {
			t.Fatal(err)
		}
		from = to
	}
	mustSync(t, l)
	wantHeld(t, l, w, position(1, w.End()))
	if l.RecordEnd() != w.End() {
		t.Errorf("record end %s, want %s", l.RecordEnd(), w.End())
	}
}

// What is not valid is found by Check, and then said by Append, which takes what is below.
func TestCheckTakesNothingOfWhatIsNotValid(t *testing.T) {
	w := source(1000, start+mib/2)
	l, _ := verifiedLog(t, w, start+100_000)
	damaged := append([]byte(nil), slice(w, start+100_000, start+200_000)...)
	damaged[50_000] ^= 1
	var bad *pg.RecordError
	if _, err := l.Check(start+100_000, damaged); !errors.As(err, &bad) {
		t.Fatalf("check: %v", err)
	}
	if err := l.Append(start+100_000, damaged); !errors.As(err, &bad) || l.Position().LSN != bad.LSN {
		t.Fatalf("append: %v; position %s", err, l.Position())
	}
	appendAll(t, l, w, l.Rewind(), w.End())
	mustSync(t, l)
	wantHeld(t, l, w, position(1, w.End()))
}

// A disk without room for the next segment is no damage: what was checked beyond it comes again.
func TestCheckedAndNotWrittenIsForgotten(t *testing.T) {
	w := source(3000, start+3*mib)
	l, fs := verifiedLog(t, w, start+100_000)
	first := mustCheck(t, l, w, start+100_000, start+mib)
	second := mustCheck(t, l, w, start+mib, start+2*mib)
	if err := l.Write(slice(w, start+100_000, start+mib), &first); err != nil {
		t.Fatal(err)
	}
	fs.Inject(func(op crashfs.Op) error {
		if op.Name == "Create" || op.Name == "Rename" {
			return syscall.ENOSPC
		}
		return nil
	})
	if err := l.Write(slice(w, start+mib, start+2*mib), &second); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, wal.ErrPoisoned) {
		t.Fatalf("write: %v", err)
	}
	fs.Inject(nil)
	mustSync(t, l)
	wantHeld(t, l, w, position(1, start+mib))
	appendAll(t, l, w, l.Rewind(), w.End())
	mustSync(t, l)
	wantHeld(t, l, w, position(1, w.End()))
}

func TestWriteTakesWhatComesNextOnly(t *testing.T) {
	w := source(1000, start+mib/2)
	l, _ := verifiedLog(t, w, start+100_000)
	mustCheck(t, l, w, start+100_000, start+150_000)
	end := mustCheck(t, l, w, start+150_000, start+200_000)
	var gap *wal.GapError
	if err := l.Write(slice(w, start+150_000, start+200_000), &end); !errors.As(err, &gap) {
		t.Errorf("write: %v", err)
	}
	if _, err := l.Check(start+100_000, slice(w, start+100_000, start+150_000)); !errors.As(err, &gap) {
		t.Errorf("check: %v", err)
	}
}

func TestFailedWriteOfWhatWasCheckedPoisonsTheLog(t *testing.T) {
	w := source(1000, start+mib/2)
	l, fs := verifiedLog(t, w, start+100_000)
	end := mustCheck(t, l, w, start+100_000, start+200_000)
	fs.Inject(func(op crashfs.Op) error {
		if op.Name == "WriteDirect" {
			return syscall.EIO
		}
		return nil
	})
	if err := l.Write(slice(w, start+100_000, start+200_000), &end); !errors.Is(err, wal.ErrPoisoned) {
		t.Fatalf("write: %v", err)
	}
	fs.Inject(nil)
	if _, err := l.Sync(); !errors.Is(err, wal.ErrPoisoned) {
		t.Errorf("sync: %v", err)
	}
	if err := l.Recover(); err != nil {
		t.Fatal(err)
	}
	appendAll(t, l, w, l.Rewind(), w.End())
	mustSync(t, l)
	wantHeld(t, l, w, position(1, w.End()))
}
