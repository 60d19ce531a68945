package backup

import (
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Compression is how the segments of an incarnation are stored. It is decided once, with the identity.
type Compression string

// The compressions.
const (
	Zstd Compression = "zstd"
	LZ4  Compression = "lz4"
	None Compression = "none"
)

// Valid reports whether it is one of them.
func (c Compression) Valid() bool { return c == Zstd || c == LZ4 || c == None }

// suffix ends the names of objects.
func (c Compression) suffix() string {
	switch c {
	case Zstd:
		return ".zst"
	case LZ4:
		return ".lz4"
	}
	return ""
}

// labelled reports whether objects begin with a label. Without compression they are the segment and nothing else, for
// tools that know nothing of Sluice.
func (c Compression) labelled() bool { return c == Zstd || c == LZ4 }

// maxWindowBytes bounds what a decoder allocates for an object that says it needs so much. Ours need 4 MiB.
const maxWindowBytes = 64 << 20

// encoder returns a writer that compresses; Close ends the frame.
func (c Compression) encoder(w io.Writer) (io.WriteCloser, error) {
	switch c {
	case Zstd:
		return takeZstd(w)
	case LZ4:
		return lz4.NewWriter(w), nil
	case None:
		return asIs{w}, nil
	}
	return nil, fmt.Errorf("compression %q: want zstd, lz4 or none", c)
}

// decoder returns a reader of what an encoder wrote; Close frees it. An empty input is empty, and no error: whoever reads
// must know how much to expect.
func (c Compression) decoder(r io.Reader) (io.ReadCloser, error) {
	switch c {
	case Zstd:
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindowBytes))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case LZ4:
		return io.NopCloser(lz4.NewReader(r)), nil
	case None:
		return io.NopCloser(r), nil
	}
	return nil, fmt.Errorf("compression %q: want zstd, lz4 or none", c)
}

// zstdEncoders are used again: each has some 10 MiB of tables and history, and to get that from the kernel, page by page, takes
// as long as to compress a segment.
var zstdEncoders sync.Pool

// pooledZstd is an encoder that goes back when it is closed. One that is not closed, after an error, is left to the collector.
type pooledZstd struct{ *zstd.Encoder }

func takeZstd(w io.Writer) (io.WriteCloser, error) {
	if e, ok := zstdEncoders.Get().(*zstd.Encoder); ok {
		e.Reset(w)
		return pooledZstd{e}, nil
	}
	e, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return pooledZstd{e}, nil
}

func (p pooledZstd) Close() error {
	err := p.Encoder.Close()
	p.Reset(nil)
	zstdEncoders.Put(p.Encoder)
	return err
}

type asIs struct{ io.Writer }

func (asIs) Close() error { return nil }
