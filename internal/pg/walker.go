package pg

import "fmt"

// Walker follows WAL from byte to byte and tells which records are complete. It accepts what PostgreSQL's own reader
// accepts (src/backend/access/transam/xlogreader.c) and refuses the rest, so that its record end is where a server that
// has these bytes stops replaying, and where it forks when it is promoted.
//
// It keeps no record: bytes are summed as they pass, in whatever pieces they come, and the outcome does not depend on the
// pieces. Nothing is allocated before an error. It has one owner; a copy from [Walker.Clone] is independent.
type Walker struct {
	size SegmentSize
	pos  LSN          // of the next byte
	err  *RecordError // sticky

	lastRecord LSN // start of the last complete record, which the next one's xl_prev must name; zero: unknown
	recordEnd  LSN // end of the same; zero: none yet

	phase   phase
	header  recordHeader // of the record in progress
	headerN int          // how much of header has come
	start   LSN          // of the record in progress; zero: it began below Reset's LSN, and is passed over unverified
	left    uint32       // what is to come of it after its header, without padding
	crc     uint32       // of what has come of it after its header

	skipTo      LSN  // bytes below are not looked at: a switch record closed their segment
	maybeSwitch bool // the record that was passed over may have been one
	adrift      bool // nothing is known of what precedes pos, which is a page border

	page  [longHeaderSize]byte // the page header that is being gathered
	pageN int                  // how much of it has come; zero: none is being gathered
	seen  pagesSeen
}

// phase says what the next byte belongs to, page headers apart.
type phase uint8

const (
	betweenRecords phase = iota // a record that begins here
	inHeader                    // the header of the record in progress
	inBody                      // what follows its header
	inPadding                   // what rounds it up to alignment
)

// NewWalker returns a walker for a cluster with segments of this size; Reset places it. It panics if the size is not Valid.
func NewWalker(size SegmentSize) *Walker {
	if !size.Valid() {
		panic(fmt.Sprintf("pg: walker for segments of %s", size))
	}
	return &Walker{size: size}
}

// Reset forgets everything and expects the byte at lsn next.
//
// If lastRecord is zero, nothing is known of what stands below. On a page border, the rest of a record that began earlier
// is then passed over; elsewhere a record must start at lsn. The first record's xl_prev is only known to be lower.
//
// Otherwise lastRecord is the start of the record that ends at lsn, and the walker stands as if it had read it: the next
// record must begin here, and its xl_prev must name lastRecord.
func (w *Walker) Reset(lsn, lastRecord LSN) {
	*w = Walker{size: w.size, pos: lsn, lastRecord: lastRecord}
	if lastRecord != 0 {
		w.recordEnd = lsn
	}
	w.adrift = lastRecord == 0 && lsn%pageSize == 0
	if !w.canStandAt(lsn) {
		w.fail(lsn, "no record can start here")
	}
}

// canStandAt reports whether lsn is a page border or a place where a record may start.
func (w *Walker) canStandAt(lsn LSN) bool {
	offset, header := lsn%pageSize, LSN(shortHeaderSize)
	if w.size.StartOf(lsn) == lsn-offset {
		header = longHeaderSize
	}
	return offset == 0 || lsn%alignment == 0 && offset >= header
}

// Write reads the bytes that follow Position. The error is a [*RecordError]; it stays until Reset, and so does what was
// complete before it.
func (w *Walker) Write(p []byte) error {
	for len(p) > 0 && w.err == nil {
		n := w.wholeRecords(p)
		if n == 0 {
			n = w.step(p)
		}
		p = p[n:]
	}
	return w.Err()
}

// Next reads like Write, but at most to the end of the first record that becomes complete, and returns how many bytes that
// took. It is for those who want to see each record: LastRecord has changed when there is one.
func (w *Walker) Next(p []byte) (n int, err error) {
	for last := w.lastRecord; n < len(p) && w.err == nil && w.lastRecord == last; {
		n += w.step(p[n:])
	}
	return n, w.Err()
}

// Err returns what Write and Next return.
func (w *Walker) Err() error {
	if w.err == nil {
		return nil
	}
	return w.err
}

// Position returns the LSN of the next byte. After an error it is the end of the bytes that showed it.
func (w *Walker) Position() LSN { return w.pos }

// RecordEnd returns the end of the last complete record, its checksum verified; zero if there is none since Reset.
//
// It is what PostgreSQL calls EndRecPtr: rounded up to eight bytes, and the page's border if the record fills its page,
// though the next one starts behind a page header. A switch record (pg_switch_wal) ends where its segment does, from the
// moment that its own bytes are there; this alone puts RecordEnd above Position.
func (w *Walker) RecordEnd() LSN { return w.recordEnd }

// LastRecord returns the start of the record that ends at RecordEnd.
func (w *Walker) LastRecord() LSN { return w.lastRecord }

// InRecord reports whether Position is inside a record that is not complete.
func (w *Walker) InRecord() bool { return w.phase != betweenRecords }

// Clone returns a walker that goes on from here by itself.
func (w *Walker) Clone() *Walker {
	c := *w
	return &c
}

// SystemID returns the system identifier of the cluster that wrote the WAL; false before the first long page header.
func (w *Walker) SystemID() (uint64, bool) { return w.seen.systemID, w.seen.long }

// Magic returns what marks all pages since Reset (xlp_magic); zero before the first page header.
func (w *Walker) Magic() uint16 { return w.seen.magic }

// MajorVersion returns the PostgreSQL release that wrote the WAL, such as 15; zero before the first page header, or if the
// magic is that of no release known here.
func (w *Walker) MajorVersion() int { return majorVersion(w.seen.magic) }

// RecordError says where WAL stops being valid. In a file that nobody closed that is the end of what was written; in a
// stream it is a broken source.
type RecordError struct {
	LSN    LSN    // start of the record or page that is not valid
	Reason string // in the words of xlogreader.c where it has any
}

func (e *RecordError) Error() string { return fmt.Sprintf("invalid WAL at %s: %s", e.LSN, e.Reason) }

// fail makes the first error stick.
func (w *Walker) fail(lsn LSN, format string, args ...any) {
	if w.err == nil {
		w.err = &RecordError{LSN: lsn, Reason: fmt.Sprintf(format, args...)}
	}
}
