package backup

import (
	"bytes"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
)

func exampleLabel() label {
	return label{
		Version: labelVersion, SHA256: digest{1, 2, 3}, Bytes: 16 << 20, Stored: 12345, TLI: 3,
		Start: 0x1000000, End: 0x2000000, SystemID: 7123456789012345678,
	}
}

func TestLabelIsReadAsItWasWritten(t *testing.T) {
	frame, err := exampleLabel().encode()
	if err != nil || len(frame) > maxLabelBytes {
		t.Fatalf("%d bytes, %v", len(frame), err)
	}
	l, n, err := decodeLabel(append(frame, "what follows"...))
	if err != nil || l != exampleLabel() || n != len(frame) {
		t.Errorf("%+v, %d, %v", l, n, err)
	}
	for i := range frame {
		if _, _, err := decodeLabel(frame[:i]); err == nil {
			t.Errorf("a label of %d bytes of %d was read", i, len(frame))
		}
	}
}

// FuzzLabel: what is read says something that can be, and says it again when it is written.
func FuzzLabel(f *testing.F) {
	frame, err := exampleLabel().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(frame)
	f.Add(bytes.Repeat([]byte{0xFF}, 16))
	f.Add([]byte("\x5a\x2a\x4d\x18\x02\x00\x00\x00{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, n, err := decodeLabel(b)
		if err != nil {
			return
		}
		if n > len(b) || n > maxLabelBytes || l.Bytes < 0 || l.End < l.Start || l.Version != labelVersion {
			t.Fatalf("%+v in %d bytes", l, n)
		}
		again, err := l.encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, _, err := decodeLabel(again); err != nil || back != l {
			t.Fatalf("%+v, and again %+v, %v", l, back, err)
		}
	})
}

// FuzzKey: a key that is ours is the one that we would write.
func FuzzKey(f *testing.F) {
	for _, key := range []string{
		"deleted", "deleted.1", "deleted.0", "deleted.01", "deleted.-1", "seal/00000001", "claim/0000000A", "served/00000003", "wal/00000002.history", "wal/000000010000000000000007.zst",
		"wal/000000010000000000000007", "wal/000000010000000000000007.sha256",
		"wal/partial/000000010000000000000007.0000000007000100.a.lz4", "wal/partial/000000010000000000000007.0000000007000100.a.sha256",
	} {
		f.Add(key, uint8(4))
	}
	f.Fuzz(func(t *testing.T, key string, choice uint8) {
		l := layout{size: pg.MinSegmentSize << (choice % 11), compression: []Compression{Zstd, LZ4, None}[choice%3]}
		if n := l.parse(key); n.kind != foreign && l.key(n) != key {
			t.Errorf("%q is %+v, which is called %q", key, n, l.key(n))
		}
	})
}

// key is the inverse of parse.
func (l layout) key(n name) string {
	switch n.kind {
	case wholeSegment:
		return l.segment(n.tli, n.segNo)
	case openSegment:
		return l.partial(n.tli, n.segNo, n.end, n.node)
	case history:
		return historyKey(n.tli)
	case checksum:
		if n.node != "" {
			return l.partial(n.tli, n.segNo, n.end, n.node) + sumSuffix
		}
		return l.segment(n.tli, n.segNo) + sumSuffix
	case seal:
		return tliKey(sealDir, n.tli)
	case claim:
		return tliKey(claimDir, n.tli)
	case servedTail:
		return tliKey(servedDir, n.tli)
	}
	return tombstoneOf(n.revived)
}
