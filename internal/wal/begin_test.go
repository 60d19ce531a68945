package wal_test

import (
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// TestLogThatBeginsBelowItsFork: a log that begins on a later TLI begins with the segment in which that TLI does. It may end,
// by a crash or not, before it has come to the fork.
func TestLogThatBeginsBelowItsFork(t *testing.T) {
	const fork = start + 300_000
	w := newSource()
	w.RecordTo(fork)
	w.Promote(2)
	recordsTo(w, 5_000, fork+300_000)
	for name, end := range map[string]pg.LSN{"nothing": start, "less than the fork": fork - 100_000, "the fork": fork, "more": w.End()} {
		t.Run(name, func(t *testing.T) {
			fs := crashfs.New()
			l := beginOnTLI2(t, fs, fork)
			appendAll(t, l, w, start, end)
			mustSync(t, l)
			v := vouched(l)
			lagging := wal.Vouched{Position: position(2, start), Start: start}
			for _, v := range []wal.Vouched{v, lagging} {
				l = openLog(t, fs.Restart(crashfs.Survivors{}), v)
				if p := l.Position(); p.TLI != 2 || p.LSN > end || p.LSN < l.RecordEnd() {
					t.Errorf("opened at %s with %+v", p, v)
				}
				appendAll(t, l, w, l.Rewind(), w.End())
				mustSync(t, l)
				wantHeld(t, l, w, position(2, w.End()))
				mustClose(t, l)
			}
		})
	}
}

func beginOnTLI2(t *testing.T, fs wal.FS, fork pg.LSN) *wal.Log {
	t.Helper()
	l := openLog(t, fs, wal.Vouched{})
	if err := l.StoreHistory(2, childHistoryFile(fork)); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(position(2, start)); err != nil {
		t.Fatal(err)
	}
	return l
}
