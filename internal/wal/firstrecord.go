package wal

import (
	"crypto/sha256"
	"errors"
	"io"

	"github.com/sluicewal/sluice/internal/pg"
)

// ErrNoRecord says that the record that was asked for is not durable as a whole yet.
var ErrNoRecord = errors.New("no complete record is held there yet")

// maxFirstRecordBytes bounds what is read for a record that tells a promotion from another: a server writes an end of recovery or
// a checkpoint first, and both are small.
const maxFirstRecordBytes = 1 << 20

// FirstRecord returns the SHA-256 of the WAL of a TLI from lsn, where it leaves its parent, to the end of the first record there.
// Two servers that were promoted at one LSN choose one TLI and write the same history; this record has the time of the promotion,
// and tells them apart.
//
// It is ErrNoRecord while that record is not durable as a whole, and fs.ErrNotExist where its segment is not held (any more).
func (l *Log) FirstRecord(tli pg.TLI, lsn pg.LSN) ([]byte, error) {
	w, sum := pg.NewWalker(l.size), sha256.New()
	w.Reset(lsn, 0)
	for read := int64(0); read < maxFirstRecordBytes; {
		p, err := l.readDurable(tli, w.Position())
		if err != nil {
			return nil, err
		}
		n, err := w.Next(p)
		if err != nil {
			return nil, err
		}
		_, _ = sum.Write(p[:n]) // never fails
		if w.RecordEnd() != 0 {
			return sum.Sum(nil), nil
		}
		read += int64(n)
	}
	return nil, &pg.RecordError{LSN: lsn, Reason: "the first record of the TLI is longer than any that a promotion writes"}
}

// readDurable returns the next bytes of a TLI that are durable, a page at the most, and at least one.
func (l *Log) readDurable(tli pg.TLI, lsn pg.LSN) ([]byte, error) {
	r, err := l.OpenSegment(tli, l.size.SegNo(lsn))
	if err != nil {
		return nil, err
	}
	p := make([]byte, firstRecordChunk)
	n, err := r.ReadAt(p, l.size.Offset(lsn))
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err == nil && n == 0 {
		err = ErrNoRecord
	}
	return p[:n], errors.Join(err, r.Close())
}

const firstRecordChunk = 8 << 10
