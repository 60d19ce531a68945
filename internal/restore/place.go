package restore

import (
	"context"
	"io"

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

// Segment is the file of a segment, whole or in the making.
type Segment interface {
	io.ReaderAt
	io.Closer
	// End returns the LSN behind the last durable byte.
	End() pg.LSN
}
