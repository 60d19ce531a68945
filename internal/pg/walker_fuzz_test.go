package pg_test

import (
	"slices"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
)

// FuzzWalkerBytes feeds whatever comes: nothing panics, and the pieces do not matter.
func FuzzWalkerBytes(f *testing.F) {
	wal, _ := writeOps([]byte{9, opLeave16, 9, 9, opFillPage, 9, opGiveUp, 9})
	f.Add(uint64(0x1000000), uint64(0), wal.Bytes()[:100])
	f.Add(uint64(0x1000000), uint64(0xFFFFF0), wal.Bytes()[:200])
	f.Add(uint64(0x1001FF0), uint64(0), wal.Bytes()[0x1FF0:0x2100])
	f.Add(uint64(0x1002000), uint64(0), wal.Bytes()[0x2000:0x2100])
	f.Add(uint64(0x1000000), uint64(1), make([]byte, 8192))
	f.Add(uint64(1<<64-8192), uint64(0), make([]byte, 100))
	f.Fuzz(func(t *testing.T, lsn, last uint64, wal []byte) {
		whole, pieces := pg.NewWalker(mib), pg.NewWalker(mib)
		whole.Reset(pg.LSN(lsn), pg.LSN(last))
		pieces.Reset(pg.LSN(lsn), pg.LSN(last))
		_ = whole.Write(wal)
		_ = eachRecord(pieces, randomPieces(wal, lsn), func() {})
		if outcome(whole) != outcome(pieces) {
			t.Errorf("whole:     %+v\nin pieces: %+v", outcome(whole), outcome(pieces))
		}
	})
}

type walked struct {
	position, recordEnd, lastRecord pg.LSN
	inRecord                        bool
	err                             string
}

func outcome(w *pg.Walker) walked {
	o := walked{position: w.Position(), recordEnd: w.RecordEnd(), lastRecord: w.LastRecord(), inRecord: w.InRecord()}
	if err := w.Err(); err != nil {
		o.err = err.Error()
	}
	return o
}

// FuzzWalkerFindsRecords lets the fuzzer choose the records, and a byte to damage behind the first. Every record that ends
// below the damage is found, and none is found that was not written: a checksum of 32 bits catches whatever one byte can do,
// and xl_prev that a damaged length made a page border seem to be inside a record that was given up there.
func FuzzWalkerFindsRecords(f *testing.F) {
	f.Add([]byte{100, opLeave8, 50, opLeave16, 51}, uint32(8192), byte(0xFF))
	f.Add([]byte{opFillPage, 9, opLong, opSwitch, 60}, uint32(100), byte(1))
	f.Add([]byte{opLeave8, opSwitch, opGiveUp, opGiveUp, 200}, uint32(9000), byte(0))
	f.Fuzz(func(t *testing.T, ops []byte, at uint32, flip byte) {
		wal, written := writeOps(ops[:min(len(ops), 40)])
		b := slices.Clone(wal.Bytes())
		damaged := written[0].End + pg.LSN(at)
		if damaged < wal.End() {
			b[damaged-wal.Start()] ^= flip
		}
		found := recordsIn(b, wal.Start(), uint64(at))
		if (flip == 0 || damaged >= wal.End()) && !slices.Equal(found, written) {
			t.Fatalf("found %v\nwritten %v", found, written)
		}
		if len(found) > len(written) || !slices.Equal(found, written[:len(found)]) {
			t.Fatalf("damage at %s: found %v\nwritten %v", damaged, found, written)
		}
		if len(found) < len(written) && written[len(found)].End <= damaged {
			t.Fatalf("damage at %s: record %v was not found", damaged, written[len(found)])
		}
	})
}

// recordsIn walks WAL in random pieces, up to its first error.
func recordsIn(b []byte, lsn pg.LSN, seed uint64) []pgtest.Record {
	var found []pgtest.Record
	w := pg.NewWalker(mib)
	w.Reset(lsn, 0)
	_ = eachRecord(w, randomPieces(b, seed), func() {
		found = append(found, pgtest.Record{Start: w.LastRecord(), End: w.RecordEnd()})
	})
	return found
}

const (
	opSwitch   = 0
	opFillPage = 1 // a record that ends on a page border
	opLeave8   = 2 // one that leaves eight bytes of its page
	opLeave16  = 3
	opLong     = 4 // one that is longer than a segment
	opGiveUp   = 5 // one that a crash cuts off
)

// writeOps makes a record, another of each byte, and returns those that should be found. Bytes that are no op are lengths.
func writeOps(ops []byte) (*pgtest.Writer, []pgtest.Record) {
	wal := pgtest.NewWriter(0x1000000, mib, 1, 1)
	written := []pgtest.Record{wal.Record(24)}
	for _, op := range ops {
		switch op {
		case opSwitch:
			written = append(written, wal.Switch())
		case opFillPage:
			written = append(written, wal.RecordTo(nearPageEnd(wal, 0)))
		case opLeave8:
			written = append(written, wal.RecordTo(nearPageEnd(wal, 8)))
		case opLeave16:
			written = append(written, wal.RecordTo(nearPageEnd(wal, 16)))
		case opLong:
			written = append(written, wal.Record(1100000))
		case opGiveUp:
			r := wal.Record(20000)
			wal.GiveUp((r.Start/8192 + 1) * 8192)
		default:
			written = append(written, wal.Record(24+int(op)*9))
		}
	}
	return wal, written
}

// nearPageEnd returns the next place that leaves so many bytes of its page, with room for a record before it.
func nearPageEnd(wal *pgtest.Writer, left pg.LSN) pg.LSN {
	const room = 128
	return (wal.End()+room+left)/8192*8192 + 8192 - left
}
