package replication

import (
	"encoding/binary"
	"fmt"

	"github.com/sluicewal/sluice/internal/pg"
)

// maxMessage bounds a message that is held whole in memory: all but WAL. PostgreSQL's own client stops at 30,000 bytes
// where it has no reason to expect more (fe-protocol3.c); histories are longer.
const maxMessage = 1 << 20

// Lengths of headers, from the message's type on.
const (
	messageHeader   = 1 + 4                             // type, length
	copyHeader      = messageHeader + 1                 // and what the CopyData is
	walHeader       = copyHeader + 8 + 8 + 8            // and position, source's end, time
	keepaliveHeader = copyHeader + 8 + 8 + 1            // and source's end, time, reply requested
	minWALLength    = walHeader - 1                     // of a message that carries no WAL
	keepaliveLength = uint32(keepaliveHeader - 1)       // of a keepalive
	maxWALLength    = uint32(minWALLength + (16 << 20)) // PostgreSQL sends at most 128 KiB (MAX_SEND_SIZE in walsender.c)
)

// frameKind says what a frame holds.
type frameKind uint8

const (
	frameNone      frameKind = iota // nothing: the chunk ended first
	frameWAL                        // a piece of WAL, often less than a message
	frameKeepalive                  // a primary keepalive message
	frameMessage                    // any other message, whole
)

// frame is what the decoder finds next. data aliases the chunk, or the decoder's memory, and holds until the next call.
type frame struct {
	kind      frameKind
	sourceEnd pg.LSN // frameWAL, frameKeepalive
	lsn       pg.LSN // frameWAL: of data[0]
	replyNow  bool   // frameKeepalive
	typ       byte   // frameMessage
	data      []byte // frameWAL, frameMessage
}

// decoder cuts what the source sends into frames, wherever reading has cut it into chunks. WAL is passed on in the pieces
// in which it comes, so that neither a buffer nor a copy is needed for a whole message.
type decoder struct {
	head [walHeader]byte
	have int // bytes of head that are there

	walLeft   uint32 // bytes of WAL still to come in this message
	walLSN    pg.LSN // of the next of them
	sourceEnd pg.LSN

	body     []byte // of another message that came in several chunks
	bodyLeft uint32
}

// atBorder says that the last chunk ended with a message.
func (d *decoder) atBorder() bool { return d.have == 0 }

// next returns the first frame in chunk, and what follows it; frameNone when chunk is used up.
func (d *decoder) next(chunk []byte) (frame, []byte, error) {
	if d.walLeft > 0 {
		return d.wal(chunk)
	}
	if d.bodyLeft > 0 {
		return d.message(chunk)
	}
	for want := max(messageHeader, d.have); ; {
		n := copy(d.head[d.have:want], chunk)
		d.have += n
		chunk = chunk[n:]
		if d.have < want {
			return frame{}, nil, nil
		}
		more, err := d.headerLen()
		if err != nil {
			return frame{}, nil, err
		}
		if more == want {
			return d.begin(chunk)
		}
		want = more
	}
}

// length is the message's length word: all but the type.
func (d *decoder) length() uint32 { return binary.BigEndian.Uint32(d.head[1:]) }

// headerLen says how long the header is, as far as what is there of it tells.
func (d *decoder) headerLen() (int, error) {
	length := d.length()
	if d.head[0] != 'd' {
		if length < 4 || length > maxMessage {
			return 0, fmt.Errorf("the source sent a message %q of %d bytes", d.head[0], length)
		}
		return messageHeader, nil
	}
	if d.have < copyHeader {
		return copyHeader, nil
	}
	switch kind := d.head[messageHeader]; {
	case kind == 'w' && length >= minWALLength && length <= maxWALLength:
		return walHeader, nil
	case kind == 'k' && length == keepaliveLength:
		return keepaliveHeader, nil
	default:
		return 0, fmt.Errorf("the source sent CopyData %q of %d bytes", kind, length)
	}
}

// begin takes up the message whose header is complete.
func (d *decoder) begin(chunk []byte) (frame, []byte, error) {
	if d.head[0] != 'd' {
		d.body, d.bodyLeft = d.body[:0], d.length()-4
		return d.message(chunk)
	}
	if d.head[messageHeader] == 'k' {
		d.have = 0
		return frame{
			kind:      frameKeepalive,
			sourceEnd: pg.LSN(binary.BigEndian.Uint64(d.head[copyHeader:])),
			replyNow:  d.head[keepaliveHeader-1] != 0,
		}, chunk, nil
	}
	d.walLeft = d.length() - minWALLength
	d.walLSN = pg.LSN(binary.BigEndian.Uint64(d.head[copyHeader:]))
	d.sourceEnd = pg.LSN(binary.BigEndian.Uint64(d.head[copyHeader+8:]))
	return d.wal(chunk)
}

// wal passes on what there is of a message's WAL.
func (d *decoder) wal(chunk []byte) (frame, []byte, error) {
	n := min(len(chunk), int(d.walLeft))
	f := frame{kind: frameWAL, sourceEnd: d.sourceEnd, lsn: d.walLSN, data: chunk[:n]}
	d.walLeft -= uint32(n)
	d.walLSN += pg.LSN(n)
	if d.walLeft == 0 {
		d.have = 0
	}
	if n == 0 && d.walLeft > 0 {
		return frame{}, nil, nil
	}
	return f, chunk[n:], nil
}

// message gathers another message.
func (d *decoder) message(chunk []byte) (frame, []byte, error) {
	n := min(len(chunk), int(d.bodyLeft))
	d.bodyLeft -= uint32(n)
	body := chunk[:n]
	if d.bodyLeft > 0 || len(d.body) > 0 {
		d.body = append(d.body, body...)
		body = d.body
	}
	if d.bodyLeft > 0 {
		return frame{}, nil, nil
	}
	d.have = 0
	return frame{kind: frameMessage, typ: d.head[0], data: body}, chunk[n:], nil
}
