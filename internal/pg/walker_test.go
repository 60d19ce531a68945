package pg_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
)

// TestWalkerScripts runs testdata/walker. A "walk" makes WAL line by line, damages it, and prints what the walker makes
// of it; in whatever pieces it is fed, the outcome must be the same. The lines:
//
//	record N, record-to LSN, switch, promote TLI, magic HEX    append
//	give-up LSN                                                lose the last record from a page border on
//	poke LSN HEX, cut LSN, zeros N                             damage what was written
//	reset LSN [LAST]                                           where the walker begins; else at the first byte
func TestWalkerScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/walker", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s := newScript(t, d)
			for line := range strings.Lines(d.Input) {
				s.line(strings.Fields(line))
			}
			return s.walk()
		})
	})
}

type script struct {
	t    *testing.T
	d    *datadriven.TestData
	w    *pgtest.Writer
	size pg.SegmentSize
	wal  []byte // of w, damaged; nil until then

	begin, last pg.LSN // Reset's arguments
}

func newScript(t *testing.T, d *datadriven.TestData) *script {
	start := "0/1000000"
	d.MaybeScanArgs(t, "start", &start)
	s := &script{t: t, d: d, size: mib}
	s.begin = s.lsn(start)
	s.w = pgtest.NewWriter(s.begin, s.size, 1, 7000000000000000001)
	return s
}

func (s *script) line(f []string) {
	s.t.Helper()
	switch f[0] {
	case "record":
		s.w.Record(s.number(f[1], 10))
	case "record-to":
		s.w.RecordTo(s.lsn(f[1]))
	case "switch":
		s.w.Switch()
	case "give-up":
		s.w.GiveUp(s.lsn(f[1]))
	case "promote":
		s.w.Promote(pg.TLI(s.number(f[1], 10)))
	case "magic":
		s.w.SetMagic(uint16(s.number(f[1], 16)))
	case "reset":
		s.begin = s.lsn(f[1])
		if len(f) > 2 {
			s.last = s.lsn(f[2])
		}
	default:
		s.damage(f)
	}
}

func (s *script) damage(f []string) {
	s.t.Helper()
	if s.wal == nil {
		s.wal = slices.Clone(s.w.Bytes())
	}
	switch f[0] {
	case "poke":
		b, err := hex.DecodeString(f[2])
		if err != nil {
			s.d.Fatalf(s.t, "%v", err)
		}
		copy(s.wal[s.lsn(f[1])-s.w.Start():], b)
	case "cut":
		s.wal = s.wal[:s.lsn(f[1])-s.w.Start()]
	case "zeros":
		s.wal = append(s.wal, make([]byte, s.number(f[1], 10))...)
	default:
		s.d.Fatalf(s.t, "no such line: %q", f)
	}
}

func (s *script) lsn(text string) pg.LSN {
	s.t.Helper()
	lsn, err := pg.ParseLSN(text)
	if err != nil {
		s.d.Fatalf(s.t, "%v", err)
	}
	return lsn
}

func (s *script) number(text string, base int) int {
	s.t.Helper()
	n, err := strconv.ParseInt(text, base, 32)
	if err != nil {
		s.d.Fatalf(s.t, "%v", err)
	}
	return int(n)
}

func (s *script) walk() string {
	s.t.Helper()
	wal := s.wal
	if wal == nil {
		wal = s.w.Bytes()
	}
	wal = wal[s.begin-s.w.Start():]
	whole := s.feed(slices.Values([][]byte{wal}))
	for _, n := range []int{1, 7, 24, 4096, 8192} {
		if got := s.feed(slices.Chunk(wal, n)); got != whole {
			s.d.Fatalf(s.t, "in pieces of %d bytes:\n%s\nwhole:\n%s", n, got, whole)
		}
	}
	return whole
}

// feed walks the pieces and describes what was found.
func (s *script) feed(pieces iter.Seq[[]byte]) string {
	w := pg.NewWalker(s.size)
	w.Reset(s.begin, s.last)
	var out strings.Builder
	err := eachRecord(w, pieces, func() { fmt.Fprintf(&out, "%s to %s\n", w.LastRecord(), w.RecordEnd()) })
	if err != nil {
		fmt.Fprintln(&out, err)
	}
	where := "between records"
	if w.InRecord() {
		where = "in a record"
	}
	fmt.Fprintf(&out, "at %s, %s; record end %s\n", w.Position(), where, w.RecordEnd())
	return out.String()
}

// eachRecord feeds the pieces to w and calls found after each record.
func eachRecord(w *pg.Walker, pieces iter.Seq[[]byte], found func()) error {
	for p := range pieces {
		for len(p) > 0 {
			last := w.LastRecord()
			n, err := w.Next(p)
			if w.LastRecord() != last {
				found()
			}
			if err != nil {
				return err
			}
			p = p[n:]
		}
	}
	return nil
}

// randomPieces cuts p at random, into pieces of all sizes up to a few pages.
func randomPieces(p []byte, seed uint64) iter.Seq[[]byte] {
	r := rand.New(rand.NewPCG(seed, 1))
	return func(yield func([]byte) bool) {
		for rest := p; len(rest) > 0; {
			n := min(len(rest), 1+r.IntN(1<<r.IntN(16)))
			if !yield(rest[:n]) {
				return
			}
			rest = rest[n:]
		}
	}
}

func TestWalkerTellsWhoWroteTheWAL(t *testing.T) {
	for magic, major := range map[uint16]int{
		0xD106: 13, 0xD10D: 14, 0xD110: 15, 0xD113: 16, 0xD116: 17, 0xD118: 18, 0xD107: 0, 0xD119: 0, 0xD1FF: 0,
	} {
		wal := pgtest.NewWriter(0x1000000, mib, 1, 42)
		wal.SetMagic(magic)
		wal.Record(100)
		w := pg.NewWalker(mib)
		w.Reset(0x1000000, 0)
		if id, ok := w.SystemID(); ok || w.Magic() != 0 || w.MajorVersion() != 0 {
			t.Errorf("before the first page: system %d, magic %X, major version %d", id, w.Magic(), w.MajorVersion())
		}
		if err := w.Write(wal.Bytes()); err != nil {
			t.Fatalf("magic %X: %v", magic, err)
		}
		if id, ok := w.SystemID(); !ok || id != 42 || w.Magic() != magic || w.MajorVersion() != major {
			t.Errorf("magic %X: system %d, %t, magic %X, major version %d, want %d", magic, id, ok, w.Magic(), w.MajorVersion(), major)
		}
	}
}

func TestWalkerErrorSticksUntilReset(t *testing.T) {
	wal := pgtest.NewWriter(0x1000000, mib, 1, 1)
	first := wal.Record(100)
	bad := slices.Clone(wal.Bytes())
	wal.Record(50)
	good := wal.Bytes()[len(bad):]

	w := pg.NewWalker(mib)
	w.Reset(0x1000000, 0)
	err := w.Write(append(bad, make([]byte, 50)...))
	if err == nil {
		t.Fatal("zeros are a record")
	}
	if again := w.Write(good); !errors.Is(again, err) || !errors.Is(w.Err(), err) || w.RecordEnd() != first.End {
		t.Errorf("after %v: %v, Err %v, record end %s", err, again, w.Err(), w.RecordEnd())
	}
	w.Reset(first.End, first.Start)
	if err := w.Write(good); err != nil || w.RecordEnd() != wal.End() {
		t.Errorf("after Reset: %v, record end %s, want %s", err, w.RecordEnd(), wal.End())
	}
}

func TestWalkerCloneGoesItsOwnWay(t *testing.T) {
	wal := pgtest.NewWriter(0x1000000, mib, 1, 1)
	wal.Record(20000)
	last := wal.Record(20000)
	half := len(wal.Bytes()) / 2
	w := pg.NewWalker(mib)
	w.Reset(0x1000000, 0)
	if err := w.Write(wal.Bytes()[:half]); err != nil {
		t.Fatal(err)
	}
	clone := w.Clone()
	if err := w.Write(make([]byte, 20000)); err == nil {
		t.Error("zeros are a record")
	}
	if err := clone.Write(wal.Bytes()[half:]); err != nil || clone.RecordEnd() != last.End || clone.LastRecord() != last.Start {
		t.Errorf("clone: %v, last record %s to %s, want %v", err, clone.LastRecord(), clone.RecordEnd(), last)
	}
}

func TestWalkerStandsWhereResetSays(t *testing.T) {
	w := pg.NewWalker(mib)
	w.Reset(0x1002000, 0x1001FD8)
	if w.Position() != 0x1002000 || w.RecordEnd() != 0x1002000 || w.LastRecord() != 0x1001FD8 || w.InRecord() {
		t.Errorf("with a last record: at %s, record end %s, last record %s", w.Position(), w.RecordEnd(), w.LastRecord())
	}
	w.Reset(0x1002000, 0)
	if w.Position() != 0x1002000 || w.RecordEnd() != 0 || w.LastRecord() != 0 || w.InRecord() {
		t.Errorf("without: at %s, record end %s, last record %s", w.Position(), w.RecordEnd(), w.LastRecord())
	}
	for _, lsn := range []pg.LSN{0x1000018, 0x1000020, 0x1002010, 0x100001C, 0x1002029} {
		if w.Reset(lsn, 0); w.Write([]byte{1}) == nil {
			t.Errorf("a record starts at %s", lsn)
		}
	}
}

func TestWalkerDoesNotAllocate(t *testing.T) {
	wal := mixedWAL(4 << 20)
	w := pg.NewWalker(mib)
	if n := testing.AllocsPerRun(3, func() {
		w.Reset(wal.Start(), 0)
		for piece := range slices.Chunk(wal.Bytes(), 1000) {
			if err := w.Write(piece); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// mixedWAL is about as a busy server writes it: mostly small records, an image of a page now and then.
func mixedWAL(size int) *pgtest.Writer {
	wal := pgtest.NewWriter(0x1000000, mib, 1, 1)
	r := rand.New(rand.NewPCG(1, 2))
	for len(wal.Bytes()) < size {
		if r.IntN(20) == 0 {
			wal.Record(2000 + r.IntN(6200))
		} else {
			wal.Record(34 + r.IntN(200))
		}
	}
	return wal
}

func BenchmarkWalker(b *testing.B) {
	big := pgtest.NewWriter(0x1000000, mib, 1, 1)
	big.Record(16 << 20)
	rows := pgtest.NewWriter(0x1000000, mib, 1, 1)
	for len(rows.Bytes()) < 16<<20 {
		rows.Record(330)
	}
	for name, wal := range map[string]*pgtest.Writer{"mixed": mixedWAL(16 << 20), "one-record": big, "rows": rows} {
		b.Run(name, func(b *testing.B) {
			w := pg.NewWalker(mib)
			b.SetBytes(int64(len(wal.Bytes())))
			b.ReportAllocs()
			for b.Loop() {
				w.Reset(wal.Start(), 0)
				if err := w.Write(wal.Bytes()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
