package replication

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
)

// Tests with a real PostgreSQL: 15, or the one that PG_BIN names.

// server starts a PostgreSQL that ends with the test.
func server(t *testing.T, opts pgserver.Options) *pgserver.Server {
	t.Helper()
	opts.Dir = filepath.Join(t.TempDir(), "data")
	s, err := pgserver.Start(t.Context(), opts)
	must(t, err)
	t.Cleanup(func() { stop(t, s) })
	return s
}

// standby starts a standby of primary.
func standby(t *testing.T, primary *pgserver.Server) *pgserver.Server {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	must(t, primary.BaseBackup(t.Context(), dir, pgserver.NoWAL))
	must(t, pgserver.PrepareStandby(dir, primary.Conninfo(), map[string]string{"wal_retrieve_retry_interval": "100ms"}))
	return existing(t, dir)
}

// snapshot copies a server's volume, as it is when the server is stopped.
func snapshot(t *testing.T, s *pgserver.Server) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	must(t, s.Stop(t.Context(), pgserver.Fast))
	must(t, os.CopyFS(dir, os.DirFS(s.Dir())))
	must(t, os.Chmod(dir, 0o700))
	must(t, s.Restart(t.Context()))
	return dir
}

func existing(t *testing.T, dir string) *pgserver.Server {
	t.Helper()
	s, err := pgserver.StartExisting(t.Context(), pgserver.Options{Dir: dir})
	must(t, err)
	t.Cleanup(func() { stop(t, s) })
	must(t, s.WaitReady(t.Context()))
	return s
}

func stop(t *testing.T, s *pgserver.Server) {
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Log(s.Log(30))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func value(t *testing.T, s *pgserver.Server, sql string) string {
	t.Helper()
	v, err := s.Value(t.Context(), sql)
	must(t, err)
	return v
}

func lsnOf(t *testing.T, s *pgserver.Server, sql string) pg.LSN {
	t.Helper()
	lsn, err := pg.ParseLSN(value(t, s, sql))
	must(t, err)
	return lsn
}

// eventually waits until what is told by a server, which tells nobody of changes, is so.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	limit := time.After(30 * time.Second)
	for !cond() {
		select {
		case <-ticker.C:
		case <-limit:
			t.Fatalf("not so after 30 s: %s", what)
		}
	}
}

// running is a receiver that is run again and again, as a manager would.
type running struct {
	*Receiver
	t    *testing.T
	sink *memSink
	last chan error // errors of sessions, as far as they were looked at
	quit context.CancelCauseFunc
	done chan struct{}
}

// receive runs a receiver until the test ends, or stop.
func receive(t *testing.T, conninfo string, sink *memSink, change func(*Config)) *running {
	t.Helper()
	cfg := Config{Conninfo: conninfo, NodeID: "a"}
	if change != nil {
		change(&cfg)
	}
	r, err := NewReceiver(cfg, sink)
	must(t, err)
	ctx, quit := context.WithCancelCause(t.Context())
	run := &running{Receiver: r, t: t, sink: sink, last: make(chan error, 1000), quit: quit, done: make(chan struct{})}
	go run.loop(ctx)
	t.Cleanup(run.stop)
	return run
}

func (r *running) loop(ctx context.Context) {
	defer close(r.done)
	for ctx.Err() == nil {
		err := r.Run(ctx)
		if err == nil {
			continue
		}
		select {
		case r.last <- err:
		default: // nobody looks at them
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// stop ends the receiver, and waits for that.
func (r *running) stop() {
	r.quit(errStop)
	<-r.done
}

// errorAs waits for a session that ends with an error of type E, and returns it.
func errorAs[E error](r *running) E {
	r.t.Helper()
	limit := time.After(30 * time.Second)
	for {
		select {
		case err := <-r.last:
			if target := *new(E); errors.As(err, &target) {
				return target
			}
		case <-limit:
			r.t.Fatalf("no such error; state %+v", r.State())
		}
	}
}

// reaches waits until the sink holds all up to a position.
func (r *running) reaches(tli pg.TLI, lsn pg.LSN) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("the sink holds TLI %s up to %s", tli, lsn), func() bool {
		at := r.sink.Held().Position
		return at.TLI == tli && at.LSN >= lsn
	})
}

// connected waits until it streams.
func (r *running) connected() {
	r.t.Helper()
	eventually(r.t, "the receiver streams", func() bool { return r.State().Name == StateConnected })
}

// refusal waits for a refusal, and returns its text.
func (r *running) refusal(reason Reason) string {
	r.t.Helper()
	refused := errorAs[*RefusedError](r)
	if refused.Reason != reason {
		r.t.Fatalf("refused: %s: %s; want %s", refused.Reason, refused.Text, reason)
	}
	return refused.Text
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in: %s", part, text)
		}
	}
}
