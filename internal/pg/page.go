package pg

import "encoding/binary"

// The layout of WAL pages and records (src/include/access/xlog_internal.h, xlogrecord.h). Numbers are in the server's byte
// order. Only little-endian servers are understood; the first page of another is refused by its magic.
const (
	pageSize        = 8192 // XLOG_BLCKSZ; a server built with another is refused by its long page header
	shortHeaderSize = 24   // SizeOfXLogShortPHD
	longHeaderSize  = 40   // SizeOfXLogLongPHD

	recordHeaderSize = 24         // SizeOfXLogRecord
	recordCRCOffset  = 20         // offsetof(XLogRecord, xl_crc)
	maxRecordSize    = 0x3fffffff // MaxAllocSize: no server can read a longer one
	alignment        = 8          // MAXALIGN: where records start
)

// Flags of a page header (xlp_info).
const (
	firstIsContRecord          = 0x0001 // the page begins inside a record
	hasLongHeader              = 0x0002
	firstIsOverwriteContRecord = 0x0008 // the record that should go on here was given up after a crash
	allPageFlags               = 0x000F
)

// Resource manager and info of XLOG_SWITCH, the record after which a segment is unused.
const (
	rmXLOG       = 0
	rmInfoMask   = 0xF0
	rmInfoSwitch = 0x40
)

// Page magics grow with every change to what records contain. The layout above has not changed since PostgreSQL 13, so
// that the magics of newer servers are taken as they come.
const (
	minMagic = 0xD106
	maxMagic = 0xD1FF
)

// majorVersion returns the release that writes pages with this magic; zero for a development snapshot, or for a release that is
// newer than this table.
func majorVersion(magic uint16) int {
	switch magic {
	case 0xD106:
		return 13
	case 0xD10D:
		return 14
	case 0xD110:
		return 15
	case 0xD113:
		return 16
	case 0xD116:
		return 17
	case 0xD118:
		return 18
	}
	return 0
}

// pageHeader is XLogPageHeaderData, or XLogLongPageHeaderData where has(hasLongHeader).
type pageHeader struct {
	magic     uint16
	info      uint16
	tli       TLI // of the page's first record; an ancestor's on pages that a promoted server took over
	address   LSN
	remaining uint32 // bytes still to come of the record that began on an earlier page

	systemID    uint64
	segmentSize SegmentSize
	pageSize    uint32
}

func (h *pageHeader) has(flag uint16) bool { return h.info&flag != 0 }

// pageHeaderSize tells from the first shortHeaderSize bytes of a page how long its header is.
func pageHeaderSize(b []byte) int {
	if binary.LittleEndian.Uint16(b[2:])&hasLongHeader != 0 {
		return longHeaderSize
	}
	return shortHeaderSize
}

// decodePageHeader reads the header of a page; b holds pageHeaderSize(b) bytes or more.
func decodePageHeader(b []byte) pageHeader {
	le := binary.LittleEndian
	h := pageHeader{
		magic:     le.Uint16(b[0:]),
		info:      le.Uint16(b[2:]),
		tli:       TLI(le.Uint32(b[4:])),
		address:   LSN(le.Uint64(b[8:])),
		remaining: le.Uint32(b[16:]),
	}
	if h.has(hasLongHeader) {
		h.systemID = le.Uint64(b[24:])
		h.segmentSize = SegmentSize(le.Uint32(b[32:]))
		h.pageSize = le.Uint32(b[36:])
	}
	return h
}

// recordHeader is an XLogRecord as it stands in the WAL: gathered, read, and summed last.
type recordHeader [recordHeaderSize]byte

func (h *recordHeader) totalSize() uint32 { return binary.LittleEndian.Uint32(h[0:]) }
func (h *recordHeader) prev() LSN         { return LSN(binary.LittleEndian.Uint64(h[8:])) }
func (h *recordHeader) crc() uint32       { return binary.LittleEndian.Uint32(h[recordCRCOffset:]) }

// isSwitch looks at the header's last eight bytes only.
func (h *recordHeader) isSwitch() bool {
	info, rmid := h[16], h[17]
	return rmid == rmXLOG && info&rmInfoMask == rmInfoSwitch
}
