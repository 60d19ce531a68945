package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// mute is a walsender that falls silent, on a real socket. Whoever comes under another application_name is sent away.
type mute struct {
	application string
	// at is where it falls silent: "startup", a command, or behind all of them ("").
	at string

	slot    atomic.Bool   // ours is there
	reached chan struct{} // has one once somebody waits for it
	conns   sync.WaitGroup
}

// listen returns the conninfo of a source that lives as long as the test.
func (s *mute) listen(t *testing.T) string {
	t.Helper()
	s.reached = make(chan struct{}, 100)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	s.conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.conns.Go(func() {
				defer conn.Close()
				s.serve(conn, pgproto3.NewBackend(conn, conn))
			})
		}
	})
	t.Cleanup(func() {
		must(t, l.Close())
		s.conns.Wait() // whoever asked has hung up
	})
	return conninfoOf(l.Addr())
}

func conninfoOf(addr net.Addr) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=u sslmode=disable", addr.(*net.TCPAddr).Port)
}

// silent says nothing until the other side hangs up.
func (s *mute) silent(conn net.Conn) {
	s.reached <- struct{}{}
	for buf := make([]byte, 100); ; {
		if _, err := conn.Read(buf); err != nil {
			return
		}
	}
}

func (s *mute) serve(conn net.Conn, b *pgproto3.Backend) {
	msg, err := b.ReceiveStartupMessage()
	startup, ok := msg.(*pgproto3.StartupMessage)
	switch {
	case err != nil || !ok:
		return
	case startup.Parameters["application_name"] != s.application:
		b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "53300", Message: "too many clients already"})
		_ = b.Flush()
		return
	case s.at == "startup":
		s.silent(conn)
		return
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: "17.2"})
	b.Send(&pgproto3.ParameterStatus{Name: "in_hot_standby", Value: "off"})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 4711, SecretKey: []byte("1234")})
	for {
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if b.Flush() != nil {
			return
		}
		msg, err := b.Receive()
		query, ok := msg.(*pgproto3.Query)
		if err != nil || !ok {
			return
		}
		if s.at != "" && strings.HasPrefix(query.String, s.at) {
			s.silent(conn)
			return
		}
		if strings.HasPrefix(query.String, "START_REPLICATION") {
			b.Send(&pgproto3.CopyBothResponse{})
			_ = b.Flush()
			s.silent(conn)
			return
		}
		s.answer(b, query.String)
	}
}

func (s *mute) answer(b *pgproto3.Backend, command string) {
	values := [][]byte{nil, nil, nil}
	switch word, _, _ := strings.Cut(command, " "); word {
	case "IDENTIFY_SYSTEM":
		values = [][]byte{fmt.Append(nil, systemID), []byte("1"), []byte(start.String()), nil}
	case "READ_REPLICATION_SLOT":
		if s.slot.Load() {
			values = [][]byte{[]byte("physical"), []byte(start.String()), []byte("1")}
		}
	case "CREATE_REPLICATION_SLOT":
		s.slot.Store(true)
	case "SHOW":
		values = [][]byte{[]byte(map[string]string{
			"SHOW wal_segment_size": "1MB", "SHOW synchronous_standby_names": "", "SHOW synchronous_commit": "on",
		}[command])}
	}
	b.Send(&pgproto3.RowDescription{Fields: make([]pgproto3.FieldDescription, len(values))})
	b.Send(&pgproto3.DataRow{Values: values})
	b.Send(&pgproto3.CommandComplete{CommandTag: []byte("OK")})
	if s.at == "" && command == "SHOW synchronous_commit" {
		s.reached <- struct{}{} // the settings are read: what comes next is the pause, or a stream
	}
}

// full returns the conninfo of a server that accepts nobody: its queue is full, and who connects waits.
func full(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	must(t, err)
	t.Cleanup(func() { must(t, syscall.Close(fd)) })
	must(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, syscall.Listen(fd, 0))
	name, err := syscall.Getsockname(fd)
	must(t, err)
	addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*syscall.SockaddrInet4).Port}
	for range 10 {
		dialer := net.Dialer{Timeout: 200 * time.Millisecond}
		conn, err := dialer.DialContext(t.Context(), "tcp", addr.String())
		if err != nil {
			return conninfoOf(addr)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Skip("this system accepts for whoever listens, however many wait")
	return ""
}

// asking is work inside a timeline's gate that asks the source for something.
type asking struct {
	holder      string
	application string
	begin       func(context.Context, *Keeper) error // nil: the manager begins it
}

var askings = map[string]asking{
	"receive":  {holder: "receive", application: "a"},
	"settings": {holder: "settings", application: "sluice a (settings)"},
	"check": {holder: "request", application: "sluice a (check)", begin: func(ctx context.Context, k *Keeper) error {
		_, err := k.Check(ctx, main1)
		return err
	}},
	"detach": {holder: "request", application: "sluice a (check)", begin: func(ctx context.Context, k *Keeper) error {
		return k.SetMode(ctx, "acme", timeline.ModeDetached, false)
	}},
}

// silences are where a source falls silent, for whoever comes that far.
var silences = map[string][]string{
	"receive": {
		"connect", "startup", "IDENTIFY_SYSTEM", "SHOW wal_segment_size", "READ_REPLICATION_SLOT", "CREATE_REPLICATION_SLOT",
		"SHOW synchronous_standby_names", "START_REPLICATION", "",
	},
	"settings": {"connect", "startup", "IDENTIFY_SYSTEM", "SHOW synchronous_commit", ""},
	"check":    {"connect", "startup", "IDENTIFY_SYSTEM", "READ_REPLICATION_SLOT"},
	"detach":   {"connect", "startup", "IDENTIFY_SYSTEM", "READ_REPLICATION_SLOT"},
}

// TestEveryWaitForASourceListensToItsTimeline (G11): a source that says nothing more, wherever it falls silent, holds nobody
// inside once the timeline alone shuts down.
func TestEveryWaitForASourceListensToItsTimeline(t *testing.T) {
	for name, a := range askings {
		for _, at := range silences[name] {
			t.Run(name+"/"+at, func(t *testing.T) {
				t.Parallel()
				shutSilent(t, a, at)
			})
		}
	}
}

func shutSilent(t *testing.T, a asking, at string) {
	k := newHome(t).start(t)
	s := &mute{application: a.application, at: at}
	source := full
	if at != "connect" {
		source = s.listen
	}
	must(t, k.CreateTimeline(t.Context(), main1, source(t), false))
	m := member(t, k, main1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if a.begin != nil {
			_ = a.begin(context.Background(), k) // what it says depends on where it is cut off
		}
	}()
	waitUntil(t, 10*time.Second, "somebody waits for the source", func() bool {
		return inside(m, a.holder) && (at == "connect" || len(s.reached) > 0)
	})
	ctx, cancel := context.WithTimeout(t.Context(), leavesWithin)
	defer cancel()
	if err := m.shutdown(ctx, errTest); err != nil {
		t.Error(err)
	}
	if cause := context.Cause(m.tenant.Context()); cause != nil {
		t.Errorf("the tenant was shut down, too: %v", cause)
	}
	stop(t, k) // the rest
	<-ended
}

// TestRemovalListensToItsTimeline (G11, G15): it looks before each of its segments, however long one takes.
func TestRemovalListensToItsTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome(t)
		var removing sync.WaitGroup
		removing.Add(1)
		begun := sync.OnceFunc(removing.Done)
		k := h.start(t, func(c *Config) { c.Retain, c.DropUnbacked = mib, true })
		m := create(t, k, main1)
		h.disk().Inject(func(op crashfs.Op) error {
			if op.Name == "Remove" {
				begun()
				time.Sleep(leavesWithin * 3 / 5)
			}
			return nil
		})
		receive(t, m, source(start+8*mib), start+7*mib)
		removing.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), leavesWithin)
		defer cancel()
		must(t, m.shutdown(ctx, errTest))
		stop(t, k)
	})
}

// TestSilentSourceHoldsUpADeletionALittle: everybody is out by then. The slot is left on the source, and said.
func TestSilentSourceHoldsUpADeletionALittle(t *testing.T) {
	for _, at := range []string{"startup", "DROP_REPLICATION_SLOT"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			k := h.start(t)
			s := &mute{application: "sluice a (drop slot)", at: at}
			must(t, k.CreateTimeline(t.Context(), main1, s.listen(t), false))
			m := member(t, k, main1)
			began := time.Now()
			deleted := make(chan error, 1)
			go func() { deleted <- k.DeleteTimeline(context.Background(), main1, false) }()
			<-s.reached
			if took := time.Since(began); took > dropSlotTimeout/2 || !m.Gate().Stats().Closed || m.Operation().Step != "slot" {
				t.Errorf("after %v it is %s; the gate is %+v", took, m.Operation().Step, m.Gate().Stats())
			}
			began = time.Now()
			stop(t, k)
			if took := time.Since(began); took > dropSlotTimeout/2 {
				t.Errorf("the node stopped after %v", took)
			}
			if err := <-deleted; !errors.Is(err, timeline.ErrShuttingDown) && !errors.Is(err, errStopping) {
				t.Errorf("the deletion: %v", err)
			}
			if left := h.timelines(t); !slices.Equal(left, []string{"main"}) {
				t.Errorf("the next start has nothing to go on with: %q", left)
			}
		})
	}
}
