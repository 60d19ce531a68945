package pg_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/pgserver"
)

func TestWalkerFindsWhatTheServerWrote(t *testing.T) {
	for _, size := range []pg.SegmentSize{mib, 16 * mib} {
		t.Run(size.String(), func(t *testing.T) {
			s := start(t, size)
			writeLoad(t, s, size)
			until := flushed(t, s)
			w, found := readWAL(t, s.Dir(), 1, size).walk(until, size)
			if w.RecordEnd() != until {
				t.Fatalf("record end %s, the server is at %s: %v", w.RecordEnd(), until, w.Err())
			}
			if w.MajorVersion() != s.Installation().Major {
				t.Errorf("written by PostgreSQL %d (magic %X), want %d", w.MajorVersion(), w.Magic(), s.Installation().Major)
			}
			if len(found) < 5000 {
				t.Errorf("only %d records: the load is too small to prove anything", len(found))
			}
			compare(t, s, found)
		})
	}
}

// writeLoad makes records of all kinds, of all lengths around a page's, switches between them, and one that is longer than
// two segments.
func writeLoad(t *testing.T, s *pgserver.Server, size pg.SegmentSize) {
	t.Helper()
	exec(t, s, "CREATE TABLE load (id int PRIMARY KEY, text text)")
	exec(t, s, "INSERT INTO load SELECT n, repeat('x', n % 300) FROM generate_series(1, 3000) n")
	exec(t, s, "CHECKPOINT")
	exec(t, s, "UPDATE load SET text = text || 'y'") // images of pages
	exec(t, s, "SELECT count(pg_logical_emit_message(false, 'sluice', repeat('x', n))) FROM generate_series(1, 600) n")
	exec(t, s, "SELECT count(pg_logical_emit_message(n % 2 = 0, 'sluice', repeat('x', n))) FROM generate_series(7900, 8400, 3) n")
	for range 5 {
		exec(t, s, "SELECT pg_logical_emit_message(true, 'sluice', 'small'), pg_switch_wal()")
	}
	exec(t, s, fmt.Sprintf("SELECT pg_logical_emit_message(false, 'sluice', repeat('x', %d))", 2*size+12345))
	exec(t, s, "VACUUM load")
	exec(t, s, "DO $$ BEGIN FOR i IN 1..500 LOOP UPDATE load SET id = -id WHERE id = i; COMMIT; END LOOP; END $$")
}

// flushed has all WAL written out and returns its end, which is a record's.
func flushed(t *testing.T, s *pgserver.Server) pg.LSN {
	t.Helper()
	exec(t, s, "CREATE TEMPORARY TABLE commits_synchronously ()")
	return parseLSN(t, value(t, s, "SELECT pg_current_wal_flush_lsn()"))
}

// compare holds the records against the server's own list, as far as that goes.
func compare(t *testing.T, s *pgserver.Server, found []pgtest.Record) {
	t.Helper()
	want, ok := inspect(t, s, found[0].Start, found[len(found)-1].End)
	if !ok {
		t.Skip("this PostgreSQL comes without pg_walinspect and pg_waldump: only the end was compared")
	}
	for i := range min(len(found), len(want)) {
		if found[i].Start != want[i].Start || want[i].End != 0 && found[i].End != want[i].End {
			t.Fatalf("record %d: found %v, the server says %v", i, found[i], want[i])
		}
	}
	if len(found) != len(want) {
		t.Errorf("found %d records, the server has %d", len(found), len(want))
	}
}

// TestWalkerFollowsACrash lets a server lose the end of a record that it was writing, and go on.
func TestWalkerFollowsACrash(t *testing.T) {
	s := start(t, mib)
	exec(t, s, "SELECT pg_logical_emit_message(false, 'sluice', repeat('x', 5000000))")
	until := flushed(t, s)
	must(t, s.Kill())
	before := readWAL(t, s.Dir(), 1, mib)
	_, records := before.walk(until, mib)
	cut := mib.StartOf(longest(records).End - 1)
	removeSegments(t, s.Dir(), mib.SegNo(cut), mib)
	w, _ := before.walk(cut, mib)
	if w.Err() != nil || !w.InRecord() {
		t.Fatalf("at %s: not in a record, %v", w.Position(), w.Err())
	}

	must(t, s.Restart(t.Context()))
	exec(t, s, "CREATE TABLE later AS SELECT generate_series(1, 1000)")
	until = flushed(t, s)
	after := readWAL(t, s.Dir(), 1, mib)
	if info := after.slice(cut, until)[2]; info&8 == 0 {
		t.Fatalf("the server did not give up the record: its page has flags %x", info)
	}
	if err := w.Write(after.slice(cut, until)); err != nil || w.RecordEnd() != until {
		t.Errorf("record end %s, want %s: %v", w.RecordEnd(), until, err)
	}
	_, found := after.walk(until, mib)
	compare(t, s, found)
}

func longest(records []pgtest.Record) pgtest.Record {
	var long pgtest.Record
	for _, r := range records {
		if r.End-r.Start > long.End-long.Start {
			long = r
		}
	}
	return long
}

// TestWalkerEndsWhereTheServerForks kills a server while it writes, cuts off its WAL at hard places, and promotes what is left.
func TestWalkerEndsWhereTheServerForks(t *testing.T) {
	s := start(t, mib)
	for _, left := range []pg.LSN{8, 16, 24, 0} {
		emitUntil(t, s, left)
		exec(t, s, "SELECT pg_logical_emit_message(false, 'sluice', repeat('y', 3000))")
	}
	exec(t, s, "SELECT pg_logical_emit_message(true, 'sluice', 'small'), pg_switch_wal()")
	exec(t, s, "SELECT pg_logical_emit_message(false, 'sluice', repeat('z', 2500000))")
	until := flushed(t, s)
	killWhileWriting(t, s)

	_, records := readWAL(t, s.Dir(), 1, mib).walk(until, mib)
	for name, cut := range hardPlaces(records) {
		t.Run(name, func(t *testing.T) {
			if cut == 0 {
				t.Fatal("there is no such record")
			}
			dir := copyDir(t, s.Dir())
			zeroFrom(t, dir, cut, mib)
			compareFork(t, dir)
		})
	}
	t.Run("where it was killed", func(t *testing.T) { compareFork(t, copyDir(t, s.Dir())) })
}

// emitUntil makes a record end where so many bytes of its page are left. Where its page has no room for that, it ends somewhere
// on the next one.
func emitUntil(t *testing.T, s *pgserver.Server, left pg.LSN) {
	t.Helper()
	const overhead = 60 // of a message: headers of record and data, xl_logical_message, prefix
	for range 10 {
		at := parseLSN(t, value(t, s, "SELECT pg_current_wal_insert_lsn()"))
		end := (at+1000+left)/8192*8192 + 8192 - left
		emit := fmt.Sprintf("SELECT pg_logical_emit_message(false, 'sluice', repeat('x', %d))", end-at-overhead)
		if parseLSN(t, value(t, s, emit)) == end {
			return
		}
	}
	t.Fatalf("could not make a record end %d bytes before a border", left)
}

// killWhileWriting returns once a load of records is cut off somewhere.
func killWhileWriting(t *testing.T, s *pgserver.Server) {
	t.Helper()
	begun := value(t, s, "SELECT pg_current_wal_lsn()")
	ended := make(chan error, 1)
	go func() {
		ended <- s.Exec(t.Context(), "SELECT pg_logical_emit_message(false, 'sluice', repeat('x', n % 50000)) FROM generate_series(1, 1000000, 101) n")
	}()
	for written := "f"; written != "t"; {
		written = value(t, s, "SELECT pg_current_wal_lsn() - '"+begun+"' > 500000")
	}
	must(t, s.Kill())
	if err := <-ended; err == nil {
		t.Fatal("all was written before the server died")
	}
}

// hardPlaces are LSNs at which to end the WAL; zero where no record suits.
func hardPlaces(records []pgtest.Record) map[string]pg.LSN {
	places := map[string]pg.LSN{
		"behind 8 bytes of a header": 0, "behind 16 bytes of a header": 0, "behind a header": 0, "in a header behind a border": 0,
		"where a record fills its page": 0, "behind a switch": 0,
	}
	for _, r := range records {
		switch left := -r.Start % 8192; {
		case left == 8:
			places["behind 8 bytes of a header"] = r.Start + 8
			places["in a header behind a border"] = r.Start + 8 + 24 + 5
		case left == 16:
			places["behind 16 bytes of a header"] = r.Start + 16
		case left == 24:
			places["behind a header"] = r.Start + 24
		case r.End%8192 == 0 && mib.Offset(r.End) != 0:
			places["where a record fills its page"] = r.End
		case mib.Offset(r.End) == 0:
			places["behind a switch"] = r.Start + 24
		}
	}
	long := longest(records)
	places["in the last bytes of a record"] = long.End - 8
	places["behind a record"] = long.End
	places["on a border in a record"] = long.Start/8192*8192 + 3*8192
	places["in a segment in a record"] = mib.StartOf(long.Start) + 1<<20
	places["in a long page header"] = mib.StartOf(long.Start) + 1<<20 + 30
	return places
}

// compareFork promotes a dead server, follows it, and checks that its history leaves TLI 1 where our walk ends.
func compareFork(t *testing.T, dir string) {
	t.Helper()
	wal := readWAL(t, dir, 1, mib)
	w, _ := wal.walk(wal.end(), mib)
	must(t, pgserver.PrepareRestore(dir, "false", nil))
	s := promoted(t, dir)
	fork, ok := historyOf(t, dir, 2).Parent()
	if !ok || fork.LSN != w.RecordEnd() {
		t.Fatalf("the server forked at %s, our record end is %s (%v)", fork.LSN, w.RecordEnd(), w.Err())
	}

	until := flushed(t, s)
	child := readWAL(t, dir, 2, mib)
	w.Reset(fork.LSN, w.LastRecord())
	if err := w.Write(child.slice(fork.LSN, until)); err != nil || w.RecordEnd() != until {
		t.Errorf("on TLI 2: record end %s, want %s: %v", w.RecordEnd(), until, err)
	}
}

// promoted starts a server that was prepared for recovery and waits until it takes writes.
func promoted(t *testing.T, dir string) *pgserver.Server {
	t.Helper()
	s := existing(t, dir)
	must(t, s.WaitPromoted(t.Context()))
	return s
}

func historyOf(t *testing.T, dir string, tli pg.TLI) pg.History {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "pg_wal", pg.HistoryName(tli)))
	must(t, err)
	return parseHistory(t, tli, string(b))
}
