package replication

import (
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// endless is a connection from which one message of WAL after the other comes, at each read one, and which takes whatever
// is written.
type endless struct {
	net.Conn
	message []byte
	lsn     pg.LSN
}

func (c *endless) Read(p []byte) (int, error) {
	binary.BigEndian.PutUint64(c.message[copyHeader:], uint64(c.lsn))
	c.lsn += pg.LSN(len(c.message) - walHeader)
	binary.BigEndian.PutUint64(c.message[copyHeader+8:], uint64(c.lsn))
	return copy(p, c.message), nil
}

func (*endless) Write(p []byte) (int, error)      { return len(p), nil }
func (*endless) SetReadDeadline(time.Time) error  { return nil }
func (*endless) SetWriteDeadline(time.Time) error { return nil }

// discard is a sink that keeps nothing.
type discard struct {
	memSink
	end pg.LSN
}

func (d *discard) Append(lsn pg.LSN, p []byte) error             { d.end = lsn + pg.LSN(len(p)); return nil }
func (d *discard) Check(pg.LSN, []byte) (w pg.Walker, err error) { return w, nil }
func (d *discard) Write([]byte, *pg.Walker) error                { return nil }
func (d *discard) Verified() bool                                { return true }
func (d *discard) Sync() (pg.LSN, error)                         { return d.end, nil }

// working is a stream in the middle of its work, to which each turn brings a message of size bytes.
func working(tb testing.TB, size int) *stream {
	r, err := NewReceiver(Config{Conninfo: "host=h", NodeID: "a"}, &discard{})
	if err != nil {
		tb.Fatal(err)
	}
	conn := &endless{message: walMessage(0, 0, zeros(size)), lsn: base}
	s := newStream(r, newWire(conn, conn, r.cfg.limits()), entry{source: Source{TLI: 1, SegmentSize: 16 * mib}, at: pg.Position{TLI: 1, LSN: base}})
	s.phase, s.voice.open, s.mode, s.verified = copying, true, live, true
	return s
}

func TestTurnAllocatesNothing(t *testing.T) {
	s := working(t, 200)
	allocs := testing.AllocsPerRun(1000, func() {
		if err := s.turn(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 0 {
		t.Errorf("%.1f allocations a turn", allocs)
	}
	if s.voice.reported != s.received {
		t.Errorf("reported %s of %s", s.voice.reported, s.received)
	}
}

// BenchmarkTurn is a whole turn, reading, appending, syncing and reporting, without network or disk.
func BenchmarkTurn(b *testing.B) {
	for _, size := range []int{200, 8 << 10, 128 << 10} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			s := working(b, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := s.turn(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
