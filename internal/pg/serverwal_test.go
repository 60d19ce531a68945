package pg_test

import (
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/pgserver"
)

// serverWAL is a copy of the segments of one TLI that follow each other in a server's pg_wal.
type serverWAL struct {
	start pg.LSN
	bytes []byte
}

// readWAL begins with the TLI's first segment. The last ones may be leftovers that the server keeps to write over.
func readWAL(t *testing.T, dir string, tli pg.TLI, size pg.SegmentSize) serverWAL {
	t.Helper()
	segments := segmentsOf(t, dir, tli, size)
	if len(segments) == 0 {
		t.Fatalf("no segment of TLI %d in %s", tli, dir)
	}
	wal := serverWAL{start: size.Start(segments[0])}
	for i, n := range segments {
		if n != segments[0]+pg.SegNo(i) {
			break
		}
		b, err := os.ReadFile(filepath.Join(dir, "pg_wal", pg.SegmentName(tli, n, size)))
		must(t, err)
		wal.bytes = append(wal.bytes, b...)
	}
	return wal
}

// segmentsOf returns them in order.
func segmentsOf(t *testing.T, dir string, tli pg.TLI, size pg.SegmentSize) []pg.SegNo {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "pg_wal"))
	must(t, err)
	var segments []pg.SegNo
	for _, e := range entries {
		if of, n, err := pg.ParseSegmentName(e.Name(), size); err == nil && of == tli {
			segments = append(segments, n)
		}
	}
	return segments
}

func (w serverWAL) end() pg.LSN { return w.start + pg.LSN(len(w.bytes)) }

func (w serverWAL) slice(from, to pg.LSN) []byte { return w.bytes[from-w.start : to-w.start] }

// walk walks in random pieces, to the LSN or the first error, and returns what it found.
func (w serverWAL) walk(to pg.LSN, size pg.SegmentSize) (*pg.Walker, []pgtest.Record) {
	var found []pgtest.Record
	walker := pg.NewWalker(size)
	walker.Reset(w.start, 0)
	_ = eachRecord(walker, randomPieces(w.slice(w.start, to), uint64(to)), func() { // the walker keeps the error
		found = append(found, pgtest.Record{Start: walker.LastRecord(), End: walker.RecordEnd()})
	})
	return walker, found
}

// zeroFrom makes the WAL of a dead server end at lsn.
func zeroFrom(t *testing.T, dir string, lsn pg.LSN, size pg.SegmentSize) {
	t.Helper()
	removeSegments(t, dir, size.SegNo(lsn)+1, size)
	name := filepath.Join(dir, "pg_wal", pg.SegmentName(1, size.SegNo(lsn), size))
	b, err := os.ReadFile(name)
	must(t, err)
	clear(b[size.Offset(lsn):])
	must(t, os.WriteFile(name, b, 0o600))
}

func removeSegments(t *testing.T, dir string, first pg.SegNo, size pg.SegmentSize) {
	t.Helper()
	for _, n := range segmentsOf(t, dir, 1, size) {
		if n >= first {
			must(t, os.Remove(filepath.Join(dir, "pg_wal", pg.SegmentName(1, n, size))))
		}
	}
}

func copyDir(t *testing.T, dir string) string {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "data")
	must(t, os.CopyFS(dst, os.DirFS(dir)))
	must(t, os.Chmod(dst, 0o700))
	return dst
}

// waldumpLine finds the start of a record in pg_waldump's output.
var waldumpLine = regexp.MustCompile(`lsn: ([0-9A-F]+/[0-9A-F]+), prev`)

// inspect returns the server's own list of the records from one's start to another's end: from pg_walinspect, which PostgreSQL 15
// and later have, else from pg_waldump, which knows no ends. False if it has neither.
func inspect(t *testing.T, s *pgserver.Server, from, to pg.LSN) ([]pgtest.Record, bool) {
	t.Helper()
	if s.Exec(t.Context(), "CREATE EXTENSION IF NOT EXISTS pg_walinspect") == nil {
		return walinspect(t, s, from, to), true
	}
	tool := filepath.Join(s.Installation().BinDir, "pg_waldump")
	if _, err := os.Stat(tool); err != nil {
		return nil, false
	}
	out, err := osexec.CommandContext(t.Context(), tool, "-p", filepath.Join(s.Dir(), "pg_wal"), "-s", from.String(), "-e", to.String()).Output()
	must(t, err)
	var records []pgtest.Record
	for _, m := range waldumpLine.FindAllSubmatch(out, -1) {
		records = append(records, pgtest.Record{Start: parseLSN(t, string(m[1]))})
	}
	return records, true
}

func walinspect(t *testing.T, s *pgserver.Server, from, to pg.LSN) []pgtest.Record {
	t.Helper()
	rows, err := s.Query(t.Context(), fmt.Sprintf("SELECT start_lsn, end_lsn FROM pg_get_wal_records_info('%s', '%s')", from, to))
	must(t, err)
	var records []pgtest.Record
	for _, row := range rows {
		records = append(records, pgtest.Record{Start: parseLSN(t, row[0]), End: parseLSN(t, row[1])})
	}
	return records
}

func parseLSN(t *testing.T, text string) pg.LSN {
	t.Helper()
	lsn, err := pg.ParseLSN(text)
	must(t, err)
	return lsn
}
