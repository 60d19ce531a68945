package wal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Segments lists all segment files, by number and then by TLI.
func (l *Log) Segments() []SegmentInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	return sorted(l.files, func(SegmentInfo) bool { return true })
}

// BytesAbove is how much is held in segments that end above each of some positions, of any TLI. It is for whoever asks often: a
// log may have tens of thousands of segments, and is written to meanwhile.
func (l *Log) BytesAbove(at ...pg.LSN) []int64 {
	above := make([]int64, len(at))
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, s := range l.files {
		end := l.size.Start(id.n + 1)
		for i := range at {
			if end > at[i] {
				above[i] += s.SizeBytes
			}
		}
	}
	return above
}

// Oldest is the start of the oldest segment that is held; zero while none is.
func (l *Log) Oldest() pg.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.oldest
}

// noteOldestLocked follows a change of the files. A new one behind others changes nothing.
func (l *Log) noteOldestLocked() {
	var first *SegmentInfo
	for _, i := range l.files {
		if first == nil || i.SegNo < first.SegNo || i.SegNo == first.SegNo && i.TLI < first.TLI {
			first = &i
		}
	}
	l.oldest = pg.Position{}
	if first != nil {
		l.oldest = pg.Position{TLI: first.TLI, LSN: l.size.Start(first.SegNo)}
	}
}

// WholeSince returns since when a segment is whole; false if it is not, or not held.
func (l *Log) WholeSince(tli pg.TLI, n pg.SegNo) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	info, found := l.files[segmentID{tli, n}]
	return info.Whole, found && !info.Partial
}

// Remove removes segments, of any TLI, that lie below an LSN of the newest TLI's history as a whole, and returns how many and
// how much that was. Those that somebody reads stay, and so does what the next start needs: the segment with the last durable
// record, and the one before. Histories stay.
//
// If one cannot be removed, the others are, and the error says which. None is begun once the context has ended.
func (l *Log) Remove(ctx context.Context, below pg.LSN) (segments int, size int64, err error) {
	began := time.Now()
	var errs []error
	for _, i := range l.takeRemovable(below) {
		if context.Cause(ctx) != nil {
			l.putBack(i)
			continue
		}
		if err := removeIfThere(l.fs, l.path(i.Name)); err != nil {
			l.putBack(i)
			errs = append(errs, fmt.Errorf("remove segment: %w", err))
			continue
		}
		segments++
		size += i.SizeBytes
	}
	if segments > 0 {
		l.counters.removed.Add(int64(segments))
		l.counters.segments.Add(-int64(segments))
		l.counters.localBytes.Add(-size)
		errs = append(errs, l.fs.SyncDir(l.dir))
	}
	err = errors.Join(append(errs, context.Cause(ctx))...)
	l.events.removed(Removal{Below: below, Segments: segments, Bytes: size, Duration: time.Since(began), Err: err})
	return segments, size, err
}

// RemovableBytes is how much [Log.Remove] would remove now.
func (l *Log) RemovableBytes(below pg.LSN) (size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, i := range l.removableLocked(below) {
		size += i.SizeBytes
	}
	return size
}

// takeRemovable takes out of the list what may be removed, so that nobody opens it any more.
func (l *Log) takeRemovable(below pg.LSN) []SegmentInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	gone := l.removableLocked(below)
	for _, i := range gone {
		delete(l.files, i.id())
	}
	l.noteOldestLocked()
	return gone
}

func (l *Log) removableLocked(below pg.LSN) []SegmentInfo {
	keep := l.keepFrom()
	return sorted(l.files, func(i SegmentInfo) bool {
		return l.size.Start(i.SegNo+1) <= below && i.SegNo < keep && l.readers[i.id()] == 0
	})
}

// keepFrom returns the first segment that the next start may have to walk.
func (l *Log) keepFrom() pg.SegNo {
	last := l.tip.Load().flushed.load().lastRecord
	n := l.size.SegNo(last)
	return max(n, 1) - 1
}

func (l *Log) putBack(i SegmentInfo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files[i.id()] = i
	l.noteOldestLocked()
}
