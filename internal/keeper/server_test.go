package keeper

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/internal/restore"
)

// Tests with a real PostgreSQL: 15, or the one that PG_BIN names.

// server starts a PostgreSQL that ends with the test.
func server(t *testing.T) *pgserver.Server {
	t.Helper()
	opts := pgserver.Options{Dir: filepath.Join(t.TempDir(), "data"), SegmentSizeMiB: 1}
	s, err := pgserver.Start(t.Context(), opts)
	must(t, err)
	t.Cleanup(func() { closeServer(t, s) })
	return s
}

func closeServer(t *testing.T, s *pgserver.Server) {
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Log(s.Log(30))
	}
}

// realHome is a data directory on the real disk.
func realHome(t *testing.T) *home { return &home{dir: t.TempDir()} }

// waitUntil asks again and again, because a server tells nobody of changes.
func waitUntil(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); !cond(); <-ticker.C {
		if time.Since(began) > limit {
			t.Fatalf("not so after %s: %s", limit, what)
		}
	}
}

func connected(t *testing.T, m *Member) {
	t.Helper()
	waitUntil(t, 30*time.Second, "connected", func() bool { return m.Status().Source.Connected })
}

func count(t *testing.T, s *pgserver.Server, sql string) string {
	t.Helper()
	n, err := s.Value(t.Context(), sql)
	must(t, err)
	return n
}

// TestFailover: a primary commits with the node as its synchronous standby and dies; what the node sealed is restored, and
// promoted at exactly that end; the new primary's commits wait for the node again.
func TestFailover(t *testing.T) {
	ctx := t.Context()
	primary := server(t)
	k := realHome(t).start(t)
	must(t, k.CreateTimeline(ctx, main1, primary.Conninfo(), false))
	m := member(t, k, main1)
	connected(t, m)
	if q := m.Status().Quorum; q.ReadAt.IsZero() || q.Synchronous || !strings.Contains(q.Why, "is empty") {
		t.Errorf("at the first connection: %+v", q)
	}
	backup := filepath.Join(t.TempDir(), "data")
	must(t, primary.BaseBackup(ctx, backup, pgserver.NoWAL))

	// A reload tells nobody (F17).
	must(t, primary.Configure(ctx, map[string]string{"synchronous_standby_names": "ANY 1 (a)"}))
	waitUntil(t, 15*time.Second, "the reload was noticed", func() bool { return m.Status().Quorum.Synchronous })
	must(t, primary.Exec(ctx, "CREATE TABLE t AS SELECT generate_series(1, 20000) AS n"))
	checked, err := k.Check(ctx, main1)
	must(t, err)
	must(t, Failed(checked))
	must(t, primary.Kill())

	res, err := k.Seal(ctx, main1, false)
	must(t, err)
	if res.Warning != "" || res.End == 0 {
		t.Errorf("sealed: %+v", res)
	}
	archive := handOut(t, k, m)
	must(t, pgserver.PrepareRestore(backup, fmt.Sprintf("cp %s/%%f %%p", archive), nil))
	successor, err := pgserver.StartExisting(ctx, pgserver.Options{Dir: backup})
	must(t, err)
	t.Cleanup(func() { closeServer(t, successor) })
	must(t, successor.WaitPromoted(ctx))
	if n := count(t, successor, "SELECT count(*) FROM t"); n != "20000" {
		t.Errorf("%s rows of 20000 are there", n)
	}

	must(t, k.SetTimeline(ctx, main1, successor.Conninfo(), false))
	connected(t, m)
	if q := m.Quorum(); q.TLI != 2 || q.ReadAt.IsZero() {
		t.Errorf("connected, and the quorum is %+v", q) // the base backup is older than the setting
	}
	h, err := m.Log().History(2)
	must(t, err)
	parsed, err := pg.ParseHistory(2, h)
	must(t, err)
	if fork, _ := parsed.End(1); fork != res.End {
		t.Errorf("it forked at %s, sealed was %s", fork, res.End)
	}
	if d := m.Status().Diverged; len(d) != 0 {
		t.Errorf("diverged: %+v", d)
	}
	must(t, successor.Configure(ctx, map[string]string{"synchronous_standby_names": "ANY 1 (a)"}))
	must(t, successor.Exec(ctx, "INSERT INTO t VALUES (0)"))
	if st := m.Status(); st.TLI != 2 || st.Seal != nil || st.Source.State != "connected" {
		t.Errorf("status: %+v", st)
	}
}

// handOut writes all that the node has of TLI 1 to a directory, from which PostgreSQL can restore.
func handOut(t *testing.T, k *Keeper, m *Member) string {
	t.Helper()
	dir := t.TempDir()
	c := m.Control()
	for n := c.SegmentSize.SegNo(c.Start.LSN); ; n++ {
		name := pg.SegmentName(1, n, c.SegmentSize)
		f := open(t, k, WALRequest{File: name})
		if f.Kind == restore.Absent {
			must(t, f.Close())
			return dir
		}
		if f.Kind != restore.Present {
			t.Fatalf("%s: %s", name, f.Text)
		}
		b, err := io.ReadAll(f.Body)
		must(t, err)
		must(t, f.Close())
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
	}
}

// TestDeletionDropsTheSlot, although the last stream has only just ended: a slot that stays keeps WAL for ever.
func TestDeletionDropsTheSlot(t *testing.T) {
	s := server(t)
	k := realHome(t).start(t)
	must(t, k.CreateTimeline(t.Context(), main1, s.Conninfo(), false))
	m := member(t, k, main1)
	connected(t, m)
	if n := count(t, s, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'sluice_a' AND active"); n != "1" {
		t.Errorf("%s slots", n)
	}
	must(t, k.DeleteTimeline(t.Context(), main1, false))
	if n := count(t, s, "SELECT count(*) FROM pg_replication_slots"); n != "0" {
		t.Errorf("%s slots are left", n)
	}
	must(t, k.CreateTimeline(t.Context(), main1, s.Conninfo(), false))
	connected(t, member(t, k, main1))
}

// TestForeignClusterIsRefused (S4): both identifiers are named, and what that cluster waits for says nothing about ours.
func TestForeignClusterIsRefused(t *testing.T) {
	s := server(t)
	must(t, s.Configure(t.Context(), map[string]string{"synchronous_standby_names": "ANY 1 (a, b, c)"}))
	k := realHome(t).start(t)
	m := create(t, k, main1)
	w := source(start + 50_000)
	receive(t, m, w, w.End())
	setQuorum(t, m, "a")
	must(t, k.SetTimeline(t.Context(), main1, s.Conninfo(), false))
	waitUntil(t, 30*time.Second, "refused", func() bool { return m.Status().Source.State == "refused" })
	st := m.Status()
	if !strings.Contains(st.Source.Error, "7000000000000000001") || !strings.Contains(st.Source.Error, "another cluster") || st.Source.Connected {
		t.Errorf("source: %+v", st.Source)
	}
	waitUntil(t, 30*time.Second, "its settings were read", func() bool { return m.Settings() != nil })
	if q := m.Control().QuorumOf(1); q.Required != 1 || q.Raw != "a" {
		t.Errorf("quorum: %+v", q)
	}
	if res, err := k.Seal(t.Context(), main1, false); err != nil || res.End != w.End() {
		t.Errorf("sealed: %+v, %v", res, err)
	}
}
