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
	// chunkLen is how much a live stream reads at once: a whole message, and more than what usually comes during a sync.
	chunkLen = 192 << 10
	// idleAfter is how long a quiet stream keeps its memory.
	idleAfter = time.Second
	// briskly is how close reads must come for waiting in the kernel to pay.
	briskly = 20 * time.Millisecond
)

// chunks are the buffers of streams that are not idle.
var chunks = sync.Pool{New: func() any { return new([chunkLen]byte) }}

// errClosed is a connection that ended without a word.
var errClosed = errors.New("the source closed the connection; its log says why, if it did not crash")

// read returns what the source sent; nothing if it sent nothing for a while, or a sync that ran beside has ended.
func (s *stream) read(ctx context.Context) ([]byte, error) {
	if err := s.wait(s.mode == live && s.brisk); err != nil {
		return nil, fmt.Errorf("read from the source: %w", err)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if synced, err := s.disk.collect(); synced || err != nil {
		return nil, err
	}
	buf := s.buffer()
	began := time.Now()
	n, err := s.wire.read(buf)
	last := s.readAt
	s.readAt = time.Now()
	s.full = n == len(buf)
	if n > 0 {
		s.brisk = s.silence == 0 && s.readAt.Sub(last) < briskly
		s.silence = 0
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

// wait gets the next read ready to wait: in the kernel, or in the runtime's poller with a deadline.
func (s *stream) wait(hot bool) error {
	if hot {
		s.wire.heat()
	} else if err := s.wire.cool(); err != nil {
		return err
	}
	return s.wire.limitRead(s.patience())
}

// patience is how long to wait for the source.
func (s *stream) patience() time.Duration {
	switch untilDue := max(s.due()-time.Since(s.voice.spokeAt), time.Millisecond); {
	case !s.voice.open:
		return s.interval
	case s.mode == catchingUp && s.disk.pending.bytes > 0 && s.behind():
		return gather
	case s.full && s.mode == live, s.mode == catchingUp && s.disk.pending.bytes > 0:
		return time.Millisecond // there is something to do for the time being
	case s.mode != idle:
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
	s.brisk = false
	return nil
}

// buffer is what to read into. Catching up, WAL goes straight to its place, and everything else is short.
func (s *stream) buffer() []byte {
	switch {
	case s.mode == idle:
		return s.small[:]
	case s.mode == live:
		s.useChunk()
		return s.chunk[:]
	case s.decoder.walLeft > 0:
		room := s.disk.room()
		return room[:min(len(room), int(s.decoder.walLeft))]
	default:
		return s.small[:walHeader]
	}
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

// release gives all memory back.
func (s *stream) release() {
	s.releaseChunk()
	s.disk.release()
}
