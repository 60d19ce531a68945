package keeper

import (
	"fmt"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/wal"
)

// checkedSegment holds the records of a local segment against their checksums
// while it is read from beginning to end: bytes that went bad on the disk must not
// become the copy that outlives it.
//
// The record that a segment begins with is not verified here, only by whoever
// restores it: what it began with lies in the segment below.
type checkedSegment struct {
	r      *wal.SegmentReader
	walker *pg.Walker
	next   int64
}

// ReadAt implements io.ReaderAt.
func (c *checkedSegment) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(p, off)
	if off == 0 {
		c.next = 0
		c.walker.Reset(c.r.Start(), 0)
	}
	if off != c.next || n == 0 {
		return n, err // read once more, in parts; the digest is of what was read before
	}
	c.next += int64(n)
	if bad := c.walker.Write(p[:n]); bad != nil {
		return 0, fmt.Errorf("segment %s is damaged on the local disk: %w", c.r.Info().Name, bad)
	}
	return n, err
}

// Close lets go of the file.
func (c *checkedSegment) Close() error { return c.r.Close() }
