package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// drainConfig keeps all WAL, and nothing else happens meanwhile.
var drainConfig = map[string]string{"max_wal_size": "32GB", "checkpoint_timeout": "1h", "autovacuum": "off", "max_wal_senders": "20"}

// patience is how long a drain may take, on any machine.
const patience = 10 * time.Minute

// keep is the slot that keeps all WAL; those of the contenders are copies of it.
const keep = "keep"

// write makes WAL: rows of some 300 bytes, one record for each.
func (f *field) write(s *pgserver.Server, mib int) (start, end pg.LSN) {
	f.t.Helper()
	f.fill(s, mib, 100000)
	end, err := pg.ParseLSN(f.sql(s, "SELECT pg_current_wal_flush_lsn()"))
	must(f.t, err)
	start, err = pg.ParseLSN(f.sql(s, "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = '"+keep+"'"))
	must(f.t, err)
	return start, end
}

// fill makes WAL by transactions of so many rows.
func (f *field) fill(s *pgserver.Server, mib, rows int) {
	f.t.Helper()
	must(f.t, s.Exec(f.ctx, "CREATE TABLE filler (id int, note text)"))
	from := f.sql(s, "SELECT pg_current_wal_lsn()")
	for f.sql(s, fmt.Sprintf("SELECT pg_current_wal_lsn() - '%s'::pg_lsn > %d::numeric * 1024 * 1024", from, mib)) != "t" {
		f.sql(s, fmt.Sprintf("WITH i AS (INSERT INTO filler SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, %d) g RETURNING 1) SELECT count(*) FROM i", rows))
	}
}

// slot makes a slot that keeps all of the WAL.
func (f *field) slot(s *pgserver.Server, name string) {
	f.t.Helper()
	f.sql(s, fmt.Sprintf("SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots WHERE slot_name = '%s'", name))
	f.sql(s, fmt.Sprintf("SELECT pg_copy_physical_replication_slot('%s', '%s')", keep, name))
}

// TestCompareDrain drains the same WAL from a slot with each receiver.
func TestCompareDrain(t *testing.T) {
	asked(t, "drain")
	f := newField(t, drainConfig)
	f.sql(f.primary, "SELECT pg_create_physical_replication_slot('"+keep+"', true)")
	backup := f.backup()
	start, end := f.write(f.primary, *walMiB)
	gb := float64(end-start) / 1e9
	drain := func(run func() (time.Duration, usage)) func() figure {
		return func() figure {
			took, u := run()
			return figure{value: gb * 1e3 / took.Seconds(), work: gb, usage: u}
		}
	}
	r := f.measure([]contender{
		{"pg_receivewal --no-sync", drain(func() (time.Duration, usage) { return f.drainReceivewal(end, "--no-sync") })},
		{"pg_receivewal", drain(func() (time.Duration, usage) { return f.drainReceivewal(end) })},
		{"pg_receivewal --synchronous", drain(func() (time.Duration, usage) { return f.drainReceivewal(end, "--synchronous") })},
		{"streaming standby", drain(func() (time.Duration, usage) { return f.drainStandby(backup, end) })},
		{"sluice", drain(func() (time.Duration, usage) { return f.drainSluice(end) })},
	})
	t.Logf("draining %.2f GB of WAL from a slot, %d rounds\n%s", gb, *rounds, r.markdown("MB/s", drains))
}

func (f *field) drainReceivewal(end pg.LSN, mode ...string) (time.Duration, usage) {
	f.t.Helper()
	f.slot(f.primary, "rw")
	dir := rig.TempDir(f.t)
	cmd := f.receivewal(f.primary, dir, end, mode)
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		f.t.Fatalf("pg_receivewal: %v\n%s", err, out)
	}
	took := time.Since(began)
	must(f.t, os.RemoveAll(dir))
	return took, usageAfter(cmd.ProcessState)
}

func (f *field) drainSluice(end pg.LSN) (time.Duration, usage) {
	f.t.Helper()
	f.slot(f.primary, "sluice_"+rig.NodeID)
	n := f.node()
	defer f.discard(n)
	before, err := usageOf(n.PID())
	must(f.t, err)
	must(f.t, n.Create(f.ctx, f.primary.Conninfo()))
	took := f.awaitDrained(rig.NodeID, end)
	u, err := usageOf(n.PID())
	must(f.t, err)
	return took, u.since(before)
}

func (f *field) drainStandby(backup string, end pg.LSN) (time.Duration, usage) {
	f.t.Helper()
	f.slot(f.primary, standbyName)
	s := f.newStandby(backup)
	defer func() { must(f.t, s.Kill()); must(f.t, s.RemoveAll()) }()
	pid := f.receiverOf(s)
	took := f.awaitDrained(standbyName, end)
	u, err := usageOf(pid)
	must(f.t, err)
	return took, u
}

// awaitDrained waits until a receiver has acknowledged all, and returns how long
// its walsender has lived then: starting a server, or a command line, is none of
// the work. It is the source that is asked, which costs the contender nothing.
func (f *field) awaitDrained(name string, end pg.LSN) (took time.Duration) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, patience)
	defer cancel()
	c, err := f.primary.Connect(ctx)
	must(f.t, err)
	defer func() { _ = c.Close(ctx) }()
	must(f.t, rig.Poll(ctx, 10*time.Millisecond, func() (bool, error) {
		rows, err := c.Query(ctx, fmt.Sprintf("SELECT extract(epoch FROM clock_timestamp() - backend_start) "+
			"FROM pg_stat_replication WHERE application_name = '%s' AND flush_lsn >= '%s'", name, end))
		if err != nil || len(rows) == 0 {
			return false, err
		}
		s, err := strconv.ParseFloat(rows[0][0], 64)
		took = time.Duration(s * float64(time.Second))
		return true, err
	}))
	return took
}

// TestCompareSeveral drains several primaries at once, by one process each or by
// one node.
func TestCompareSeveral(t *testing.T) {
	asked(t, "several")
	for _, n := range []int{2, 4} {
		t.Run(fmt.Sprint(n), func(t *testing.T) { compareSeveral(t, n) })
	}
}

// far is a primary, and where its WAL ends.
type far struct {
	*pgserver.Server
	end pg.LSN
}

func compareSeveral(t *testing.T, n int) {
	f := &field{t: t, ctx: t.Context(), dir: rig.TempDir(t), program: build(t)}
	var all []far
	gb := 0.0
	for i := range n {
		s := f.newPrimary(fmt.Sprintf("primary%d", i), drainConfig)
		f.sql(s, "SELECT pg_create_physical_replication_slot('"+keep+"', true)")
		start, end := f.write(s, *walMiB/n)
		all = append(all, far{s, end})
		gb += float64(end-start) / 1e9
	}
	drain := func(run func() (time.Duration, usage)) func() figure {
		return func() figure {
			took, u := run()
			return figure{value: gb * 1e3 / took.Seconds(), work: gb, usage: u}
		}
	}
	r := f.measure([]contender{
		{"pg_receivewal --no-sync", drain(func() (time.Duration, usage) { return f.severalReceivewals(all, "--no-sync") })},
		{"pg_receivewal --synchronous", drain(func() (time.Duration, usage) { return f.severalReceivewals(all, "--synchronous") })},
		{"sluice", drain(func() (time.Duration, usage) { return f.severalTimelines(all) })},
	})
	t.Logf("draining %.2f GB of WAL from %d primaries at once, %d rounds\n%s", gb, n, *rounds, r.markdown("MB/s", drains))
}

func (f *field) severalReceivewals(all []far, mode string) (took time.Duration, sum usage) {
	f.t.Helper()
	ended := make(chan error, len(all))
	used := make([]usage, len(all))
	for _, s := range all {
		f.slot(s.Server, "rw")
	}
	began := time.Now()
	for i, s := range all {
		dir := rig.TempDir(f.t)
		cmd := f.receivewal(s.Server, dir, s.end, []string{mode})
		go func() {
			err := cmd.Run()
			used[i] = usageAfter(cmd.ProcessState)
			ended <- err
		}()
		defer func() { must(f.t, os.RemoveAll(dir)) }()
	}
	for range all {
		must(f.t, <-ended)
	}
	took = time.Since(began)
	for _, u := range used {
		sum = sum.plus(u)
	}
	return took, sum
}

func (f *field) severalTimelines(all []far) (time.Duration, usage) {
	f.t.Helper()
	n := f.node()
	defer f.discard(n)
	ctx, cancel := context.WithTimeout(f.ctx, 2*time.Minute)
	defer cancel()
	for _, s := range all {
		f.slot(s.Server, "sluice_"+rig.NodeID)
	}
	before, err := usageOf(n.PID())
	must(f.t, err)
	began := time.Now()
	for i, s := range all {
		_, err := n.Must(ctx, "timeline", "create", fmt.Sprintf("acme/t%d", i), "--source", s.Conninfo(), "--new")
		must(f.t, err)
	}
	for i, s := range all {
		must(f.t, f.awaitFlush(ctx, n, fmt.Sprintf("t%d", i), s.end))
	}
	took := time.Since(began)
	u, err := usageOf(n.PID())
	must(f.t, err)
	return took, u.since(before)
}

// receivewal prepares a pg_receivewal that ends with the WAL.
func (f *field) receivewal(s *pgserver.Server, dir string, end pg.LSN, mode []string) *command {
	f.t.Helper()
	args := append([]string{"-D", dir, "--slot", "rw", "--no-password", "--no-loop", "--endpos", end.String(), "--dbname", s.Conninfo()}, mode...)
	cmd, err := rig.Command(f.ctx, dir, filepath.Join(s.Installation().BinDir, "pg_receivewal"), args...)
	must(f.t, err)
	return cmd
}
