package replication

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pgserver"
)

// waitForUs makes commits wait for node a.
func waitForUs(t *testing.T, s *pgserver.Server) {
	t.Helper()
	must(t, s.Configure(t.Context(), map[string]string{"synchronous_standby_names": "ANY 1 (a)"}))
}

func TestSynchronousStandby(t *testing.T) {
	for _, mib := range []int{1, 16, 64} {
		t.Run(fmt.Sprintf("%d MiB segments", mib), func(t *testing.T) {
			s := server(t, pgserver.Options{SegmentSizeMiB: mib})
			sink := empty()
			r := receive(t, s.Conninfo(), sink, nil)
			r.connected()
			waitForUs(t, s)
			must(t, s.Exec(t.Context(), "CREATE TABLE t (v text)"))
			for range max(1, 16/mib) {
				must(t, s.Exec(t.Context(), "INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 500)"))
				must(t, s.Exec(t.Context(), "SELECT pg_switch_wal()"))
			}
			must(t, s.Exec(t.Context(), "INSERT INTO t VALUES ('last')"))
			if end, flush := sink.end(), lsnOf(t, s, "SELECT flush_lsn FROM pg_stat_replication"); flush > end {
				t.Errorf("acknowledged %s, held %s", flush, end)
			}
			if v := value(t, s, "SELECT replay_lsn IS NULL FROM pg_stat_replication"); v != "t" {
				t.Error("an apply LSN is reported")
			}
			sink.valid(t)
			r.stop()

			// Without us, a commit waits; with us again, it goes on.
			committed := make(chan error, 1)
			go func() { committed <- s.Exec(t.Context(), "INSERT INTO t VALUES ('waits')") }()
			select {
			case err := <-committed:
				t.Fatalf("a commit did not wait: %v", err)
			case <-time.After(300 * time.Millisecond):
			}
			receive(t, s.Conninfo(), sink, nil)
			must(t, <-committed)
		})
	}
}

func TestCatchUpOverManySegments(t *testing.T) {
	s := server(t, pgserver.Options{SegmentSizeMiB: 1})
	sink := empty()
	first := receive(t, s.Conninfo(), sink, nil)
	first.connected()
	first.stop()
	must(t, s.Exec(t.Context(), "CREATE TABLE t AS SELECT repeat('x', 1000) AS v FROM generate_series(1, 30000)"))
	r := receive(t, s.Conninfo(), sink, nil)
	r.reaches(1, lsnOf(t, s, "SELECT pg_current_wal_flush_lsn()"))
	sink.valid(t)
	eventually(t, "the source knows it", func() bool {
		return value(t, s, "SELECT flush_lsn >= '"+sink.end().String()+"' FROM pg_stat_replication") == "t"
	})
}

// wal_sender_timeout kills a standby that says nothing for so long, whatever its disk does.
func TestSlowDiskDoesNotEndTheConnection(t *testing.T) {
	s := server(t, pgserver.Options{Config: map[string]string{"wal_sender_timeout": "3s"}})
	sink := empty()
	r := receive(t, s.Conninfo(), sink, nil)
	r.connected()
	slow := false
	sink.mu.Lock()
	sink.onSync = func() error {
		if slow {
			time.Sleep(4 * time.Second)
		}
		return nil
	}
	sink.mu.Unlock()
	waitForUs(t, s)
	must(t, s.Exec(t.Context(), "CREATE TABLE t (v text)"))
	pid := value(t, s, "SELECT pid FROM pg_stat_replication")
	sink.mu.Lock()
	slow = true
	sink.mu.Unlock()
	must(t, s.Exec(t.Context(), "INSERT INTO t VALUES ('live')"))
	must(t, s.Exec(t.Context(), "INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 10000)"))
	if now := value(t, s, "SELECT pid FROM pg_stat_replication"); now != pid {
		t.Errorf("the connection was replaced: %v", <-r.last)
	}
}

// A fast shutdown waits until its receivers have flushed all (WalSndDone).
func TestFastShutdownOfTheSource(t *testing.T) {
	s := server(t, pgserver.Options{})
	sink := empty()
	r := receive(t, s.Conninfo(), sink, nil)
	r.connected()
	waitForUs(t, s)
	must(t, s.Exec(t.Context(), "CREATE TABLE t AS SELECT generate_series(1, 100000)"))
	began := time.Now()
	must(t, s.Stop(t.Context(), pgserver.Fast))
	if d := time.Since(began); d > 8*time.Second { // the next status would come by itself after 10 s
		t.Errorf("took %s", d)
	}
	if err := <-r.last; !errors.Is(err, ErrSourceShutdown) {
		t.Errorf("the session ended with: %v", err)
	}
	if synced := sink.synced(); synced[len(synced)-1] != sink.end() {
		t.Error("something that was received is not synced")
	}
	sink.valid(t)
}

// The goodbye leaves the slot free, and the source with our last position.
func TestStopLeavesTheSlotFree(t *testing.T) {
	s := server(t, pgserver.Options{})
	sink := empty()
	for range 5 {
		r := receive(t, s.Conninfo(), sink, func(cfg *Config) { cfg.GoodbyeTimeout = time.Minute }) // a busy source hears it, too
		r.connected()
		must(t, s.Exec(t.Context(), "CREATE TABLE IF NOT EXISTS t (); DROP TABLE t"))
		r.reaches(1, lsnOf(t, s, "SELECT pg_current_wal_flush_lsn()"))
		began := time.Now()
		r.stop()
		if d := time.Since(began); d > 20*time.Second {
			t.Errorf("took %s", d)
		}
		if v := value(t, s, "SELECT active FROM pg_replication_slots"); v != "f" {
			t.Error("the slot is still in use")
		}
		if restart := lsnOf(t, s, "SELECT restart_lsn FROM pg_replication_slots"); restart != sink.end() {
			t.Errorf("the source knows %s, held is %s", restart, sink.end())
		}
	}
}

func TestCrashOfTheSourceIsFollowed(t *testing.T) {
	s := server(t, pgserver.Options{SegmentSizeMiB: 1})
	sink := empty()
	r := receive(t, s.Conninfo(), sink, nil)
	r.connected()
	waitForUs(t, s)
	must(t, s.Exec(t.Context(), "CREATE TABLE t (v text)"))
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		load := make(chan struct{})
		go func() {
			defer close(load)
			for ctx.Err() == nil {
				_ = s.Exec(ctx, "INSERT INTO t SELECT repeat('x', 700) FROM generate_series(1, 100)") // dies with the server
			}
		}()
		from := sink.end()
		r.reaches(1, from+2<<20)
		must(t, s.Kill())
		cancel()
		<-load
		must(t, s.Restart(t.Context()))
	}
	must(t, s.Exec(t.Context(), "INSERT INTO t VALUES ('last')"))
	r.reaches(1, lsnOf(t, s, "SELECT pg_current_wal_flush_lsn()"))
	sink.valid(t)
}
