package bench

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sluicewal/sluice/test/rig"
)

// idleSource is a server that speaks as much of the replication protocol as a
// receiver needs that never gets any WAL. Each user finds another cluster.
type idleSource struct {
	t        *testing.T
	listener net.Listener
	running  sync.WaitGroup
}

func newIdleSource(t *testing.T) *idleSource {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &idleSource{t: t, listener: l}
	s.running.Go(s.accept)
	t.Cleanup(func() { _ = l.Close() }) // the node ends before; its connections with it
	return s
}

func (s *idleSource) conninfo(i int) string {
	addr := s.listener.Addr().(*net.TCPAddr)
	return fmt.Sprintf("host=127.0.0.1 port=%d sslmode=disable user=%d", addr.Port, 1000+i)
}

func (s *idleSource) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.running.Go(func() {
			defer conn.Close()
			serve(conn)
		})
	}
}

// keepalive says that the WAL still ends where it did: the kind, the end, the time, no reply wanted.
var keepalive = append(binary.BigEndian.AppendUint64([]byte{'k'}, 0x1000000), make([]byte, 8+1)...)

// serve answers one connection until its client leaves.
func serve(conn net.Conn) {
	b := pgproto3.NewBackend(conn, conn)
	startup, err := b.ReceiveStartupMessage()
	if err != nil {
		return
	}
	systemID := startup.(*pgproto3.StartupMessage).Parameters["user"]
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: "15.18"})
	b.Send(&pgproto3.ParameterStatus{Name: "in_hot_standby", Value: "off"})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte("1234")})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for b.Flush() == nil {
		msg, err := b.Receive()
		if err != nil {
			return
		}
		switch msg := msg.(type) {
		case *pgproto3.Query:
			answer(b, msg.String, systemID)
		case *pgproto3.CopyData: // a status, whose last byte asks for a sign of life
			if n := len(msg.Data); n > 0 && msg.Data[n-1] == 1 {
				b.Send(&pgproto3.CopyData{Data: keepalive})
			}
		}
	}
}

func answer(b *pgproto3.Backend, command, systemID string) {
	word, rest, _ := strings.Cut(command, " ")
	switch word {
	case "START_REPLICATION":
		b.Send(&pgproto3.CopyBothResponse{})
		return
	case "IDENTIFY_SYSTEM":
		row(b, systemID, "1", "0/1000000", "")
	case "READ_REPLICATION_SLOT":
		row(b, "physical", "0/1000000", "1")
	case "SHOW":
		row(b, map[string]string{
			"wal_segment_size": "16MB", "transaction_read_only": "off",
			"synchronous_standby_names": rig.NodeID, "synchronous_commit": "on",
		}[rest])
	default:
		b.Send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42601", Message: "syntax error"})
	}
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
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
