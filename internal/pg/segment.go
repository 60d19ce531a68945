package pg

import (
	"fmt"
	"strconv"
	"strings"
)

// PartialSuffix ends the name of a segment that is not complete, as pg_receivewal writes it.
const PartialSuffix = ".partial"

// The limits of initdb --wal-segsize (src/include/access/xlog_internal.h, WalSegMinSize and WalSegMaxSize), and its
// default.
const (
	MinSegmentSize     SegmentSize = 1 << 20
	MaxSegmentSize     SegmentSize = 1 << 30
	DefaultSegmentSize SegmentSize = 16 << 20
)

// SegNo counts segments from the beginning of the WAL; its size decides which bytes it holds.
type SegNo uint64

// SegmentSize is a cluster's wal_segment_size, in bytes. The methods that compute need a size that is [SegmentSize.Valid].
type SegmentSize uint32

// ParseSegmentSize reads the answer of SHOW wal_segment_size ("16MB"), or bytes without a unit, as pg_settings has them.
func ParseSegmentSize(s string) (SegmentSize, error) {
	digits := strings.TrimRight(s, "kMGB")
	shift, known := map[string]uint{"": 0, "B": 0, "kB": 10, "MB": 20, "GB": 30}[s[len(digits):]]
	n, err := strconv.ParseUint(digits, 10, 32)
	if !known || err != nil || n > uint64(MaxSegmentSize)>>shift {
		return 0, fmt.Errorf("invalid WAL segment size %q: want a number with B, kB, MB or GB, at most 1GB", s)
	}
	size := SegmentSize(n << shift)
	if !size.Valid() {
		return 0, fmt.Errorf("invalid WAL segment size %q: must be a power of two between 1MB and 1GB", s)
	}
	return size, nil
}

// Valid reports whether PostgreSQL could have such segments: a power of two from 1 MiB to 1 GiB.
func (s SegmentSize) Valid() bool {
	return s >= MinSegmentSize && s <= MaxSegmentSize && s&(s-1) == 0
}

// String prints the size as SHOW wal_segment_size does: "16MB", "1GB".
func (s SegmentSize) String() string {
	switch {
	case s != 0 && s%(1<<30) == 0:
		return strconv.Itoa(int(s>>30)) + "GB"
	case s != 0 && s%(1<<20) == 0:
		return strconv.Itoa(int(s>>20)) + "MB"
	}
	return strconv.FormatUint(uint64(s), 10) + "B"
}

// SegNo returns the segment that holds the byte at lsn. For an LSN on a border that is the segment that begins there,
// so the segment of the last byte *below* an end is SegNo(end - 1).
func (s SegmentSize) SegNo(lsn LSN) SegNo { return SegNo(uint64(lsn) / uint64(s)) }

// Start returns the LSN of a segment's first byte.
func (s SegmentSize) Start(n SegNo) LSN { return LSN(uint64(n) * uint64(s)) }

// StartOf returns the LSN of the first byte of the segment that holds the byte at lsn.
func (s SegmentSize) StartOf(lsn LSN) LSN { return lsn &^ LSN(s-1) }

// Offset returns where in its segment's file the byte at lsn stands.
func (s SegmentSize) Offset(lsn LSN) int64 { return int64(lsn & LSN(s-1)) }

// perLogID is the number of segments in 4 GiB, which is where the last eight digits of a segment's name carry over
// (XLogSegmentsPerXLogId).
func (s SegmentSize) perLogID() uint64 { return 1 << 32 / uint64(s) }

// SegmentName returns the file name of a segment (XLogFileName): "000000010000000A000000FE".
func SegmentName(tli TLI, n SegNo, size SegmentSize) string {
	per := size.perLogID()
	return fmt.Sprintf("%08X%08X%08X", uint32(tli), uint32(uint64(n)/per), uint32(uint64(n)%per))
}

// ParseSegmentName is the inverse of [SegmentName]. The name must stand alone: cut [PartialSuffix] off first. It refuses
// what the segment size makes impossible, such as a last part of 100 where segments have 16 MiB, and TLI 0.
func ParseSegmentName(name string, size SegmentSize) (TLI, SegNo, error) {
	if len(name) != 24 || !isUpperHex(name) {
		return 0, 0, fmt.Errorf("invalid segment name %q: want 24 digits out of 0-9 and A-F", name)
	}
	tli, hi, lo := hex32(name[:8]), hex32(name[8:16]), hex32(name[16:])
	if tli == 0 {
		return 0, 0, fmt.Errorf("invalid segment name %q: there is no TLI 0", name)
	}
	per := size.perLogID()
	if uint64(lo) >= per {
		return 0, 0, fmt.Errorf("invalid segment name %q: no such segment where segments have %s", name, size)
	}
	return TLI(tli), SegNo(uint64(hi)*per + uint64(lo)), nil
}

// historySuffix ends the name of a timeline history file.
const historySuffix = ".history"

// HistoryName returns the file name of a TLI's history (TLHistoryFileName): "00000002.history".
func HistoryName(tli TLI) string { return fmt.Sprintf("%08X%s", uint32(tli), historySuffix) }

// ParseHistoryName is the inverse of [HistoryName].
func ParseHistoryName(name string) (TLI, error) {
	digits, found := strings.CutSuffix(name, historySuffix)
	if !found || len(digits) != 8 || !isUpperHex(digits) || hex32(digits) == 0 {
		return 0, fmt.Errorf("invalid history file name %q: want a TLI of eight digits and %s", name, historySuffix)
	}
	return TLI(hex32(digits)), nil
}

func isUpperHex(s string) bool {
	return strings.Trim(s, "0123456789ABCDEF") == ""
}

// hex32 reads eight digits that isUpperHex has seen.
func hex32(s string) uint32 {
	n, _ := strconv.ParseUint(s, 16, 32)
	return uint32(n)
}
