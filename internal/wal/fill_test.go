package wal_test

import (
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

func TestFillSwitchedEndsTheSegment(t *testing.T) {
	w := source(1000, start+pg.LSN(seg)/4)
	w.Switch()
	behind := w.End() // the segment's end
	cut := start + pg.LSN(seg)/2
	l, fs := filledLog(t, w, cut)
	if got := l.RecordEnd(); got != behind {
		t.Fatalf("record end is %s behind a switch, want the segment's end %s", got, behind)
	}
	if err := l.FillSwitched(); err != nil {
		t.Fatal(err)
	}
	if got := l.Flushed().LSN; got != behind {
		t.Fatalf("flushed to %s after the fill, want %s", got, behind)
	}
	v := vouched(l)
	again := openLog(t, fs.Restart(crashfs.Survivors{}), v)
	if got := again.Flushed().LSN; got != behind {
		t.Fatalf("flushed to %s after a crash, want %s", got, behind)
	}
	wantHeld(t, again, w, position(1, behind))
}

func TestFillSwitchedDoesNothingElsewhere(t *testing.T) {
	w := source(1000, start+pg.LSN(seg)/4)
	l, _ := filledLog(t, w, w.End())
	if err := l.FillSwitched(); err != nil {
		t.Fatal(err)
	}
	if got := l.Flushed().LSN; got != w.End() {
		t.Fatalf("flushed to %s, want %s", got, w.End())
	}
}

// What stands behind a switch may be appended and not synced, when the next segment could not be made.
func TestFillSwitchedSyncsZerosThatWereAppended(t *testing.T) {
	w := source(1000, start+pg.LSN(seg)/4)
	w.Switch()
	behind := w.End()
	cut := start + pg.LSN(seg)/2
	l, _ := filledLog(t, w, cut)
	appendAll(t, l, w, cut, behind)
	if err := l.FillSwitched(); err != nil {
		t.Fatal(err)
	}
	if got := l.Flushed().LSN; got != behind {
		t.Fatalf("flushed to %s, want %s", got, behind)
	}
}
