package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/sluicewal/sluice/internal/pg"
)

// SegmentReader reads one segment's file. While it is open, [Log.Remove] leaves the file alone. ReadAt and Durable may be
// called at once, and while the segment grows.
type SegmentReader struct {
	info    SegmentInfo
	file    File
	start   pg.LSN
	durable func() pg.LSN
	release func()
	once    sync.Once
	err     error
}

// OpenSegment opens a segment, complete or not; fs.ErrNotExist if there is none.
func (l *Log) OpenSegment(tli pg.TLI, n pg.SegNo) (*SegmentReader, error) {
	id := segmentID{tli, n}
	info, err := l.pin(id)
	if err != nil {
		return nil, err
	}
	f, err := l.disk.open(id)
	if err != nil {
		l.unpin(id)
		return nil, fmt.Errorf("open segment %s: %w", info.Name, err)
	}
	return &SegmentReader{
		info: info, file: f, start: l.size.Start(n),
		durable: func() pg.LSN { return l.durable(id) },
		release: func() { l.unpin(id) },
	}, nil
}

// pin keeps a segment from being removed.
func (l *Log) pin(id segmentID) (SegmentInfo, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return SegmentInfo{}, fmt.Errorf("open segment %s: %w", l.name(id), ErrClosed)
	}
	info, found := l.files[id]
	if !found {
		return info, fmt.Errorf("open segment %s: %w", l.name(id), fs.ErrNotExist)
	}
	l.readers[id]++
	return info, nil
}

func (l *Log) unpin(id segmentID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readers[id]--; l.readers[id] == 0 {
		delete(l.readers, id)
	}
}

// durable returns the end of what a segment holds for certain.
func (l *Log) durable(id segmentID) pg.LSN {
	t := l.tip.Load()
	return durableEnd(t.history, t.flushed.load().end, id, l.size)
}

// durableEnd returns the end of what a segment holds for certain, given where the newest TLI ends. A TLI that the history
// does not pass has no end that is known.
func durableEnd(h pg.History, flush pg.LSN, id segmentID, size pg.SegmentSize) pg.LSN {
	start, end := size.Start(id.n), flush
	if id.tli != h.TLI {
		end, _ = h.End(id.tli)
	}
	return min(max(start, end), size.Start(id.n+1))
}

// Info describes the file as it was when it was opened.
func (r *SegmentReader) Info() SegmentInfo { return r.info }

// Start returns the LSN of the segment's first byte.
func (r *SegmentReader) Start() pg.LSN { return r.start }

// Durable returns the end of what can be read: what a sync has vouched for, and of a TLI that was left, what is below the
// fork. It may grow, and is the segment's end once that is whole.
func (r *SegmentReader) Durable() pg.LSN { return r.durable() }

// ReadAt implements io.ReaderAt. It ends with io.EOF at Durable; a file that ends before that is damaged, and
// io.ErrUnexpectedEOF.
func (r *SegmentReader) ReadAt(p []byte, off int64) (int, error) {
	limit := int64(r.Durable() - r.start)
	if off >= limit {
		return 0, io.EOF
	}
	want := min(int64(len(p)), limit-off)
	n, err := r.file.ReadAt(p[:want], off)
	switch {
	case int64(n) < want && errors.Is(err, io.EOF):
		return n, fmt.Errorf("read segment %s at %s: %w", r.info.Name, r.start+pg.LSN(off)+pg.LSN(n), io.ErrUnexpectedEOF)
	case int64(n) < want:
		return n, fmt.Errorf("read segment %s: %w", r.info.Name, err)
	case n < len(p):
		return n, io.EOF
	}
	return n, nil
}

// Close lets go of the file. It may be called more than once.
func (r *SegmentReader) Close() error {
	r.once.Do(func() {
		r.err = r.file.Close()
		r.release()
	})
	return r.err
}
