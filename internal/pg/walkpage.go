package pg

import "fmt"

// pagesSeen is what the page headers since Reset have in common; the next one must go with it.
type pagesSeen struct {
	magic    uint16 // zero: none yet
	tli      TLI    // of the last page
	systemID uint64 // valid if long
	long     bool   // a long header was among them
}

// readPageHeader gathers a page's header and judges it once it is whole.
func (w *Walker) readPageHeader(p []byte) int {
	size := shortHeaderSize
	if w.pageN >= shortHeaderSize {
		size = pageHeaderSize(w.page[:])
	}
	n := copy(w.page[w.pageN:size], p)
	w.pageN += n
	w.pos += LSN(n)
	if w.pageN >= shortHeaderSize && w.pageN == pageHeaderSize(w.page[:]) {
		h := decodePageHeader(w.page[:])
		w.enterPage(&h, w.pos-LSN(w.pageN))
		w.pageN = 0
	}
	return n
}

// enterPage holds the header of the page at lsn against what is expected there: first itself, then how it begins.
func (w *Walker) enterPage(h *pageHeader, lsn LSN) {
	if reason := w.seen.accept(h, lsn, w.size); reason != "" {
		w.fail(lsn, "%s", reason)
		return
	}
	if h.has(firstIsOverwriteContRecord) {
		w.phase = betweenRecords // the server lost the rest of what is in progress, and says so
	}
	switch {
	case w.phase != betweenRecords:
		w.checkContinuation(h, lsn)
	case h.has(firstIsContRecord):
		w.passOver(h, lsn)
	}
	w.adrift = false
}

// checkContinuation is called with a record in progress, on a page border: inHeader with xl_tot_len known, or inBody.
func (w *Walker) checkContinuation(h *pageHeader, lsn LSN) {
	left := w.left
	if w.phase == inHeader {
		left = w.header.totalSize() - uint32(w.headerN)
	}
	if w.start != 0 {
		lsn = w.start
	}
	if !h.has(firstIsContRecord) {
		w.fail(lsn, "there is no contrecord flag")
	} else if h.remaining != left {
		w.fail(lsn, "invalid contrecord length %d (expected %d)", h.remaining, left)
	}
}

// passOver begins the rest of a record of which the beginning is not known. Eight or sixteen bytes may be the rest of a
// switch record, which is nothing but a header: they are kept, because the emptiness that follows it is no end.
func (w *Walker) passOver(h *pageHeader, lsn LSN) {
	if !w.adrift {
		w.fail(lsn, "contrecord is requested")
		return
	}
	if h.remaining == 0 {
		w.fail(lsn, "invalid contrecord length 0")
		return
	}
	w.start = 0
	if h.remaining == 8 || h.remaining == 16 {
		w.phase, w.headerN = inHeader, recordHeaderSize-int(h.remaining)
		return
	}
	w.phase, w.left = inBody, h.remaining
}

// accept returns why h cannot be the header of the page at lsn, or "" and remembers it (XLogReaderValidatePageHeader).
func (s *pagesSeen) accept(h *pageHeader, lsn LSN, size SegmentSize) string {
	switch {
	case h.magic < minMagic || h.magic > maxMagic || s.magic != 0 && s.magic != h.magic:
		return fmt.Sprintf("invalid magic number %04X", h.magic)
	case h.info&^allPageFlags != 0 || size.Offset(lsn) == 0 && !h.has(hasLongHeader):
		return fmt.Sprintf("invalid info bits %04X", h.info)
	case h.address != lsn:
		return fmt.Sprintf("unexpected pageaddr %s", h.address)
	case h.tli < s.tli:
		return fmt.Sprintf("out-of-sequence timeline ID %d (after %d)", h.tli, s.tli)
	}
	s.magic, s.tli = h.magic, h.tli
	if h.has(hasLongHeader) {
		return s.acceptLong(h, size)
	}
	return ""
}

func (s *pagesSeen) acceptLong(h *pageHeader, size SegmentSize) string {
	switch {
	case s.long && h.systemID != s.systemID:
		return fmt.Sprintf("WAL is from a different database system: system identifier %d, expected %d", h.systemID, s.systemID)
	case h.segmentSize != size:
		return fmt.Sprintf("WAL has segments of %s, expected %s", h.segmentSize, size)
	case h.pageSize != pageSize:
		return fmt.Sprintf("WAL has pages of %d bytes; only %d are supported", h.pageSize, pageSize)
	}
	s.systemID, s.long = h.systemID, true
	return ""
}
