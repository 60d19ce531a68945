package backup

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sluicewal/sluice/internal/pg"
)

// label is what a compressed object says of itself, in a skippable frame before the compressed bytes: zstd(1), lz4(1) and
// the libraries pass over it, so that the object is a valid .zst or .lz4 file. It is written with the bytes, at once, on every
// kind of store; user metadata are not there on a file system.
type label struct {
	Version int    `json:"v"`
	SHA256  digest `json:"sha256"` // of the uncompressed bytes
	Bytes   int64  `json:"bytes"`  // uncompressed
	Stored  int64  `json:"stored"` // compressed bytes behind the label
	TLI     pg.TLI `json:"tli"`
	Start   pg.LSN `json:"start"`
	End     pg.LSN `json:"end"` // of an open segment: the end of what was durable
	// At is when an open segment was read, in seconds of Unix time. A whole one does not say.
	At int64 `json:"at,omitempty"`
	// SystemID is the cluster's system identifier.
	SystemID uint64 `json:"system_identifier,string"`
}

// Of the frame (zstd's format specification, "Skippable Frames"; lz4's has the same): magic number and length, each four
// bytes, the least significant first. 16 magic numbers are for anybody's use.
const (
	labelVersion   = 1
	labelMagic     = 0x184D2A5A
	frameHeadBytes = 8
	maxLabelBytes  = 1 << 10 // with the frame's head
)

var errNoLabel = errors.New("it does not begin with a label of Sluice's")

// encode returns the frame.
func (l label) encode() ([]byte, error) {
	text, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	frame := binary.LittleEndian.AppendUint32(nil, labelMagic)
	frame = binary.LittleEndian.AppendUint32(frame, uint32(len(text)))
	return append(frame, text...), nil
}

// decodeLabel reads the label at the beginning of an object, and how many bytes it takes.
func decodeLabel(b []byte) (label, int, error) {
	if len(b) < frameHeadBytes || binary.LittleEndian.Uint32(b) != labelMagic {
		return label{}, 0, errNoLabel
	}
	size := binary.LittleEndian.Uint32(b[4:])
	if size > maxLabelBytes-frameHeadBytes || int(size) > len(b)-frameHeadBytes {
		return label{}, 0, fmt.Errorf("its label should have %d bytes", size)
	}
	end := frameHeadBytes + int(size)
	var l label
	if err := json.Unmarshal(b[frameHeadBytes:end], &l); err != nil {
		return label{}, 0, fmt.Errorf("its label cannot be read: %w", err)
	}
	return l, end, l.check()
}

// check refuses what no Sluice writes.
func (l label) check() error {
	switch {
	case l.Version != labelVersion:
		return fmt.Errorf("its label has version %d, and this program knows %d", l.Version, labelVersion)
	case l.End < l.Start || l.Bytes < 0 || uint64(l.Bytes) != uint64(l.End-l.Start) || l.Stored < 0:
		return fmt.Errorf("its label contradicts itself: %d bytes from %s to %s", l.Bytes, l.Start, l.End)
	}
	return nil
}

// digest is a SHA-256, written in hexadecimal.
type digest [sha256.Size]byte

// String implements fmt.Stringer.
func (d digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText implements encoding.TextMarshaler.
func (d digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *digest) UnmarshalText(text []byte) error {
	sum, err := hex.DecodeString(string(text))
	if err != nil || len(sum) != len(d) {
		return fmt.Errorf("digest %q: want the 64 hexadecimal digits of a SHA-256", text)
	}
	copy(d[:], sum)
	return nil
}
