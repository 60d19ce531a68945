package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

const (
	// chunkLen is how much is read at once: a few messages, and small enough for a core's second-level cache.
	chunkLen = 256 << 10
	// idleAfter is how long a quiet stream keeps its chunk, and how long a message may be under way before what is
	// there of it is synced.
	idleAfter = time.Second
)

// chunks are the buffers of streams that are not idle.
var chunks = sync.Pool{New: func() any { return new([chunkLen]byte) }}

// errClosed is a connection that ended without a word.
var errClosed = errors.New("the source closed the connection; its log says why, if it did not crash")

// read returns what the source sent; nothing if it sent nothing for a while, or a sync that ran beside has ended.
func (s *stream) read(ctx context.Context) ([]byte, error) {
	if err := s.wire.limitRead(s.patience()); err != nil {
		return nil, fmt.Errorf("read from the source: %w", err)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if ended, err := s.syncs.collect(); ended || err != nil {
		return nil, err
	}
	buf := s.buffer()
	began := time.Now()
	n, err := s.wire.read(buf)
	s.readAt = time.Now()
	s.full = n == len(buf)
	if n > 0 {
		s.silence = 0
		s.useChunk()
		return buf[:n], nil // an error would come again
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, s.quiet(s.readAt.Sub(began))
	}
	if errors.Is(err, io.EOF) {
		return nil, errClosed
	}
	return nil, fmt.Errorf("read from the source: %w", err)
}

// patience is how long to wait for the source.
func (s *stream) patience() time.Duration {
	switch untilDue := max(s.due()-time.Since(s.voice.spokeAt), time.Millisecond); {
	case !s.voice.open:
		return s.interval
	case s.full:
		return time.Millisecond
	case s.chunk != nil:
		return min(untilDue, idleAfter)
	default:
		return untilDue
	}
}

// quiet is told that reading has waited in vain. It gives up on a source that is silent for too long.
func (s *stream) quiet(waited time.Duration) error {
	s.silence += waited
	if limit := s.receiver.cfg.ReceiveTimeout; s.silence >= limit {
		return fmt.Errorf("the source was silent for %s: the network between, or the server, is down or hangs", limit)
	}
	if !s.syncs.running() {
		s.releaseChunk()
	}
	return nil
}

// buffer is what to read into.
func (s *stream) buffer() []byte {
	if s.chunk == nil {
		return s.small[:]
	}
	return s.chunk[:]
}

// useChunk takes a chunk for the next read.
func (s *stream) useChunk() {
	if s.chunk == nil {
		s.chunk = chunks.Get().(*[chunkLen]byte)
	}
}

func (s *stream) releaseChunk() {
	if s.chunk != nil {
		chunks.Put(s.chunk)
		s.chunk = nil
	}
}
