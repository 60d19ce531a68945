package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// limits say how long a wire may take.
type limits struct {
	write   time.Duration // for one write
	goodbye time.Duration // for all that is still said once the session is cancelled
}

func (c Config) limits() limits {
	return limits{write: c.ReceiveTimeout, goodbye: c.GoodbyeTimeout}
}

// wire is a connection on which we read and write the protocol's messages ourselves. One goroutine reads and one writes;
// interrupt and wake may be called by others.
//
// Reads and writes end by deadlines. Whoever sets one in the past, to end a wait, first sets what the owner then checks; the
// owner first sets its own deadline and then checks. So, whichever deadline comes last, no end is missed.
type wire struct {
	conn   net.Conn
	in     io.Reader // of the same bytes as conn; see link.hijack
	limits limits
	broken bool // a write failed: what the source has of it nobody knows, so nothing may follow
	// cutoff is when all talking ends; nil until the session is cancelled.
	cutoff atomic.Pointer[time.Time]
}

var errBroken = errors.New("write to the source: a write before failed")

func newWire(conn net.Conn, in io.Reader, l limits) *wire {
	return &wire{conn: conn, in: in, limits: l}
}

// watch ends the wire's waits when ctx ends. The function that it returns must be called; after it, nothing of this runs.
func (w *wire) watch(ctx context.Context) (unwatch func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		w.interrupt()
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

// interrupt ends reading now, and gives writing what is left for the goodbye.
func (w *wire) interrupt() {
	cutoff := time.Now().Add(w.limits.goodbye)
	w.cutoff.Store(&cutoff)
	w.wake()
	// An error means that the connection is closed, and then nobody waits on it.
	_ = w.conn.SetWriteDeadline(cutoff)
}

// wake makes a read that waits return with a timeout.
func (w *wire) wake() {
	_ = w.conn.SetReadDeadline(time.Unix(1, 0))
}

// limitRead sets how long the next read may wait.
func (w *wire) limitRead(d time.Duration) error {
	return w.conn.SetReadDeadline(time.Now().Add(d))
}

// read returns what is there, and waits if there is nothing.
func (w *wire) read(p []byte) (int, error) { return w.in.Read(p) }

// write sends whole messages.
func (w *wire) write(p []byte) error {
	if w.broken {
		return errBroken
	}
	// Where setting a deadline fails, so does the write.
	_ = w.conn.SetWriteDeadline(time.Now().Add(w.limits.write))
	if cutoff := w.cutoff.Load(); cutoff != nil {
		_ = w.conn.SetWriteDeadline(*cutoff)
	}
	if _, err := w.conn.Write(p); err != nil {
		w.broken = true
		return fmt.Errorf("write to the source: %w", err)
	}
	return nil
}

// drain reads and forgets until the source closes the connection, or the time for the goodbye is over. Closing a socket that
// holds unread bytes resets the connection, and the source might then lose our last message.
func (w *wire) drain(buf []byte) {
	cutoff := w.cutoff.Load()
	if cutoff == nil || w.conn.SetReadDeadline(*cutoff) != nil {
		return
	}
	for {
		if _, err := w.in.Read(buf); err != nil {
			return
		}
	}
}

// close closes the connection. Its error would change nothing.
func (w *wire) close() { _ = w.conn.Close() }

// Messages that we send (PostgreSQL's protocol.sgml, "Message Formats").
var (
	copyDone  = []byte{'c', 0, 0, 0, 4}
	terminate = []byte{'X', 0, 0, 0, 4}
)

// appendQuery encodes a simple query.
func appendQuery(b []byte, command string) []byte {
	b = append(b, 'Q')
	b = binary.BigEndian.AppendUint32(b, uint32(4+len(command)+1))
	b = append(b, command...)
	return append(b, 0)
}
