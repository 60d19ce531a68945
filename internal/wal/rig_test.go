package wal_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

const (
	mib      = 1 << 20
	seg      = pg.SegmentSize(mib)
	systemID = 7_000_000_000_000_000_001
	dir      = "/tenants/acme/wal"
)

// start is where the sources of these tests begin: a new cluster's first segment is the second.
const start = pg.LSN(seg)

func newSource() *pgtest.Writer { return pgtest.NewWriter(start, seg, 1, systemID) }

// source returns WAL of records of about size bytes, up to at least end.
func source(size int, end pg.LSN) *pgtest.Writer {
	w := newSource()
	recordsTo(w, size, end)
	return w
}

func recordsTo(w *pgtest.Writer, size int, end pg.LSN) {
	for w.End() < end {
		w.Record(size)
	}
}

// slice returns the source's bytes between two positions.
func slice(w *pgtest.Writer, from, to pg.LSN) []byte { return w.Bytes()[from-w.Start() : to-w.Start()] }

func position(tli pg.TLI, lsn pg.LSN) pg.Position { return pg.Position{TLI: tli, LSN: lsn} }

func openLog(t *testing.T, fs wal.FS, v wal.Vouched) *wal.Log {
	t.Helper()
	l, err := wal.Open(dir, wal.Config{FS: fs, SegmentSize: seg}, v)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // what it returns matters to the tests that close it themselves
	return l
}

// newLog opens a log that begins where the sources do.
func newLog(t *testing.T, fs wal.FS) *wal.Log {
	t.Helper()
	l := openLog(t, fs, wal.Vouched{})
	if err := l.Start(position(1, start)); err != nil {
		t.Fatal(err)
	}
	return l
}

// filledLog is a new log on a new disk that holds the source up to end, durable.
func filledLog(t *testing.T, w *pgtest.Writer, end pg.LSN) (*wal.Log, *crashfs.FS) {
	t.Helper()
	fs := crashfs.New()
	l := newLog(t, fs)
	appendAll(t, l, w, start, end)
	mustSync(t, l)
	return l, fs
}

// appendAll feeds what lies between two positions, in pieces of odd sizes.
func appendAll(t *testing.T, l *wal.Log, w *pgtest.Writer, from, to pg.LSN) {
	t.Helper()
	if err := feed(l, w, from, to, 60_001); err != nil {
		t.Fatal(err)
	}
}

func feed(l *wal.Log, w *pgtest.Writer, from, to pg.LSN, piece pg.LSN) error {
	for from < to {
		next := min(to, from+piece)
		if err := l.Append(from, slice(w, from, next)); err != nil {
			return err
		}
		from = next
	}
	return nil
}

func mustSync(t *testing.T, l *wal.Log) pg.LSN {
	t.Helper()
	flush, err := l.Sync()
	if err != nil {
		t.Fatal(err)
	}
	return flush
}

func mustClose(t *testing.T, l *wal.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// vouched is what a control file would say that was saved now.
func vouched(l *wal.Log) wal.Vouched {
	return wal.Vouched{Position: l.Flushed(), RecordEnd: l.RecordEnd(), Start: start}
}

func closed(l *wal.Log) wal.Vouched {
	v := vouched(l)
	v.Clean = true
	return v
}

// held reads what a log says is durable, from the start of the first segment on.
func held(t *testing.T, l *wal.Log) []byte {
	t.Helper()
	flush := l.Flushed()
	all := make([]byte, 0, flush.LSN-start)
	for n := seg.SegNo(start); seg.Start(n) < flush.LSN; n++ {
		all = append(all, readSegment(t, l, flush.TLI, n)...)
	}
	return all
}

// readSegment reads a segment of tli, or of the newest TLI below that has it.
func readSegment(t *testing.T, l *wal.Log, tli pg.TLI, n pg.SegNo) []byte {
	t.Helper()
	var r *wal.SegmentReader
	var err error
	for err = fs.ErrNotExist; err != nil && tli > 0; tli-- {
		r, err = l.OpenSegment(tli, n)
	}
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, r.Durable()-r.Start())
	_, err = r.ReadAt(b, 0)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

// wantHeld checks that a log holds the source's bytes up to a position, durable.
func wantHeld(t *testing.T, l *wal.Log, w *pgtest.Writer, want pg.Position) {
	t.Helper()
	if got := l.Flushed(); got != want {
		t.Fatalf("flushed %s, want %s", got, want)
	}
	if !bytes.Equal(held(t, l), slice(w, start, want.LSN)) {
		t.Fatalf("what is held up to %s is not what was sent", want)
	}
}

// names lists a directory.
func names(t *testing.T, fs wal.FS, dir string) []string {
	t.Helper()
	infos, err := fs.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, i := range infos {
		all = append(all, i.Name())
	}
	return all
}

// file reads a whole file.
func file(t *testing.T, fs wal.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	_, err = f.ReadAt(b, 0)
	if err := errors.Join(err, f.Close()); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return b
}

// overwrite replaces a file, durably.
func overwrite(t *testing.T, fs wal.FS, name string, data []byte) {
	t.Helper()
	if err := wal.WriteFileAtomic(fs, name, data); err != nil {
		t.Fatal(err)
	}
}
