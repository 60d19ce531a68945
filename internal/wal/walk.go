package wal

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/sluicewal/sluice/internal/pg"
)

// chunkBytes is how much is read or written at once where files are gone through.
const chunkBytes = 256 << 10

// forever is an LSN that no WAL reaches.
const forever = pg.LSN(math.MaxUint64)

// walk feeds the walker what the files hold from where it stands, up to until. It ends without an error where a file is
// missing or short; the error is a [*pg.RecordError] where the bytes are no WAL.
func (d disk) walk(g lineage, w *pg.Walker, until pg.LSN) error {
	for w.Position() < until {
		info, found := g.file(d.size.SegNo(w.Position()))
		if !found {
			return nil
		}
		limit := min(until, d.size.Start(info.SegNo+1))
		if err := d.walkFile(info, w, limit); err != nil {
			return err
		}
		if w.Position() < limit {
			return nil
		}
	}
	return nil
}

// walkFile is walk within one segment.
func (d disk) walkFile(info SegmentInfo, w *pg.Walker, limit pg.LSN) (err error) {
	f, err := d.open(info.id())
	if err != nil {
		return fmt.Errorf("walk segment: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	from := d.size.Offset(w.Position())
	r := io.NewSectionReader(f, from, int64(limit-w.Position()))
	b := make([]byte, min(chunkBytes, r.Size()))
	for {
		n, err := r.Read(b)
		if err := w.Write(b[:n]); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("walk segment: %w", err)
		}
	}
}

// open opens a segment's file for reading. A sync may give it its final name at any moment, and a recovery take that away.
func (d disk) open(id segmentID) (f File, err error) {
	for _, name := range []string{d.name(id), d.partialName(id), d.name(id)} {
		f, err = d.fs.Open(d.path(name))
		if err == nil || !isNotExist(err) {
			return f, err
		}
	}
	return nil, err
}

// approach returns a walker at the start of segment n that knows, if the files below allow it, which record is in progress
// there and which was the last. A segment alone would not do: what it begins with may be the rest of a record, which nothing
// in it can verify.
func (d disk) approach(g lineage, n pg.SegNo) (*pg.Walker, error) {
	w, lowest := pg.NewWalker(d.size), g.lowest(n)
	for back := pg.SegNo(1); ; back *= 2 { // doubled, so that a record over many segments is not read over and over
		from := n - min(back, n-lowest)
		w.Reset(d.size.Start(from), 0)
		if err := d.walk(g, w, d.size.Start(n)); err != nil {
			return w, err
		}
		if w.LastRecord() != 0 || from == lowest {
			return w, nil
		}
	}
}

// lowest returns the first segment of the unbroken run that ends before n; n itself if there is none.
func (g lineage) lowest(n pg.SegNo) pg.SegNo {
	for n > 0 && g.has(n-1) {
		n--
	}
	return n
}

func (g lineage) has(n pg.SegNo) bool {
	_, found := g.file(n)
	return found
}
