package wal

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/sluicewal/sluice/internal/pg"
)

// compareBytes is how much of what is held is read at once to be compared.
const compareBytes = 64 << 10

// Rewind begins the comparison of what is held with what a source sends, and is due before the first Append of each
// connection. It returns where the source has to begin: the start of the segment that holds our end.
func (l *Log) Rewind() pg.LSN {
	l.rewindTo(l.size.StartOf(l.Position().LSN))
	return l.next
}

func (l *Log) rewindTo(lsn pg.LSN) {
	l.next, l.rewound = lsn, lsn
	l.verified.Store(false)
}

// Verified reports whether what came since Rewind shows that the source has the bytes that are held. Until then nothing
// may be acknowledged. It takes equal bytes up to our end and a record that ends among or behind them: with our end on the
// segment's border there is nothing to compare, but the next record names the last one.
func (l *Log) Verified() bool { return l.verified.Load() }

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

// compare holds the part of p that lies below our end against what is held, and returns its length. Other bytes in a record
// that is not complete are no contradiction: the source gave that record up. It is dropped.
func (l *Log) compare(p []byte) (n int, err error) {
	for end := l.Position().LSN; err == nil && n < len(p) && l.next < end; end = l.Position().LSN {
		from := l.next
		err = l.compareSome(p[n:min(len(p), n+int(end-from))])
		n += int(l.next - from)
	}
	return n, err
}

// compareSome moves next over bytes that are equal.
func (l *Log) compareSome(p []byte) error {
	if l.buf == nil {
		l.buf = make([]byte, compareBytes)
	}
	held := l.buf[:min(len(p), len(l.buf))]
	if _, err := l.open.file.ReadAt(held, l.size.Offset(l.next)); err != nil {
		return fmt.Errorf("compare WAL at %s: %w", l.next, err)
	}
	if bytes.Equal(held, p[:len(held)]) {
		l.next += pg.LSN(len(held))
		return nil
	}
	for i := 0; held[i] == p[i]; i++ {
		l.next++
	}
	if l.next < l.walker.RecordEnd() {
		return &OtherBytesError{LSN: l.next}
	}
	return l.dropFrom(l.next)
}

// dropFrom makes the log end at lsn, which is above the record end.
func (l *Log) dropFrom(lsn pg.LSN) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	t, rewound := l.tip.Load(), l.rewound
	l.mu.Lock()
	if p := t.flushed.load(); lsn < p.end { // not vouched for from here on, whatever fails
		p.end = lsn
		t.flushed.set(p)
	}
	l.mu.Unlock()
	err := l.reload(Vouched{Position: t.at(lsn), RecordEnd: l.walker.RecordEnd()})
	if err != nil {
		return l.poison(fmt.Errorf("drop half a record: %w", err))
	}
	l.next, l.rewound = lsn, rewound
	return nil
}

// verify notes that the source has proved itself, and gives the comparison's memory back.
func (l *Log) verify() {
	if l.verified.Load() || l.next < l.Position().LSN || l.walker.RecordEnd() <= l.rewound {
		return
	}
	l.buf = nil
	l.verified.Store(true)
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
