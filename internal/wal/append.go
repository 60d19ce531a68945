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
		l.next += pg.LSN(n)
		l.advance(s, n, l.walker)
	}
	return n, invalid
}

// Check is the first half of an Append whose second, Write, may be another goroutine's, so that looking at the WAL and writing
// it go on at once. It returns the walker at the end of p, for Write to be told. The log must be Verified; all that was checked
// is to be written, in order and in pieces of any length, before the writer goes on with anything else.
//
// After an error nothing of p was taken. Append, once all before is written, says what is wrong with it.
func (l *Log) Check(lsn pg.LSN, p []byte) (pg.Walker, error) {
	if err := l.usable(); err != nil {
		return pg.Walker{}, err
	}
	if lsn != l.next {
		return pg.Walker{}, &GapError{Want: l.next, Got: lsn}
	}
	l.before = *l.walker
	if err := l.walker.Write(p); err != nil {
		*l.walker = l.before
		return pg.Walker{}, err
	}
	l.next += pg.LSN(len(p))
	return *l.walker, nil
}

// Write is the second half: it puts the last bytes that were checked up to end into their segment, which they may not leave.
// Much at once goes past the page cache. Its errors are those of Append; what was checked and not written is forgotten with the
// next Rewind.
func (l *Log) Write(p []byte, end *pg.Walker) error {
	if err := l.usable(); err != nil {
		return err
	}
	lsn := end.Position() - pg.LSN(len(p))
	if want := l.Position().LSN; lsn != want {
		return &GapError{Want: want, Got: lsn}
	}
	s, err := l.segmentAt(lsn)
	if err != nil {
		return err
	}
	if _, err := s.file.WriteDirect(p, l.size.Offset(lsn)); err != nil {
		return l.poison(fmt.Errorf("write segment %s: %w", l.name(s.id), err))
	}
	l.advance(s, len(p), end)
	return nil
}

// forget takes the walker back to the end of what was written, if more than that was checked.
func (l *Log) forget() {
	if l.walker.Position() != l.Position().LSN {
		*l.walker = l.settled
	}
}

// Expect says that WAL up to end is about to come. Segments that it will fill are only allocated, where the file system can do
// that: filling them with zeros first would double what the disk has to write.
func (l *Log) Expect(end pg.LSN) { l.expected.Store(uint64(end)) }

// hurried reports whether a segment will be filled at once.
func (l *Log) hurried(n pg.SegNo) bool { return pg.LSN(l.expected.Load()) >= l.size.Start(n+1) }

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

// advance notes that n bytes were written, up to where w stands.
func (l *Log) advance(s *segment, n int, w *pg.Walker) {
	l.settled = *w
	at := point{end: w.Position(), recordEnd: w.RecordEnd(), lastRecord: w.LastRecord()}
	l.counters.appended.Add(int64(n))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tip.Load().written.set(at)
	switch off := l.size.Offset(at.end); {
	case off == 0:
		s.mark = at
		l.full = append(l.full, s)
		l.open = nil
	case off >= int64(l.size)/2 && l.spare == nil:
		l.spare = l.prepare(l.hurried(s.id.n + 1))
	}
}
