package pg

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// step reads the bytes of p, at least one, that belong to one thing: a page header, a part of a record, or what is
// skipped. It returns how many there were.
func (w *Walker) step(p []byte) int {
	if w.pos < w.skipTo {
		n := min(uint64(len(p)), uint64(w.skipTo-w.pos))
		w.pos += LSN(n)
		return int(n)
	}
	if w.pageN > 0 || w.pos%pageSize == 0 {
		return w.readPageHeader(p)
	}
	p = p[:min(len(p), pageSize-int(w.pos%pageSize))]
	switch w.phase {
	case betweenRecords:
		w.beginRecord()
		return w.readHeader(p)
	case inHeader:
		return w.readHeader(p)
	case inBody:
		return w.readBody(p)
	default:
		return w.readPadding(p)
	}
}

// wholeRecords reads the records that p begins with and that are whole in it, up to the end of the page. It returns how many
// bytes that were. It is the short way through what most WAL consists of; whatever is not plainly valid it leaves to step.
func (w *Walker) wholeRecords(p []byte) (n int) {
	if w.phase != betweenRecords || w.lastRecord == 0 || w.pos < w.skipTo || w.pageN > 0 || w.pos%pageSize == 0 {
		return 0
	}
	p = p[:min(len(p), pageSize-int(w.pos%pageSize))]
	for len(p)-n >= recordHeaderSize {
		size := w.wholeRecord(p[n:])
		if size == 0 {
			return n
		}
		w.lastRecord, w.recordEnd = w.pos, w.pos+LSN(size)
		w.pos = w.recordEnd
		n += size
	}
	return n
}

// wholeRecord returns the size of the record that p begins with, with what rounds it up; 0 unless it is whole and plainly valid.
func (w *Walker) wholeRecord(p []byte) int {
	h := (*recordHeader)(p)
	size := int(h.totalSize())
	padded := (size + alignment - 1) &^ (alignment - 1)
	if size < recordHeaderSize || padded > len(p) || h.prev() != w.lastRecord || h.isSwitch() {
		return 0
	}
	sum := crc32.Update(0, castagnoli, p[recordHeaderSize:size])
	if crc32.Update(sum, castagnoli, h[:recordCRCOffset]) != h.crc() {
		return 0
	}
	return padded
}

func (w *Walker) beginRecord() {
	w.phase, w.start, w.headerN, w.crc = inHeader, w.pos, 0, 0
}

// readHeader gathers a record's header. A page border may split it, but not xl_tot_len, because records are aligned; that is
// looked at before the next page, which must agree with it.
func (w *Walker) readHeader(p []byte) int {
	n := copy(w.header[w.headerN:], p)
	w.headerN += n
	w.pos += LSN(n)
	switch {
	case w.headerN == recordHeaderSize:
		w.endHeader()
	case w.pos%pageSize == 0:
		w.checkSize()
	}
	return n
}

func (w *Walker) endHeader() {
	switch {
	case w.start == 0:
		w.maybeSwitch = w.header.isSwitch()
		w.endRecord()
	case w.maybeSwitch && w.header.totalSize() == 0:
		w.phase = betweenRecords
		w.skipTo = w.segmentEnd(w.start)
	case w.checkSize() && w.checkPrev():
		w.maybeSwitch = false
		w.phase, w.left = inBody, w.header.totalSize()-recordHeaderSize
		if w.left == 0 {
			w.endBody()
		}
	}
}

func (w *Walker) checkSize() bool {
	size := w.header.totalSize()
	if size < recordHeaderSize {
		w.fail(w.start, "invalid record length: expected at least %d, got %d", recordHeaderSize, size)
	} else if size > maxRecordSize {
		w.fail(w.start, "invalid record length: expected at most %d, got %d", maxRecordSize, size)
	}
	return w.err == nil
}

// checkPrev catches a record that is whole but stale: a page that was torn when it was written over an older one.
func (w *Walker) checkPrev() bool {
	prev := w.header.prev()
	if w.lastRecord == 0 && prev >= w.start || w.lastRecord != 0 && prev != w.lastRecord {
		w.fail(w.start, "record with incorrect prev-link %s", prev)
	}
	return w.err == nil
}

func (w *Walker) readBody(p []byte) int {
	n := min(len(p), int(w.left))
	w.crc = crc32.Update(w.crc, castagnoli, p[:n])
	w.left -= uint32(n)
	w.pos += LSN(n)
	if w.left == 0 {
		w.endBody()
	}
	return n
}

// endBody compares the checksum. The header is summed last, and without the checksum itself.
func (w *Walker) endBody() {
	sum := crc32.Update(w.crc, castagnoli, w.header[:recordCRCOffset])
	if w.start != 0 && sum != w.header.crc() {
		w.fail(w.start, "incorrect resource manager data checksum in record")
		return
	}
	w.phase = inPadding
	if w.pos%alignment == 0 {
		w.endRecord()
	}
}

func (w *Walker) readPadding(p []byte) int {
	n := min(len(p), int(-w.pos%alignment))
	w.pos += LSN(n)
	if w.pos%alignment == 0 {
		w.endRecord()
	}
	return n
}

func (w *Walker) endRecord() {
	w.phase = betweenRecords
	if w.start == 0 {
		return // nothing vouches for a record that was passed over
	}
	w.lastRecord, w.recordEnd = w.start, w.pos
	if w.header.isSwitch() {
		w.recordEnd = w.segmentEnd(w.pos)
		w.skipTo = w.recordEnd
	}
}

// segmentEnd returns the first segment border at or above lsn.
func (w *Walker) segmentEnd(lsn LSN) LSN { return w.size.StartOf(lsn + LSN(w.size) - 1) }
