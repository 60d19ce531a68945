package wal

import (
	"bytes"
	"fmt"

	"github.com/sluicewal/sluice/internal/pg"
)

const (
	// compareBytes is how much of what is held is read at once to be compared.
	compareBytes = 64 << 10
	// leastCompared is how much of what is held has to be compared at least, if it is there. What servers that went apart
	// write about themselves, into a segment that has just begun, may be equal; a commit, which has the time in it, is not.
	leastCompared = 64 << 10
)

// CompareFrom returns where a comparison begins: at the start of the segment that holds the start of the last complete record,
// or of the one before if too little would be compared. So it is below the end also on a segment's border, which is where a
// server with an archive_timeout and little to do stands most of the time.
//
// It does not go below the first segment of the newest TLI that is held: a source on that TLI has no file of it below the
// segment with its fork. Anybody may call it.
func (l *Log) CompareFrom() pg.LSN {
	t := l.tip.Load()
	p := t.written.load()
	n := l.size.SegNo(p.end)
	if p.lastRecord == 0 {
		return l.size.Start(n)
	}
	from := min(p.lastRecord, p.end-min(p.end, leastCompared))
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.size.Start(n) > from && l.holdsLocked(segmentID{t.tli(), n - 1}) {
		n--
	}
	return l.size.Start(n)
}

func (l *Log) holdsLocked(id segmentID) bool {
	_, found := l.files[id]
	return found
}

// Rewind begins the comparison of what is held with what a source sends, and is due before the first Append of each
// connection. It returns where the source has to begin: [Log.CompareFrom].
func (l *Log) Rewind() pg.LSN { return l.rewindTo(l.CompareFrom()) }

// RewindOpen is Rewind for a source that no longer has what lies there. The source has to begin with the segment that holds
// our end: on a border nothing is compared, and the next record, which names the last one, has to do.
func (l *Log) RewindOpen() pg.LSN { return l.rewindTo(l.size.StartOf(l.Position().LSN)) }

func (l *Log) rewindTo(lsn pg.LSN) pg.LSN {
	l.endComparison()
	l.forget()
	l.next, l.rewound = lsn, lsn
	l.verified.Store(false)
	return lsn
}

// Verified reports whether what came since Rewind shows that the source has the bytes that are held. Until then nothing
// may be acknowledged. It takes equal bytes up to our end and a record that ends among or behind them.
func (l *Log) Verified() bool { return l.verified.Load() }

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
	held := l.buf[:min(len(p), len(l.buf), int(l.size.StartOf(l.next)+pg.LSN(l.size)-l.next))]
	if err := l.readHeld(held); err != nil {
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

// readHeld reads what is held from next on, within one segment.
func (l *Log) readHeld(b []byte) error {
	f, err := l.heldFile(segmentID{l.tip.Load().tli(), l.size.SegNo(l.next)})
	if err != nil {
		return err
	}
	_, err = f.ReadAt(b, l.size.Offset(l.next))
	return err
}

// heldFile returns the file of a segment that has bytes. It opens one at a time that is not being written.
func (l *Log) heldFile(id segmentID) (File, error) {
	if l.open != nil && l.open.id == id { // the writer alone changes it
		return l.open.file, nil
	}
	if l.compared == nil || l.compared.id != id {
		l.endComparison()
		f, err := l.disk.open(id)
		if err != nil {
			return nil, err
		}
		l.compared = &segment{id: id, file: f}
	}
	return l.compared.file, nil
}

// endComparison gives back what the comparison used.
func (l *Log) endComparison() {
	if l.compared != nil {
		_ = l.compared.file.Close() // nothing was written to it
		l.compared = nil
	}
	l.buf = nil
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

// verify notes that the source has proved itself.
func (l *Log) verify() {
	if l.verified.Load() || l.next < l.Position().LSN || l.walker.RecordEnd() <= l.rewound {
		return
	}
	l.endComparison()
	l.verified.Store(true)
}
