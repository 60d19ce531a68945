// Package pgtest writes WAL as PostgreSQL lays it out, for tests that need bytes with known records and no server.
//
// It is written from the other end than pg.Walker, and shares no code with it; both are held against a real server in the
// tests of package pg.
package pgtest

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"

	"github.com/sluicewal/sluice/internal/pg"
)

const (
	pageSize         = 8192
	recordHeaderSize = 24
	alignment        = 8
)

// Magic is PostgreSQL 15's.
const Magic = 0xD110

// Record is where a record stands: from its first byte to what PostgreSQL calls EndRecPtr.
type Record struct {
	Start, End pg.LSN
}

// Writer appends records to WAL in memory. Its bytes are the same in each run.
type Writer struct {
	size     pg.SegmentSize
	tli      pg.TLI
	systemID uint64
	magic    uint16

	start    pg.LSN // of buf
	buf      []byte
	last     Record
	lastPrev pg.LSN // xl_prev of last
	prev     pg.LSN // xl_prev of the next record
	flags    uint16 // of the next page's header
	body     *rand.ChaCha8
}

// NewWriter starts at lsn, a page border, on a TLI of the cluster with that system identifier.
func NewWriter(lsn pg.LSN, size pg.SegmentSize, tli pg.TLI, systemID uint64) *Writer {
	if lsn%pageSize != 0 || !size.Valid() {
		panic(fmt.Sprintf("pgtest: cannot write from %s with segments of %s", lsn, size))
	}
	return &Writer{size: size, tli: tli, systemID: systemID, magic: Magic, start: lsn, body: rand.NewChaCha8([32]byte{byte(tli)})}
}

// SetMagic makes the following pages those of another server version.
func (w *Writer) SetMagic(magic uint16) { w.magic = magic }

// Bytes returns all that was written so far. The caller may change it, and keep it as it is then by cloning it.
func (w *Writer) Bytes() []byte { return w.buf }

// Start returns the LSN of the first byte.
func (w *Writer) Start() pg.LSN { return w.start }

// End returns the LSN behind the last byte.
func (w *Writer) End() pg.LSN { return w.start + pg.LSN(len(w.buf)) }

// Record appends a record of total bytes, at least 24, header included. What it says is nonsense, what frames it is right.
func (w *Writer) Record(total int) Record {
	record := make([]byte, total)
	_, _ = w.body.Read(record[recordHeaderSize:]) // never fails
	return w.append(record, 0, 10)                // HEAP, INSERT
}

// RecordTo appends a record that ends at end, which must leave room for one.
func (w *Writer) RecordTo(end pg.LSN) Record {
	room := 0
	for at := w.End(); at < end; {
		if at%pageSize == 0 {
			at += pg.LSN(w.headerSize(at))
		}
		next := min(end, at-at%pageSize+pageSize)
		room += int(next - at)
		at = next
	}
	return w.Record(room)
}

// Switch appends what pg_switch_wal does: the record, and zeros to the segment's end.
func (w *Writer) Switch() Record {
	r := w.append(make([]byte, recordHeaderSize), 0x40, 0)
	if offset := w.size.Offset(r.End); offset != 0 {
		r.End += pg.LSN(int64(w.size) - offset)
	}
	w.buf = append(w.buf, make([]byte, r.End-w.End())...)
	w.last = r
	return r
}

// GiveUp drops what stands from lsn on, a page border inside the last record. The next page then says that this record was
// lost in a crash, as PostgreSQL's CreateOverwriteContrecordRecord does.
func (w *Writer) GiveUp(lsn pg.LSN) {
	if lsn%pageSize != 0 || lsn <= w.last.Start || lsn >= w.last.End {
		panic(fmt.Sprintf("pgtest: %s is no page border inside %v", lsn, w.last))
	}
	w.buf = w.buf[:lsn-w.start]
	w.prev = w.lastPrev
	w.flags = 0x0008
}

// Promote goes on as another TLI from here. Pages that have begun keep their TLI, as on a real server.
func (w *Writer) Promote(tli pg.TLI) { w.tli = tli }

// Fork returns a writer that goes on from here by itself, as another TLI or, for a source that was copied, as the same one.
// What it appends differs from what w does.
func (w *Writer) Fork(tli pg.TLI) *Writer {
	c := *w
	c.buf = slices.Clone(w.buf)
	c.body = rand.NewChaCha8([32]byte{byte(tli), 1})
	c.Promote(tli)
	return &c
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// append completes the record's header and puts it into the pages.
func (w *Writer) append(record []byte, info, rmid byte) Record {
	le := binary.LittleEndian
	le.PutUint32(record[0:], uint32(len(record)))
	le.PutUint32(record[4:], 742) // xl_xid
	le.PutUint64(record[8:], uint64(w.prev))
	record[16], record[17] = info, rmid
	crc := crc32.Update(crc32.Checksum(record[recordHeaderSize:], castagnoli), castagnoli, record[:20])
	le.PutUint32(record[20:], crc)

	if w.End()%pageSize == 0 {
		w.pageHeader(0)
	}
	start := w.End()
	w.put(record)
	w.buf = append(w.buf, make([]byte, -w.End()%alignment)...)
	w.last, w.lastPrev, w.prev = Record{Start: start, End: w.End()}, w.prev, start
	return w.last
}

// put appends a record's bytes, with a header wherever a page begins among them.
func (w *Writer) put(record []byte) {
	for {
		n := min(len(record), pageSize-int(w.End()%pageSize))
		w.buf = append(w.buf, record[:n]...)
		record = record[n:]
		if len(record) == 0 {
			return
		}
		w.pageHeader(uint32(len(record)))
	}
}

func (w *Writer) headerSize(lsn pg.LSN) int {
	if w.size.Offset(lsn) == 0 {
		return 40
	}
	return 24
}

// pageHeader begins a page with remaining bytes of the record that stands before it.
func (w *Writer) pageHeader(remaining uint32) {
	le := binary.LittleEndian
	h := make([]byte, w.headerSize(w.End()))
	info := w.flags
	if remaining > 0 {
		info |= 0x0001
	}
	if len(h) == 40 {
		info |= 0x0002
		le.PutUint64(h[24:], w.systemID)
		le.PutUint32(h[32:], uint32(w.size))
		le.PutUint32(h[36:], pageSize)
	}
	le.PutUint16(h[0:], w.magic)
	le.PutUint16(h[2:], info)
	le.PutUint32(h[4:], uint32(w.tli))
	le.PutUint64(h[8:], uint64(w.End()))
	le.PutUint32(h[16:], remaining)
	w.buf = append(w.buf, h...)
	w.flags = 0
}
