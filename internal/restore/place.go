package restore

import (
	"context"
	"io"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Place is where WAL is kept: a node's log, or the object store.
type Place interface {
	// Answer tells what the place has of a file, and knows. Its From names the place, also beside an error, and is
	// different for each place that is asked.
	Answer(ctx context.Context, f File) Answer
	// OpenSegment opens a segment for reading and keeps it from removal; fs.ErrNotExist if it is not there.
	OpenSegment(ctx context.Context, tli pg.TLI, n pg.SegNo) (Segment, error)
	// History returns a TLI's history file; fs.ErrNotExist if it is not there.
	History(ctx context.Context, tli pg.TLI) ([]byte, error)
}

// Segment is the file of a segment, whole or in the making. What is read above its End does not count.
type Segment interface {
	io.ReaderAt
	io.Closer
	// End returns the LSN behind the last durable byte.
	End() pg.LSN
}

// Stored is a segment out of object storage. Its bytes are those that were stored, by a checksum over all of them.
type Stored interface {
	Segment
	// StoredBy tells, of a segment that was open, which node stored it and when.
	StoredBy() (node string, at time.Time)
}

// padded is a segment in which zeros follow the last durable byte.
type padded struct {
	Segment
	start pg.LSN
}

// ReadAt implements io.ReaderAt.
func (p padded) ReadAt(b []byte, offset int64) (int, error) {
	durable := min(int64(len(b)), max(0, int64(p.End()-p.start)-offset))
	if n, err := p.Segment.ReadAt(b[:durable], offset); int64(n) < durable {
		return n, err
	}
	clear(b[durable:])
	return len(b), nil
}
