package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
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
// owner first sets its own deadline and then checks. So, whichever deadline comes last, no end is missed. Hot, there are no
// deadlines: each wait is short, and the owner checks after each.
type wire struct {
	in     io.Reader // of the same bytes as conn; see link.hijack
	limits limits
	broken bool // a write failed: what the source has of it nobody knows, so nothing may follow
	// cutoff is when all talking ends; nil until the session is cancelled.
	cutoff atomic.Pointer[time.Time]

	mu   sync.Mutex // taken by the owner to change conn, and by others to use it
	conn net.Conn   // guarded by mu; nil while the wire is hot

	sock  *socket // the owner's; nil unless the wire is hot
	turns turns   // the owner's
}

var errBroken = errors.New("write to the source: a write before failed")

func newWire(conn net.Conn, in io.Reader, l limits) *wire {
	return &wire{conn: conn, in: in, limits: l}
}

// heat makes reads and writes block their thread. Where that is not possible, nothing changes.
func (w *wire) heat() {
	if w.sock != nil || w.in != io.Reader(w.conn) || !detachable(w.conn) || !hot.enter() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	sock, err := detach(w.conn)
	if err != nil {
		hot.add(-1) // the poller does as well
		return
	}
	w.sock, w.conn, w.in = sock, nil, nil
}

// cool ends that. After an error the wire is closed.
func (w *wire) cool() error {
	if w.sock == nil {
		return nil
	}
	hot.add(-1)
	w.mu.Lock()
	defer w.mu.Unlock()
	conn, err := w.sock.attach()
	w.sock = nil
	if err != nil {
		w.broken = true
		return err
	}
	w.conn, w.in = conn, conn
	return nil
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
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn == nil {
		return // the owner sees it in a moment
	}
	// An error means that the connection is closed, and then nobody waits on it.
	_ = w.conn.SetReadDeadline(past)
	_ = w.conn.SetWriteDeadline(cutoff)
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// wake makes a read that waits return with a timeout.
func (w *wire) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		_ = w.conn.SetReadDeadline(past)
	}
}

// limitRead sets how long the next read may wait.
func (w *wire) limitRead(d time.Duration) error {
	if w.sock != nil {
		return nil
	}
	return w.conn.SetReadDeadline(time.Now().Add(d))
}

// read fills the parts, or only the first, with what is there, and waits if there is nothing.
func (w *wire) read(parts [][]byte) (int, error) {
	if w.sock == nil {
		return w.in.Read(parts[0])
	}
	n, err := w.sock.read(parts)
	w.turns.yield()
	return n, err
}

// write sends whole messages.
func (w *wire) write(p []byte) error {
	if w.broken {
		return errBroken
	}
	err := w.writeAll(p)
	if err != nil {
		w.broken = true
		return fmt.Errorf("write to the source: %w", err)
	}
	return nil
}

func (w *wire) writeAll(p []byte) error {
	limit := time.Now().Add(w.limits.write)
	if w.sock != nil {
		return w.writeHot(p, limit)
	}
	// Where setting a deadline fails, so does the write.
	_ = w.conn.SetWriteDeadline(limit)
	if cutoff := w.cutoff.Load(); cutoff != nil {
		_ = w.conn.SetWriteDeadline(*cutoff)
	}
	_, err := w.conn.Write(p)
	return err
}

func (w *wire) writeHot(p []byte, limit time.Time) error {
	for len(p) > 0 {
		n, err := w.sock.write(p)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if cutoff := w.cutoff.Load(); cutoff != nil {
			limit = *cutoff
		}
		if p = p[n:]; len(p) > 0 && time.Now().After(limit) {
			return os.ErrDeadlineExceeded
		}
	}
	return nil
}

// drain reads and forgets until the source closes the connection, or the time for the goodbye is over. Closing a socket that
// holds unread bytes resets the connection, and the source might then lose our last message.
func (w *wire) drain(buf []byte) {
	cutoff := w.cutoff.Load()
	if w.cool() != nil || cutoff == nil || w.conn.SetReadDeadline(*cutoff) != nil {
		return
	}
	for {
		if _, err := w.in.Read(buf); err != nil {
			return
		}
	}
}

// close closes the connection. Its error would change nothing.
func (w *wire) close() {
	if w.sock != nil {
		w.sock.close()
		w.sock = nil
		hot.add(-1)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		_ = w.conn.Close()
	}
}

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
