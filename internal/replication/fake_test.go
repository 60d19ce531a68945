package replication

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sluicewal/sluice/internal/pg"
)

// fakeSource is a walsender of which a test says what it does. It is reached by dial alone, over pipes, so that it works with
// virtual time. It is TLI 1 of a cluster with the system identifier 7, unless changed.
type fakeSource struct {
	t         *testing.T
	version   string
	systemID  uint64
	tli       pg.TLI
	flush     pg.LSN
	recovery  bool
	histories map[pg.TLI]string
	slot      pg.LSN // restart LSN of the slot; 0: there is none
	pid       uint32
	errors    map[string]*pgproto3.ErrorResponse // by the command's first word
	hang      string                             // the command, or "dial" or "startup", that is never answered
	stream    func(*fakeStream)                  // what happens after START_REPLICATION; nil: it is refused

	mu       sync.Mutex
	dials    int
	commands []string // all that came
	said     []heard  // all that came in streams
	released chan struct{}
	wg       sync.WaitGroup
}

func newFakeSource(t *testing.T) *fakeSource {
	f := &fakeSource{t: t, version: "15.18", systemID: 7, tli: 1, flush: 0x1000000, slot: 0x1000000, pid: 4711}
	f.released = make(chan struct{})
	return f
}

// end lets go of what waits, and waits for all connections.
func (f *fakeSource) end() {
	close(f.released)
	f.wg.Wait()
}

// config is a configuration that reaches the fake.
func (f *fakeSource) config() Config {
	return Config{Conninfo: "host=/nowhere user=u", NodeID: "a", Dial: f.dial}
}

func (f *fakeSource) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if f.hang == "dial" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	f.dials++
	client, server := net.Pipe()
	f.wg.Go(func() {
		defer server.Close()
		f.serve(server)
	})
	return client, nil
}

// asked says which commands came that begin with a word.
func (f *fakeSource) asked(word string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []string
	for _, c := range f.commands {
		if strings.HasPrefix(c, word) {
			found = append(found, c)
		}
	}
	return found
}

// serve answers one connection until the client leaves.
func (f *fakeSource) serve(conn net.Conn) {
	b := pgproto3.NewBackend(conn, conn)
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return
	}
	if f.hang == "startup" {
		_, _ = b.Receive()
		return
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: f.version})
	if !strings.HasPrefix(f.version, "13") {
		b.Send(&pgproto3.ParameterStatus{Name: "in_hot_standby", Value: onOff(f.recovery)})
	}
	b.Send(&pgproto3.BackendKeyData{ProcessID: f.pid, SecretKey: []byte("1234")})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if b.Flush() != nil {
		return
	}
	for {
		msg, err := b.Receive()
		if err != nil {
			return
		}
		query, ok := msg.(*pgproto3.Query)
		if !ok {
			return // Terminate
		}
		f.mu.Lock()
		f.commands = append(f.commands, query.String)
		f.mu.Unlock()
		word, _, _ := strings.Cut(query.String, " ")
		if f.hang == word {
			_, _ = b.Receive()
			return
		}
		if word == "START_REPLICATION" && f.stream != nil && f.errors[word] == nil {
			f.stream(newFakeStream(f, conn, b))
			return
		}
		f.answer(b, word, query.String)
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if b.Flush() != nil {
			return
		}
	}
}

func onOff(v bool) string {
	if v {
		return "on"
	}
	return "off"
}

// answer answers a command other than START_REPLICATION, or an error to any.
func (f *fakeSource) answer(b *pgproto3.Backend, word, command string) {
	if e := f.errors[word]; e != nil {
		b.Send(e)
		return
	}
	switch word {
	case "IDENTIFY_SYSTEM":
		row(b, fmt.Sprint(f.systemID), f.tli.String(), f.flush.String(), "")
	case "SHOW":
		row(b, map[string]string{
			"SHOW wal_segment_size":          "1MB",
			"SHOW transaction_read_only":     onOff(f.recovery),
			"SHOW synchronous_standby_names": "a",
			"SHOW synchronous_commit":        "on",
		}[command])
	case "TIMELINE_HISTORY":
		var tli pg.TLI
		_, _ = fmt.Sscanf(command, "TIMELINE_HISTORY %d", &tli)
		if h, ok := f.histories[tli]; ok {
			row(b, pg.HistoryName(tli), h)
		} else {
			b.Send(serverError("58P01", "could not open file"))
		}
	case "READ_REPLICATION_SLOT":
		if f.slot == 0 {
			b.Send(&pgproto3.RowDescription{Fields: make([]pgproto3.FieldDescription, 3)})
			b.Send(&pgproto3.DataRow{Values: [][]byte{nil, nil, nil}})
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte(word)})
			return
		}
		row(b, "physical", f.slot.String(), f.tli.String())
	case "CREATE_REPLICATION_SLOT":
		if f.slot != 0 {
			b.Send(serverError("42710", "replication slot exists"))
			return
		}
		f.slot = f.flush
		row(b, "sluice_a", "0/0", "", "")
	case "DROP_REPLICATION_SLOT":
		f.slot = 0
		b.Send(&pgproto3.CommandComplete{CommandTag: []byte(word)})
	default:
		b.Send(serverError("42601", "syntax error"))
	}
}

func row(b *pgproto3.Backend, values ...string) {
	msg := &pgproto3.DataRow{}
	for _, v := range values {
		msg.Values = append(msg.Values, []byte(v))
	}
	b.Send(&pgproto3.RowDescription{Fields: make([]pgproto3.FieldDescription, len(values))})
	b.Send(msg)
	b.Send(&pgproto3.CommandComplete{CommandTag: []byte("OK")})
}

func serverError(code, message string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: "ERROR", Code: code, Message: message}
}

// fakeStream is a connection after START_REPLICATION.
type fakeStream struct {
	source *fakeSource
	conn   net.Conn
	b      *pgproto3.Backend
	heard  chan heard // all that the client says; closed when it leaves
}

// heard is one message of the client.
type heard struct {
	typ    byte // 'd', 'c', 'X', 'Q'
	status status
	at     time.Time
}

// status is a decoded standby status update.
type status struct {
	write, flush, apply pg.LSN
	replyNow            bool
}

func newFakeStream(f *fakeSource, conn net.Conn, b *pgproto3.Backend) *fakeStream {
	return &fakeStream{source: f, conn: conn, b: b, heard: make(chan heard, 1000)}
}

// begin answers with CopyBoth, and begins to listen.
func (s *fakeStream) begin() {
	s.send(otherMessage('W', "\x00\x00\x00"))
	s.listen()
}

// listen takes all that the client says into heard.
func (s *fakeStream) listen() {
	s.source.wg.Go(func() {
		defer close(s.heard)
		for {
			msg, err := s.b.Receive()
			if err != nil {
				return
			}
			h := heard{at: time.Now()}
			switch msg := msg.(type) {
			case *pgproto3.CopyData:
				h.typ, h.status = 'd', decodeStatus(s.source.t, msg.Data)
			case *pgproto3.CopyDone:
				h.typ = 'c'
			case *pgproto3.Terminate:
				h.typ = 'X'
			case *pgproto3.Query:
				h.typ = 'Q'
				s.source.mu.Lock()
				s.source.commands = append(s.source.commands, msg.String)
				s.source.mu.Unlock()
			}
			s.source.mu.Lock()
			s.source.said = append(s.source.said, h)
			s.source.mu.Unlock()
			s.heard <- h
		}
	})
}

func decodeStatus(t *testing.T, p []byte) status {
	if len(p) != statusLen-5 || p[0] != 'r' {
		t.Errorf("status message %q", p)
		return status{}
	}
	return status{
		write:    pg.LSN(binary.BigEndian.Uint64(p[1:])),
		flush:    pg.LSN(binary.BigEndian.Uint64(p[9:])),
		apply:    pg.LSN(binary.BigEndian.Uint64(p[17:])),
		replyNow: p[33] != 0,
	}
}

// send sends bytes as they are. A client that has left is no error here; the test sees it elsewhere.
func (s *fakeStream) send(parts ...[]byte) {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	_, _ = s.conn.Write(all)
}

// endOfTLI is the result set that follows a TLI's end, and what comes after it.
func (s *fakeStream) endOfTLI(next pg.TLI, at pg.LSN) {
	row(s.b, next.String(), at.String())
	s.b.Send(&pgproto3.CommandComplete{CommandTag: []byte("START_REPLICATION")})
	s.b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	_ = s.b.Flush()
}

// fail is an error, after which another command may come.
func (s *fakeStream) fail(code, message string) {
	s.b.Send(serverError(code, message))
	s.b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	_ = s.b.Flush()
}

// untilCommand waits for the client's next command, and returns the statuses before it.
func (s *fakeStream) untilCommand() []heard {
	var all []heard
	for h := range s.heard {
		if h.typ == 'Q' {
			return all
		}
		all = append(all, h)
	}
	s.source.t.Error("the client left without another command")
	return all
}

// next is the client's next message; the zero value when it has left.
func (s *fakeStream) next() heard { return <-s.heard }

// untilFlush waits for a status that acknowledges flush, and returns all statuses up to it.
func (s *fakeStream) untilFlush(flush pg.LSN) []heard {
	var all []heard
	for h := range s.heard {
		all = append(all, h)
		if h.typ == 'd' && h.status.flush == flush {
			return all
		}
	}
	s.source.t.Errorf("the client left without acknowledging %s; it sent %d messages", flush, len(all))
	return all
}

// rest is all that the client still says until it leaves.
func (s *fakeStream) rest() []heard {
	var all []heard
	for h := range s.heard {
		all = append(all, h)
	}
	return all
}
