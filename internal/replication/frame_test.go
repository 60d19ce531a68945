package replication

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
)

// walMessage is CopyData with WAL as a walsender sends it (XLogSendPhysical).
func walMessage(lsn, end pg.LSN, wal []byte) []byte {
	b := []byte{'d'}
	b = binary.BigEndian.AppendUint32(b, uint32(minWALLength+len(wal)))
	b = append(b, 'w')
	b = binary.BigEndian.AppendUint64(b, uint64(lsn))
	b = binary.BigEndian.AppendUint64(b, uint64(end))
	b = binary.BigEndian.AppendUint64(b, 0)
	return append(b, wal...)
}

func keepaliveMessage(end pg.LSN, replyNow byte) []byte {
	b := []byte{'d'}
	b = binary.BigEndian.AppendUint32(b, keepaliveLength)
	b = append(b, 'k')
	b = binary.BigEndian.AppendUint64(b, uint64(end))
	b = binary.BigEndian.AppendUint64(b, 0)
	return append(b, replyNow)
}

func otherMessage(typ byte, body string) []byte {
	b := []byte{typ}
	b = binary.BigEndian.AppendUint32(b, uint32(4+len(body)))
	return append(b, body...)
}

// transcript decodes input, cut into chunks of n bytes, and prints what it finds; WAL pieces that continue each other are
// joined.
func transcript(input []byte, n int) (string, error) {
	var d decoder
	var out strings.Builder
	var wal []byte
	var lsn, end pg.LSN
	flushWAL := func() {
		if len(wal) > 0 {
			fmt.Fprintf(&out, "wal %s end %s %q\n", lsn, end, wal)
		}
		wal = nil
	}
	for len(input) > 0 {
		chunk := input[:min(n, len(input))]
		input = input[len(chunk):]
		for {
			f, rest, err := d.next(chunk)
			if err != nil {
				flushWAL()
				return out.String(), err
			}
			if f.kind == frameNone {
				break
			}
			switch {
			case f.kind != frameWAL:
				flushWAL()
			case len(wal) == 0 || f.lsn != lsn+pg.LSN(len(wal)) || f.sourceEnd != end:
				flushWAL()
				lsn, end = f.lsn, f.sourceEnd
			}
			switch f.kind {
			case frameWAL:
				wal = append(wal, f.data...)
			case frameKeepalive:
				fmt.Fprintf(&out, "keepalive %s %t\n", f.sourceEnd, f.replyNow)
			case frameMessage:
				fmt.Fprintf(&out, "message %c %q\n", f.typ, f.data)
			}
			chunk = rest
		}
	}
	flushWAL()
	if !d.atBorder() {
		out.WriteString("incomplete\n")
	}
	return out.String(), nil
}

func TestDecoderFindsFramesHoweverTheyAreCut(t *testing.T) {
	input := bytes.Join([][]byte{
		otherMessage('W', "\x00\x00\x00"),
		walMessage(0x1000000, 0x2000000, []byte("first")),
		keepaliveMessage(0x2000000, 1),
		walMessage(0x1000005, 0x2000000, []byte("second")),
		walMessage(0x100000B, 0x2000008, nil),
		keepaliveMessage(0x2000008, 0),
		otherMessage('c', ""),
		otherMessage('D', strings.Repeat("x", 40)),
		otherMessage('Z', "I"),
		walMessage(0x100000B, 0x2000008, []byte("rest"))[:20],
	}, nil)
	want := `message W "\x00\x00\x00"
wal 0/1000000 end 0/2000000 "first"
keepalive 0/2000000 true
wal 0/1000005 end 0/2000000 "second"
keepalive 0/2000008 false
message c ""
message D "` + strings.Repeat("x", 40) + `"
message Z "I"
incomplete
`
	for n := 1; n <= len(input); n++ {
		if got, err := transcript(input, n); err != nil || got != want {
			t.Fatalf("chunks of %d: %v\n%s\nwant\n%s", n, err, got, want)
		}
	}
}

func TestDecoderRefusesNonsense(t *testing.T) {
	huge := walMessage(0, 0, nil)
	binary.BigEndian.PutUint32(huge[1:], 1<<30)
	for name, input := range map[string][]byte{
		"length below the header":   {'E', 0, 0, 0, 3},
		"message beyond the limit":  {'E', 0, 0x10, 0, 1},
		"negative length":           {'E', 0xFF, 0xFF, 0xFF, 0xFF},
		"unknown CopyData":          otherMessage('d', "x12345"),
		"empty CopyData":            append(otherMessage('d', ""), keepaliveMessage(0, 0)...),
		"WAL without its header":    otherMessage('d', "w1234567"),
		"keepalive too short":       otherMessage('d', "k1234567"),
		"keepalive too long":        otherMessage('d', "k"+strings.Repeat("x", 18)),
		"WAL of a gibibyte at once": huge,
	} {
		if got, err := transcript(input, len(input)); err == nil {
			t.Errorf("%s: no error, but\n%s", name, got)
		}
	}
}

// FuzzDecoder holds two decoders against each other: one gets the input whole, one byte by byte.
func FuzzDecoder(f *testing.F) {
	f.Add(walMessage(0x1000000, 0x2000000, []byte("wal")))
	f.Add(append(keepaliveMessage(0x2000000, 1), otherMessage('c', "")...))
	f.Add(append(otherMessage('E', "SERROR\x00\x00"), otherMessage('Z', "I")...))
	f.Add([]byte{'d', 0, 0, 0, 4})
	f.Fuzz(func(t *testing.T, input []byte) {
		whole, wholeErr := transcript(input, max(len(input), 1))
		bytewise, bytewiseErr := transcript(input, 1)
		if whole != bytewise || (wholeErr == nil) != (bytewiseErr == nil) {
			t.Errorf("whole: %v\n%s\nbyte by byte: %v\n%s", wholeErr, whole, bytewiseErr, bytewise)
		}
	})
}

// BenchmarkDecoder: WAL as it comes while catching up (128 KiB a message) and live (one small commit a message).
func BenchmarkDecoder(b *testing.B) {
	for _, size := range []int{200, 8 << 10, 128 << 10} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			message := walMessage(0, 0, make([]byte, size))
			chunk := bytes.Repeat(message, max(1, chunkLen/len(message)))
			perChunk := len(chunk) / len(message)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			var d decoder
			for i := 0; i < b.N; i += perChunk {
				for rest := chunk; ; {
					f, after, err := d.next(rest)
					if err != nil {
						b.Fatal(err)
					}
					if f.kind == frameNone {
						break
					}
					rest = after
				}
			}
		})
	}
}
