package wal

import (
	"errors"
	"fmt"

	"github.com/sluicewal/sluice/internal/pg"
)

// spareName is the temporary name of a segment's file that waits to be used. It has no number: what TLI will be next is not
// known yet.
const spareName = "next" + tempSuffix

// spare is a segment's file that is being made, or is ready.
type spare struct {
	done chan struct{} // closed when the goroutine has ended
	err  error         // valid once done is closed
}

// prepare begins to make the next segment's file, so that a writer at a segment's end does not wait for a disk to take a whole
// one. The goroutine ends by itself; needSpare or discard waits for it.
func (l *Log) prepare(hurried bool) *spare {
	s := &spare{done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.err = l.create(spareName, hurried)
	}()
	return s
}

// discard does away with a spare that is not needed.
func (l *Log) discard(s *spare) error {
	if s == nil {
		return nil
	}
	if <-s.done; s.err != nil {
		return nil //nolint:nilerr // it left nothing, and nobody needs it
	}
	return removeIfThere(l.fs, l.path(spareName))
}

// needSpare sees to it that a file is there under the temporary name: the one that was prepared, or one that is made now. What
// made preparing it fail, a full disk say, may have passed.
func (l *Log) needSpare(hurried bool) error {
	l.mu.Lock()
	s := l.spare
	l.spare = nil
	l.mu.Unlock()
	if s != nil {
		if <-s.done; s.err == nil {
			return nil
		}
	}
	return l.create(spareName, hurried)
}

// segmentAt returns the segment that the byte at lsn, the end, goes into. If one begins there, it gets its name, which is durable
// before a sync vouches for anything in it; if that fails, nothing stays, and the next call tries again.
func (l *Log) segmentAt(lsn pg.LSN) (*segment, error) {
	if l.open != nil { // the writer alone changes it
		return l.open, nil
	}
	s := &segment{id: segmentID{l.tip.Load().tli(), l.size.SegNo(lsn)}}
	if err := l.needSpare(l.hurried(s.id.n)); err != nil {
		return nil, err
	}
	name := l.partialName(s.id)
	err := l.fs.Rename(l.path(spareName), l.path(name))
	if err == nil {
		s.file, err = l.fs.OpenRW(l.path(name))
	}
	if err != nil {
		err = fmt.Errorf("make segment %s: %w", name, err)
		return nil, errors.Join(err, removeIfThere(l.fs, l.path(spareName)), removeIfThere(l.fs, l.path(name)))
	}
	l.counters.segments.Add(1)
	l.counters.localBytes.Add(int64(l.size))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = s
	l.files[s.id] = SegmentInfo{Name: name, TLI: s.id.tli, SegNo: s.id.n, Partial: true, SizeBytes: int64(l.size)}
	if len(l.files) == 1 {
		l.noteOldestLocked()
	}
	return s, nil
}
