package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/sluicewal/sluice/internal/pg"
)

// verifier holds a segment's records against their checksums before it is handed out. A recovery that meets a wrong checksum
// takes it for the end of WAL: it stops there without an error, and promotes.
//
// The records that cross the segment's borders count, too. What the segment begins with is verified from where its record
// starts, in the segments below; what it ends with, from the segment above. Otherwise a bad copy could be handed out, and
// the next segment come from a good one, in which nobody sees it.
//
// Of a segment out of object storage ([Stored]) the SHA-256 says that it is what was uploaded. The records are walked all the
// same: the disk that it was uploaded from may have changed it before, which no checksum of the object can tell, and the
// walk costs less than the fetch. The segments beside it are not fetched for the two records that cross the borders; that
// would triple what a restore has to bring.
type verifier struct {
	place    Place
	history  pg.History // of the place: which TLI has which bytes
	systemID uint64     // of the cluster; zero: not known
	file     File
	alone    bool // the segments beside it are left alone
	buf      []byte
}

// DamagedError says that WAL is not what was written.
type DamagedError struct {
	File string
	Err  error
}

func (e *DamagedError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.File, e.Err) }

// Unwrap returns what is wrong.
func (e *DamagedError) Unwrap() error { return e.Err }

// verify reads the segment up to an LSN and writes what it read to sum. The error is a *DamagedError, or says what could not
// be read.
func (v *verifier) verify(ctx context.Context, seg Segment, upTo pg.LSN, sum io.Writer) error {
	w := pg.NewWalker(v.file.Size)
	if err := v.approach(ctx, seg, w); err != nil {
		return v.damaged(err)
	}
	if err := v.feed(ctx, w, seg, upTo, sum); err != nil {
		return v.damaged(err)
	}
	if err := v.leave(ctx, w, upTo); err != nil {
		return v.damaged(err)
	}
	if id, found := w.SystemID(); found && v.systemID != 0 && id != v.systemID {
		return &DamagedError{v.file.Name(), fmt.Errorf("it belongs to the cluster %d, and the timeline to %d", id, v.systemID)}
	}
	return nil
}

func (v *verifier) damaged(err error) error {
	var bad *pg.RecordError
	if errors.As(err, &bad) || errors.Is(err, errNotRecordEnd) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &DamagedError{File: v.file.Name(), Err: err}
	}
	return fmt.Errorf("read %s: %w", v.file.Name(), err)
}

// approach brings the walker to the segment's start, in the record that it begins with.
func (v *verifier) approach(ctx context.Context, seg Segment, w *pg.Walker) error {
	start := v.file.Start()
	w.Reset(start, 0)
	probe := w.Clone()
	if err := v.feed(ctx, probe, seg, start+pageHeaderBytes, io.Discard); err != nil || v.alone || !probe.InRecord() {
		return err
	}
	for back := leadPages * pg.LSN(pageBytes); ; back *= 16 {
		from := start - min(back, start)
		w.Reset(from, 0)
		err := v.walkTo(ctx, w, start)
		if errors.Is(err, fs.ErrNotExist) {
			// Nothing below is held, and so nobody can have replayed the beginning of this record from here.
			w.Reset(start, 0)
			return nil
		}
		if err != nil || w.LastRecord() != 0 || from == 0 {
			return err
		}
	}
}

const (
	pageBytes       = 8192 // XLOG_BLCKSZ
	pageHeaderBytes = 40   // SizeOfXLogLongPHD
	// leadPages is how far below a segment the start of its first record is looked for at first. Most are shorter; an
	// operation that logs whole pages of a table may need more.
	leadPages = 16
)

// walkTo feeds what the segments below hold.
func (v *verifier) walkTo(ctx context.Context, w *pg.Walker, to pg.LSN) error {
	for w.Position() < to {
		n := v.file.Size.SegNo(w.Position())
		border := v.file.Size.Start(n + 1)
		if err := v.walkSegment(ctx, w, v.tliAt(border-1), n, border); err != nil {
			return err
		}
	}
	return nil
}

// tliAt returns the TLI that has the byte at lsn, of those that lead to the file's own.
func (v *verifier) tliAt(lsn pg.LSN) pg.TLI { return min(v.history.At(lsn), v.file.TLI) }

func (v *verifier) walkSegment(ctx context.Context, w *pg.Walker, tli pg.TLI, n pg.SegNo, to pg.LSN) error {
	seg, err := v.place.OpenSegment(ctx, tli, n)
	if err != nil {
		return err
	}
	defer func() { _ = seg.Close() }() // only read
	return v.feed(ctx, w, seg, to, io.Discard)
}

var errNotRecordEnd = errors.New("no record ends where the WAL does")

// leave looks at how the segment ends: with a record, or, if it is handed out whole, inside one that the next segment
// completes. What was not received yet cannot be verified, and is nobody's yet.
func (v *verifier) leave(ctx context.Context, w *pg.Walker, upTo pg.LSN) error {
	if !w.InRecord() {
		return nil
	}
	if upTo < v.file.End() {
		return fmt.Errorf("at %s: %w", upTo, errNotRecordEnd)
	}
	if v.alone {
		return nil
	}
	err := v.finishRecord(ctx, w, v.file.TLI)
	if errors.Is(err, fs.ErrNotExist) {
		// A child that forks in the next segment has the parent's bytes in its own.
		err = v.finishRecord(ctx, w, v.history.At(w.Position()+pg.LSN(v.file.Size)-1))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// recordEnd returns the end of the last record, of those below upTo, that is complete; the segment's start if none is.
func (v *verifier) recordEnd(ctx context.Context, seg Segment, upTo pg.LSN) (pg.LSN, error) {
	w := pg.NewWalker(v.file.Size)
	w.Reset(v.file.Start(), 0)
	if err := v.feed(ctx, w, seg, upTo, io.Discard); err != nil {
		return 0, v.damaged(err)
	}
	switch end := w.RecordEnd(); {
	case end != 0:
		return end, nil
	case w.InRecord():
		return v.file.Start(), nil
	}
	return upTo, nil // all there is is the end of a record that began below
}

// finishRecord reads on until the record in progress is complete, or nothing more is held.
func (v *verifier) finishRecord(ctx context.Context, w *pg.Walker, tli pg.TLI) error {
	for last := w.LastRecord(); w.InRecord() && w.LastRecord() == last; {
		n := v.file.Size.SegNo(w.Position())
		seg, err := v.place.OpenSegment(ctx, tli, n)
		if err != nil {
			return err
		}
		border := v.file.Size.Start(n + 1)
		err = v.finishIn(w, seg, min(seg.End(), border))
		if err := errors.Join(err, seg.Close()); err != nil || w.Position() < border {
			return err
		}
	}
	return nil
}

func (v *verifier) finishIn(w *pg.Walker, seg Segment, to pg.LSN) error {
	for last := w.LastRecord(); w.Position() < to && w.LastRecord() == last; {
		b := v.buf[:min(pageBytes, int(to-w.Position()))]
		if n, err := seg.ReadAt(b, v.file.Size.Offset(w.Position())); n < len(b) {
			return short(err)
		}
		if _, err := w.Next(b); err != nil {
			return err
		}
	}
	return nil
}

// feed gives the walker, and sum, a segment's bytes from where it stands.
func (v *verifier) feed(ctx context.Context, w *pg.Walker, seg Segment, to pg.LSN, sum io.Writer) error {
	for w.Position() < to {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b := v.buf[:min(len(v.buf), int(to-w.Position()))]
		if n, err := seg.ReadAt(b, v.file.Size.Offset(w.Position())); n < len(b) {
			return short(err)
		}
		if err := w.Write(b); err != nil {
			return err
		}
		if _, err := sum.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// short names the end of a file that should go on.
func short(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
