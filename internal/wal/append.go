package wal

import (
	"errors"
	"fmt"

	"github.com/sluicewal/sluice/internal/pg"
)

// Append takes WAL that begins where the last Append ended, or where Rewind said. Bytes that are held already are compared.
//
// The error is a [*GapError], a [*pg.RecordError] if the WAL is not valid, an [*OtherBytesError], or what the file system
// said when the next segment was made; after these the log is as good as before, has taken p up to Position, and waits for
// Rewind. A full disk is one of them. After a write that failed the log is poisoned.
//
// It keeps nothing of p, and allocates nothing, except where a segment begins or after an error.
func (l *Log) Append(lsn pg.LSN, p []byte) error {
	if err := l.usable(); err != nil {
		return err
	}
	if lsn != l.next {
		return &GapError{Want: l.next, Got: lsn}
	}
	n, err := l.compare(p)
	for p = p[n:]; err == nil && len(p) > 0; p = p[n:] {
		n, err = l.appendSome(p)
	}
	l.verify()
	return err
}

// appendSome appends as much of p as the open segment takes.
func (l *Log) appendSome(p []byte) (n int, err error) {
	s, err := l.segmentAt(l.next)
	if err != nil {
		return 0, err
	}
	off := l.size.Offset(l.next)
	p = p[:min(int64(len(p)), int64(l.size)-off)]
	n, invalid := l.accept(p)
	if n > 0 {
		if _, err := s.file.WriteAt(p[:n], off); err != nil {
			return 0, l.poison(fmt.Errorf("write segment %s: %w", l.name(s.id), err))
		}
		l.advance(s, n)
	}
	return n, invalid
}

// accept walks p, and returns how much of it may be kept.
func (l *Log) accept(p []byte) (n int, err error) {
	l.before = *l.walker
	if err := l.walker.Write(p); err != nil {
		*l.walker = l.before
		return l.acceptBelow(p, err)
	}
	return len(p), nil
}

// acceptBelow walks what is below the record or the page that is not valid. If that record began in an earlier segment, no
// comparison will tell whether its half that is held was damaged on the way: it is dropped, to come again.
func (l *Log) acceptBelow(p []byte, err error) (n int, _ error) {
	var bad *pg.RecordError
	if !errors.As(err, &bad) {
		return 0, err
	}
	if end := l.walker.RecordEnd(); end != 0 && bad.LSN < l.size.StartOf(l.next) {
		return 0, errors.Join(err, l.dropFrom(end))
	}
	if bad.LSN <= l.next || bad.LSN-l.next > pg.LSN(len(p)) {
		return 0, err
	}
	n = int(bad.LSN - l.next)
	if again := l.walker.Write(p[:n]); again != nil {
		*l.walker = l.before
		return 0, again
	}
	return n, err
}

// advance notes that n bytes were written.
func (l *Log) advance(s *segment, n int) {
	l.next += pg.LSN(n)
	at := point{end: l.next, recordEnd: l.walker.RecordEnd(), lastRecord: l.walker.LastRecord()}
	l.counters.appended.Add(int64(n))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tip.Load().written.set(at)
	switch off := l.size.Offset(l.next); {
	case off == 0:
		s.mark = at
		l.full = append(l.full, s)
		l.open = nil
	case off >= int64(l.size)/2 && l.spare == nil:
		l.spare = l.prepare()
	}
}
