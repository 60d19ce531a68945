package broker

import (
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sluicewal/sluice/internal/pg"
)

// A message is protocol buffers' wire format, written by hand because it is small and is made and read ten thousand
// times a second:
//
//	message Message {
//	  uint32 version = 1;          // 1
//	  string node = 2;             // who says it
//	  fixed64 started = 3;         // its process, in nanoseconds of its clock
//	  uint64 sequence = 4;         // counts the messages to this receiver, from 1; 0 in a greeting
//	  repeated Status status = 5;
//	}
//	message Position { uint32 tli = 1; fixed64 lsn = 2; }
//	message Status {
//	  string timeline = 1;
//	  string incarnation = 2;
//	  fixed64 system_id = 3;
//	  Position start = 4, flush = 5, commit = 6, backup = 7;
//	  fixed64 record_end = 8;
//	  uint32 flags = 9;            // 1 active, 2 qualified, 4 can upload, 8 offloading
//	  uint32 stalled_ms = 10;
//	}
//
// A field that is not known is skipped, so that a newer node may say more. A change that an older one would
// misunderstand is another version, and another subject.
const version = 1

// The bounds of a message. A name is at most two of 63 and a slash, an incarnation a UUID.
const (
	maxMessageBytes     = 256 << 10
	maxStatuses         = 4000
	maxNodeBytes        = 40
	maxTimelineBytes    = 127
	maxIncarnationBytes = 64
	// statusRoom is what an encoded status never exceeds.
	statusRoom = 512
)

// The fields' numbers.
const (
	fieldVersion, fieldNode, fieldStarted, fieldSequence, fieldStatus = 1, 2, 3, 4, 5

	fieldTimeline, fieldIncarnation, fieldSystemID         = 1, 2, 3
	fieldStart, fieldFlush, fieldCommit, fieldBackup       = 4, 5, 6, 7
	fieldRecordEnd, fieldFlags, fieldStalled               = 8, 9, 10
	fieldTLI, fieldLSN                                     = 1, 2
	flagActive, flagQualified, flagCanUpload, flagOffloads = 1, 2, 4, 8
)

var (
	errMalformed = errors.New("malformed message")
	errVersion   = errors.New("message of another version")
)

// header is what a message says of itself.
type header struct {
	version  uint64
	node     string
	started  uint64
	sequence uint64
}

// said is a status as it stands in a message. The names are the message's own bytes.
type said struct {
	timeline, incarnation []byte
	status                Status // without the key
}

// message is one that was read; the zero value is used for one after the other.
type message struct {
	header
	said []said
}

func appendHeader(b []byte, h header) []byte {
	b = appendVarint(b, fieldVersion, h.version)
	b = protowire.AppendTag(b, fieldNode, protowire.BytesType)
	b = protowire.AppendString(b, h.node)
	b = appendFixed(b, fieldStarted, h.started)
	return appendVarint(b, fieldSequence, h.sequence)
}

// appendStatus appends a status as the field of a message that it is.
func appendStatus(b []byte, s *Status) []byte {
	b = protowire.AppendTag(b, fieldStatus, protowire.BytesType)
	// The length comes first and takes two bytes, as it is between 128 and 16383, padded if it is less.
	at := len(b)
	b = append(b, 0, 0)
	b = protowire.AppendTag(b, fieldTimeline, protowire.BytesType)
	b = protowire.AppendString(b, s.Timeline)
	b = protowire.AppendTag(b, fieldIncarnation, protowire.BytesType)
	b = protowire.AppendString(b, s.Incarnation)
	b = appendFixed(b, fieldSystemID, s.SystemID)
	b = appendPosition(b, fieldStart, s.Start)
	b = appendPosition(b, fieldFlush, s.Flush)
	b = appendPosition(b, fieldCommit, s.Commit)
	b = appendPosition(b, fieldBackup, s.Backup)
	b = appendFixed(b, fieldRecordEnd, uint64(s.RecordEnd))
	b = appendVarint(b, fieldFlags, s.flags())
	b = appendVarint(b, fieldStalled, uint64(min(max(s.Stalled.Milliseconds(), 0), math.MaxUint32)))
	n := len(b) - at - 2
	b[at], b[at+1] = byte(n)|0x80, byte(n>>7)
	return b
}

func (s *Status) flags() (f uint64) {
	for _, flag := range []struct {
		set bool
		bit uint64
	}{{s.Active, flagActive}, {s.Qualified, flagQualified}, {s.CanUpload, flagCanUpload}, {s.Offloading, flagOffloads}} {
		if flag.set {
			f |= flag.bit
		}
	}
	return f
}

func appendPosition(b []byte, field protowire.Number, p pg.Position) []byte {
	if p.IsZero() {
		return b
	}
	b = protowire.AppendTag(b, field, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(protowire.SizeTag(fieldTLI)+protowire.SizeVarint(uint64(p.TLI))+protowire.SizeTag(fieldLSN)+8))
	b = appendVarint(b, fieldTLI, uint64(p.TLI))
	b = protowire.AppendTag(b, fieldLSN, protowire.Fixed64Type)
	return protowire.AppendFixed64(b, uint64(p.LSN))
}

func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func appendFixed(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), v)
}

// read reads a message. Its names are data's own bytes. The error wraps errMalformed or errVersion.
func (m *message) read(data []byte) error {
	*m = message{said: m.said[:0]}
	if len(data) > maxMessageBytes {
		return fmt.Errorf("%w: %d bytes, more than %d", errMalformed, len(data), maxMessageBytes)
	}
	if err := eachField(data, m.field); err != nil {
		return err
	}
	switch {
	case m.version == 0 || m.node == "" || m.started == 0:
		return fmt.Errorf("%w: it does not say who sent it", errMalformed)
	case m.version != version:
		return fmt.Errorf("%w: %d, this node knows %d", errVersion, m.version, version)
	}
	return nil
}

func (m *message) field(f field) error {
	switch f.number {
	case fieldVersion:
		return f.varint(&m.version, math.MaxUint32)
	case fieldNode:
		return f.text(&m.node, maxNodeBytes)
	case fieldStarted:
		return f.fixed(&m.started)
	case fieldSequence:
		return f.varint(&m.sequence, math.MaxUint64)
	case fieldStatus:
		if len(m.said) == maxStatuses {
			return fmt.Errorf("%w: more than %d statuses", errMalformed, maxStatuses)
		}
		m.said = append(m.said, said{})
		return m.said[len(m.said)-1].read(f)
	}
	return nil
}

func (s *said) read(f field) error {
	if f.kind != protowire.BytesType {
		return f.wrong()
	}
	if err := eachField(f.bytes, s.field); err != nil {
		return err
	}
	if len(s.timeline) == 0 || len(s.incarnation) == 0 {
		return fmt.Errorf("%w: a status without a name", errMalformed)
	}
	return nil
}

func (s *said) field(f field) error {
	var v uint64
	var err error
	switch f.number {
	case fieldTimeline:
		return f.name(&s.timeline, maxTimelineBytes)
	case fieldIncarnation:
		return f.name(&s.incarnation, maxIncarnationBytes)
	case fieldSystemID:
		return f.fixed(&s.status.SystemID)
	case fieldStart:
		return f.position(&s.status.Start)
	case fieldFlush:
		return f.position(&s.status.Flush)
	case fieldCommit:
		return f.position(&s.status.Commit)
	case fieldBackup:
		return f.position(&s.status.Backup)
	case fieldRecordEnd:
		err = f.fixed(&v)
		s.status.RecordEnd = pg.LSN(v)
	case fieldFlags:
		err = f.varint(&v, math.MaxUint32)
		s.status.Active, s.status.Qualified = v&flagActive != 0, v&flagQualified != 0
		s.status.CanUpload, s.status.Offloading = v&flagCanUpload != 0, v&flagOffloads != 0
	case fieldStalled:
		err = f.varint(&v, math.MaxUint32)
		s.status.Stalled = time.Duration(v) * time.Millisecond
	}
	return err
}

// field is one field of a message as it stands on the wire.
type field struct {
	number protowire.Number
	kind   protowire.Type
	value  uint64 // of a number
	bytes  []byte // of text and of messages
}

// eachField calls visit for each field whose kind is used here; groups and 32-bit numbers are skipped.
func eachField(b []byte, visit func(field) error) error {
	for len(b) > 0 {
		f := field{}
		var n int
		f.number, f.kind, n = protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: %w", errMalformed, protowire.ParseError(n))
		}
		b = b[n:]
		switch f.kind {
		case protowire.VarintType:
			f.value, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			f.value, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(f.number, f.kind, b)
		}
		if n < 0 {
			return fmt.Errorf("%w: field %d: %w", errMalformed, f.number, protowire.ParseError(n))
		}
		b = b[n:]
		if err := visit(f); err != nil {
			return err
		}
	}
	return nil
}

func (f field) wrong() error {
	return fmt.Errorf("%w: field %d has wire type %d or is out of its bounds", errMalformed, f.number, f.kind)
}

func (f field) varint(v *uint64, highest uint64) error {
	if f.kind != protowire.VarintType || f.value > highest {
		return f.wrong()
	}
	*v = f.value
	return nil
}

func (f field) fixed(v *uint64) error {
	if f.kind != protowire.Fixed64Type {
		return f.wrong()
	}
	*v = f.value
	return nil
}

func (f field) name(v *[]byte, longest int) error {
	if f.kind != protowire.BytesType || len(f.bytes) > longest {
		return f.wrong()
	}
	*v = f.bytes
	return nil
}

func (f field) text(v *string, longest int) error {
	var b []byte
	err := f.name(&b, longest)
	*v = string(b)
	return err
}

func (f field) position(p *pg.Position) error {
	if f.kind != protowire.BytesType {
		return f.wrong()
	}
	return eachField(f.bytes, func(f field) error {
		var v uint64
		switch f.number {
		case fieldTLI:
			err := f.varint(&v, math.MaxUint32)
			p.TLI = pg.TLI(v)
			return err
		case fieldLSN:
			err := f.fixed(&v)
			p.LSN = pg.LSN(v)
			return err
		}
		return nil
	})
}
