package replication

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
)

// either names two servers, of which one is the primary.
func either(a, b *pgserver.Server) string {
	return fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d user=postgres dbname=postgres target_session_attrs=read-write", a.Port(), b.Port())
}

// caughtUp waits until a standby has replayed all that its primary has, and returns that position.
func caughtUp(t *testing.T, primary, standby *pgserver.Server) pg.LSN {
	t.Helper()
	end := lsnOf(t, primary, "SELECT pg_current_wal_flush_lsn()")
	eventually(t, "the standby has caught up", func() bool {
		return lsnOf(t, standby, "SELECT pg_last_wal_replay_lsn()") >= end
	})
	return end
}

// forkTo returns where a server left a TLI.
func forkTo(t *testing.T, s *pgserver.Server, from pg.TLI) pg.LSN {
	t.Helper()
	src, _, err := Probe(t.Context(), Config{Conninfo: s.Conninfo(), NodeID: "probe"})
	must(t, err)
	fork, ok := src.History.End(from)
	if !ok {
		t.Fatalf("history %+v", src.History)
	}
	return fork
}

func TestPromotionOfAStandbyIsFollowed(t *testing.T) {
	p1 := server(t, pgserver.Options{SegmentSizeMiB: 1})
	p2 := standby(t, p1)
	sink := empty()
	r := receive(t, either(p1, p2), sink, nil)
	must(t, p1.Exec(t.Context(), "CREATE TABLE t AS SELECT repeat('x', 1000) AS v FROM generate_series(1, 3000)"))
	r.reaches(1, caughtUp(t, p1, p2))
	must(t, p1.Kill())
	must(t, p2.Promote(t.Context()))
	waitForUs(t, p2)
	must(t, p2.Exec(t.Context(), "INSERT INTO t VALUES ('on TLI 2')"))
	r.reaches(2, lsnOf(t, p2, "SELECT pg_current_wal_flush_lsn()"))
	if sink.diverged[1] != 0 || !slices.Equal(sink.followed, []pg.TLI{2}) {
		t.Errorf("diverged %v, followed %v", sink.diverged, sink.followed)
	}
	sink.valid(t)

	// The old primary comes back.
	must(t, p1.Restart(t.Context()))
	r.stop()
	old := receive(t, p1.Conninfo(), sink, nil)
	contains(t, old.refusal(Forked), "TLI 1", "TLI 2", sink.end().String())
	if s := old.State(); s.Name != StateRefused || s.Reason != Forked {
		t.Errorf("state %+v", s)
	}
}

// Three promotions, of which we see none.
func TestSeveralPromotionsAreFollowedOneByOne(t *testing.T) {
	p1 := server(t, pgserver.Options{SegmentSizeMiB: 1, Config: map[string]string{"wal_keep_size": "1GB"}})
	servers := []*pgserver.Server{p1, standby(t, p1), standby(t, p1), standby(t, p1)}
	sink := empty()
	r := receive(t, p1.Conninfo(), sink, nil)
	r.connected()
	must(t, p1.Exec(t.Context(), "CREATE TABLE t (v text)"))
	r.stop()
	for i, next := range servers[1:] {
		primary := servers[i]
		must(t, next.Configure(t.Context(), map[string]string{"primary_conninfo": primary.Conninfo()}))
		must(t, primary.Exec(t.Context(), "INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 1500)"))
		caughtUp(t, primary, next)
		must(t, primary.Kill())
		must(t, next.Promote(t.Context()))
	}
	newest := servers[3]
	must(t, newest.Exec(t.Context(), "INSERT INTO t VALUES ('on TLI 4')"))
	r = receive(t, newest.Conninfo(), sink, nil)
	r.reaches(4, lsnOf(t, newest, "SELECT pg_current_wal_flush_lsn()"))
	if !slices.Equal(sink.followed, []pg.TLI{2, 3, 4}) {
		t.Errorf("followed %v", sink.followed)
	}
	sink.valid(t)
}

func TestForkBelowOurEnd(t *testing.T) {
	p1 := server(t, pgserver.Options{SegmentSizeMiB: 1})
	p2 := standby(t, p1)
	sink := empty()
	r := receive(t, p1.Conninfo(), sink, nil)
	must(t, p1.Exec(t.Context(), "CREATE TABLE t (v text)"))
	caughtUp(t, p1, p2)
	must(t, p2.Stop(t.Context(), pgserver.Fast))
	must(t, p1.Exec(t.Context(), "INSERT INTO t VALUES ('the standby never gets it')"))
	end := lsnOf(t, p1, "SELECT pg_current_wal_flush_lsn()")
	r.reaches(1, end)
	r.stop()
	must(t, p1.Kill())
	must(t, p2.Restart(t.Context()))
	must(t, p2.Promote(t.Context()))
	fork := forkTo(t, p2, 1)
	if fork >= end {
		t.Fatalf("fork at %s, not below %s", fork, end)
	}
	r = receive(t, p2.Conninfo(), sink, nil)
	r.reaches(2, lsnOf(t, p2, "SELECT pg_current_wal_flush_lsn()"))
	if sink.diverged[1] == 0 {
		t.Error("nothing was kept aside")
	}
	sink.valid(t)
}

// promotedOnBorder makes a primary whose TLI 2 begins exactly on a segment border, which it returns. Beforehand is given the
// old primary while it lives.
func promotedOnBorder(t *testing.T, beforehand func(*pgserver.Server)) (*pgserver.Server, pg.LSN) {
	t.Helper()
	for range 5 {
		p1 := server(t, pgserver.Options{SegmentSizeMiB: 1})
		p2 := standby(t, p1)
		beforehand(p1)
		must(t, p1.Exec(t.Context(), "CREATE TABLE t (v text)"))
		must(t, p1.Exec(t.Context(), "SELECT pg_switch_wal()"))
		caughtUp(t, p1, p2)
		must(t, p1.Kill())
		must(t, p2.Promote(t.Context()))
		if fork := forkTo(t, p2, 1); fork%mib == 0 {
			return p2, fork
		}
		// The old primary wrote something on its own account.
	}
	t.Fatal("no promotion on a border in 5 attempts")
	return nil, 0
}

func TestPromotionOnASegmentBorder(t *testing.T) {
	var sink *memSink
	var r *running
	p2, border := promotedOnBorder(t, func(p1 *pgserver.Server) {
		sink = empty()
		r = receive(t, p1.Conninfo(), sink, nil)
		r.connected()
	})
	eventually(t, "we have seen the end of TLI 1", func() bool { return sink.end() >= border })
	r.stop()
	r = receive(t, p2.Conninfo(), sink, nil)
	r.reaches(2, lsnOf(t, p2, "SELECT pg_current_wal_flush_lsn()"))
	if sink.begin != border {
		t.Errorf("TLI 2 begins at %s, want %s", sink.begin, border)
	}
	sink.valid(t)

	// And what the source answers if TLI 1 is asked for there: the result set, and no CopyBoth.
	again := holding(border)
	r2, err := NewReceiver(Config{Conninfo: p2.Conninfo(), NodeID: "b"}, again)
	must(t, err)
	l, err := connect(t.Context(), r2.cfg, "b")
	must(t, err)
	src, err := l.identify(t.Context())
	must(t, err)
	src.Slot.Name = SlotName("b")
	must(t, l.ensureSlot(t.Context(), &src, false))
	w, err := l.hijack(r2.cfg.limits())
	must(t, err)
	again.Rewind()
	if err := newStream(r2, w, entry{source: src, at: pg.Position{TLI: 1, LSN: border}}).run(t.Context()); err != nil {
		t.Errorf("the stream ended with: %v", err)
	}
}

// A node that was away while its source was replaced gets the rest of the old TLI from the new source.
func TestRestOfTheOldTLIComesFromTheNewSource(t *testing.T) {
	p1 := server(t, pgserver.Options{SegmentSizeMiB: 1})
	p2 := standby(t, p1)
	sink := empty()
	r := receive(t, p1.Conninfo(), sink, nil)
	r.connected()
	must(t, p1.Exec(t.Context(), "CREATE TABLE t (v text)"))
	r.stop()
	must(t, p1.Exec(t.Context(), "INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 5000)"))
	caughtUp(t, p1, p2)
	must(t, p1.Kill())
	must(t, p2.Promote(t.Context()))
	fork := forkTo(t, p2, 1)
	if sink.end()+2*mib > fork {
		t.Fatalf("we are at %s, the fork at %s: nothing to catch up", sink.end(), fork)
	}
	r = receive(t, p2.Conninfo(), sink, nil)
	r.reaches(2, lsnOf(t, p2, "SELECT pg_current_wal_flush_lsn()"))
	if sink.diverged[1] != 0 || !slices.Equal(sink.followed, []pg.TLI{2}) {
		t.Errorf("diverged %v, followed %v", sink.diverged, sink.followed)
	}
	sink.valid(t)
}
