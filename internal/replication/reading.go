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
)

// chunks are the buffers of streams that are not idle.
var chunks = sync.Pool{New: func() any { return new([chunkLen]byte) }}

// errClosed is a connection that ended without a word.
var errClosed = errors.New("the source closed the connection; its log says why, if it did not crash")

// read returns what the source sent, in parts; none if it sent nothing for a while, or a sync that ran beside has ended.
func (s *stream) read(ctx context.Context) ([][]byte, error) {
	if err := s.wait(s.mode == live && s.brisk || s.mode == catchingUp && s.behind()); err != nil {
		return nil, fmt.Errorf("read from the source: %w", err)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if synced, err := s.disk.collect(); synced || err != nil {
		return nil, err
	}
	parts := s.parts()
	began := time.Now()
	n, err := s.wire.read(parts)
	last := s.readAt
	s.readAt = time.Now()
	s.full = n == len(parts[0])
	if n > 0 {
		s.brisk = s.silence == 0 && s.readAt.Sub(last) < s.receiver.cfg.briskly
		s.silence = 0
		return filled(parts, n), nil // an error would come again
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, s.quiet(s.readAt.Sub(began))
	}
	if errors.Is(err, io.EOF) {
		return nil, errClosed
	}
	return nil, fmt.Errorf("read from the source: %w", err)
}

// filled cuts the parts down to the n bytes that were read into them.
func filled(parts [][]byte, n int) [][]byte {
	for i := range parts {
		if n <= len(parts[i]) {
			parts[i] = parts[i][:n]
			return parts[:i+1]
		}
		n -= len(parts[i])
	}
	return parts
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

// parts are what to read into. Catching up, WAL goes straight to its place.
func (s *stream) parts() [][]byte {
	parts := s.into[:0]
	switch s.mode {
	case idle:
		return append(parts, s.small[:])
	case live:
		s.useChunk()
		return append(parts, s.chunk[:])
	}
	return s.guess(parts)
}

// maxSend is how much WAL PostgreSQL puts into a message at most, and into each as long as it has more (MAX_SEND_SIZE in
// walsender.c).
const maxSend = 128 << 10

// maxParts is what remains of a message, and for each further one that the block has room for a header and its WAL.
const maxParts = 1 + 2*blockLen/maxSend

// guess lays out a read of many messages at once. The rest of the one that has begun is known; that those behind it are full ones
// is a guess. Where it is wrong, what came does not lie where it belongs; see take.
func (s *stream) guess(parts [][]byte) [][]byte {
	room := s.disk.room()
	next := int(s.decoder.walLeft)
	for i := 0; ; i++ {
		if next > 0 {
			n := min(next, len(room))
			parts, room = append(parts, room[:n]), room[n:]
		}
		if len(room) == 0 || i == len(s.headers) {
			return parts
		}
		header := s.headers[i][:]
		if i == 0 && next == 0 {
			header = header[s.decoder.have:]
		}
		parts = append(parts, header)
		next = maxSend
	}
}

// fits says whether the decoder finds in a part, which is not the first, what was guessed: a header, or WAL that is all of its
// message, as far as that was read.
func (s *stream) fits(part []byte, last bool) bool {
	left, inPlace := int(s.decoder.walLeft), &part[0] == &s.disk.room()[0]
	if left == 0 {
		return !inPlace
	}
	return inPlace && (left == len(part) || last && left > len(part))
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
