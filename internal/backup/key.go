package backup

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/sluicewal/sluice/internal/pg"
)

// The layout of an incarnation, below T/L/INCARNATION/.
const (
	walDir       = "wal/"
	partialDir   = "wal/partial/"
	sealDir      = "seal/"
	claimDir     = "claim/"
	servedDir    = "served/"
	tombstoneKey = "deleted"
	// sumSuffix ends the name of the checksum file of a segment that is not compressed, on a file:// store: the segment
	// has no room for a label, and a file no metadata. Its content is sha256sum(1)'s.
	sumSuffix = ".sha256"
)

// kind says what an object is.
type kind int

// The kinds of objects.
const (
	foreign kind = iota // none of ours
	wholeSegment
	openSegment
	history
	checksum
	seal
	claim
	servedTail
	tombstone
)

// name is what a key, below the incarnation, says.
type name struct {
	kind    kind
	tli     pg.TLI
	segNo   pg.SegNo // of segments
	end     pg.LSN   // of open segments: the end of what was durable
	node    string   // of open segments: who had it
	revived int      // of tombstones; see [Identity]
}

// layout makes keys and reads them.
type layout struct {
	size        pg.SegmentSize
	compression Compression
}

func (l layout) segment(tli pg.TLI, n pg.SegNo) string {
	return walDir + pg.SegmentName(tli, n, l.size) + l.compression.suffix()
}

func (l layout) partial(tli pg.TLI, n pg.SegNo, end pg.LSN, node string) string {
	return fmt.Sprintf("%s%s.%016X.%s%s", partialDir, pg.SegmentName(tli, n, l.size), uint64(end), node, l.compression.suffix())
}

func historyKey(tli pg.TLI) string         { return walDir + pg.HistoryName(tli) }
func tliKey(dir string, tli pg.TLI) string { return fmt.Sprintf("%s%08X", dir, uint32(tli)) }

// tombstoneOf is the key of the end of a life that was revived so often.
func tombstoneOf(revived int) string {
	if revived == 0 {
		return tombstoneKey
	}
	return fmt.Sprintf("%s.%d", tombstoneKey, revived)
}

// parse reads a key. What does not look exactly as if this program had written it is foreign.
func (l layout) parse(key string) name {
	switch {
	case strings.HasPrefix(key, tombstoneKey):
		return parseTombstone(key)
	case strings.HasPrefix(key, sealDir):
		return parseTLI(seal, key[len(sealDir):])
	case strings.HasPrefix(key, claimDir):
		return parseTLI(claim, key[len(claimDir):])
	case strings.HasPrefix(key, servedDir):
		return parseTLI(servedTail, key[len(servedDir):])
	case strings.HasPrefix(key, partialDir):
		return l.parsePartial(key[len(partialDir):])
	case strings.HasPrefix(key, walDir):
		return l.parseWAL(key[len(walDir):])
	}
	return name{}
}

func parseTLI(k kind, s string) name {
	n, err := strconv.ParseUint(s, 16, 32)
	if err != nil || n == 0 || fmt.Sprintf("%08X", n) != s {
		return name{}
	}
	return name{kind: k, tli: pg.TLI(n)}
}

func parseTombstone(key string) name {
	n, _ := strconv.Atoi(strings.TrimPrefix(key, tombstoneKey+".")) // 0, where that is no number
	if n < 0 || tombstoneOf(n) != key {
		return name{}
	}
	return name{kind: tombstone, revived: n}
}

func (l layout) parseWAL(s string) name {
	if tli, err := pg.ParseHistoryName(s); err == nil {
		return name{kind: history, tli: tli}
	}
	k := wholeSegment
	if sum, found := strings.CutSuffix(s, sumSuffix); found && l.compression == None {
		k, s = checksum, sum
	}
	segment, found := strings.CutSuffix(s, l.compression.suffix())
	if !found {
		return name{}
	}
	tli, n, err := pg.ParseSegmentName(segment, l.size)
	if err != nil {
		return name{}
	}
	return name{kind: k, tli: tli, segNo: n}
}

// nodeRule is the rule of node ids.
var nodeRule = regexp.MustCompile(`^[a-z0-9_]{1,40}$`)

func (l layout) parsePartial(s string) name {
	k := openSegment
	if sum, found := strings.CutSuffix(s, sumSuffix); found && l.compression == None {
		k, s = checksum, sum
	}
	s, found := strings.CutSuffix(s, l.compression.suffix())
	parts := strings.Split(s, ".")
	if !found || len(parts) != 3 || !nodeRule.MatchString(parts[2]) {
		return name{}
	}
	tli, n, err := pg.ParseSegmentName(parts[0], l.size)
	if err != nil {
		return name{}
	}
	end, err := strconv.ParseUint(parts[1], 16, 64)
	if err != nil || fmt.Sprintf("%016X", end) != parts[1] || !l.within(n, pg.LSN(end)) {
		return name{}
	}
	return name{kind: k, tli: tli, segNo: n, end: pg.LSN(end), node: parts[2]}
}

// within reports whether an open segment can end there: above its first byte, and not above its last.
func (l layout) within(n pg.SegNo, end pg.LSN) bool {
	start := l.size.Start(n)
	return end > start && uint64(end-start) <= uint64(l.size)
}

func baseName(key string) string { return key[strings.LastIndex(key, "/")+1:] }

// hexDigits is how many a digest has.
const hexDigits = 2 * len(digest{})
