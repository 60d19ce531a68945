package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/sluicewal/sluice/internal/pg"
)

// Body is the content of a file that may be handed out. One goroutine reads it, once; it must be closed.
type Body struct {
	Size   int64             // in bytes
	Digest [sha256.Size]byte // SHA-256 of the content
	r      io.Reader
	close  func() error
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) { return b.r.Read(p) }

// Close lets go of what the content comes from.
func (b *Body) Close() error { return b.close() }

// historyBody returns a history file, if it is one.
func historyBody(raw []byte, tli pg.TLI) (*Body, error) {
	if _, err := pg.ParseHistory(tli, raw); err != nil {
		return nil, &DamagedError{File: pg.HistoryName(tli), Err: err}
	}
	return &Body{
		Size: int64(len(raw)), Digest: sha256.Sum256(raw),
		r: bytes.NewReader(raw), close: func() error { return nil },
	}, nil
}

// segmentBody returns a segment up to an LSN and zeros above, verified. It is read twice: once to verify and sum it, once by
// whoever takes it; in between it is in the page cache. Closing the body closes the segment.
func segmentBody(ctx context.Context, v *verifier, seg Segment, upTo pg.LSN) (*Body, error) {
	sum := sha256.New()
	if err := v.verify(ctx, seg, upTo, sum); err != nil {
		return nil, err
	}
	size, filled := int64(v.file.Size), int64(upTo-v.file.Start())
	if _, err := io.Copy(sum, zeros(size-filled)); err != nil {
		return nil, fmt.Errorf("sum %s: %w", v.file.Name(), err)
	}
	b := &Body{
		Size: size, close: seg.Close,
		r: io.MultiReader(io.NewSectionReader(seg, 0, filled), zeros(size-filled)),
	}
	sum.Sum(b.Digest[:0])
	return b, nil
}

func zeros(n int64) io.Reader { return io.LimitReader(zeroReader{}, n) }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
