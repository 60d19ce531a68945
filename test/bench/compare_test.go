package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

var (
	compare = flag.Bool("compare", false, "measure; takes some minutes and a few GiB")
	drainMB = flag.Int("drain", 2048, "WAL to drain from a slot, in MiB")
	rounds  = flag.Int("rounds", 3, "rounds, each with every contender")
	seconds = flag.Int("seconds", 5, "how long each round commits")
)

// field is one primary, and the node that is compared.
type field struct {
	t       *testing.T
	ctx     context.Context // the test's own
	primary *pgserver.Server
	program string
}

func newField(t *testing.T, config map[string]string) *field {
	t.Helper()
	if !*compare {
		t.Skip("a measurement, not a test: it runs with -compare ('make bench')")
	}
	program, cleanup, err := rig.Build(t.Context())
	must(t, err)
	t.Cleanup(cleanup)
	dir := rig.TempDir(t)
	s, err := pgserver.Start(t.Context(), pgserver.Options{Dir: filepath.Join(dir, "primary"), Config: config})
	must(t, err)
	t.Cleanup(func() { must(t, s.Kill()) })
	return &field{t: t, ctx: t.Context(), primary: s, program: program}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (f *field) sql(query string) string {
	f.t.Helper()
	v, err := f.primary.Value(f.ctx, query)
	must(f.t, err)
	return v
}

// node starts a node with an empty disk.
func (f *field) node() *rig.Node {
	f.t.Helper()
	n, err := rig.NewNode(f.t, rig.NodeOptions{Binary: f.program})
	must(f.t, err)
	must(f.t, n.Start(f.ctx))
	return n
}

// figure is one measurement.
type figure struct {
	value float64 // MB/s, or transactions per second
	cpu   time.Duration
	rss   int64 // bytes, the peak
}

// table prints the medians, and the ratio to the first contender's, round by
// round.
func table(t *testing.T, unit string, names []string, all map[string][]figure) {
	t.Helper()
	first := all[names[0]]
	t.Logf("| contender | %s, median (min-max) | ratio to %s | CPU s | peak MiB |", unit, names[0])
	for _, name := range names {
		var values, ratios, cpu, rss []float64
		for i, m := range all[name] {
			values = append(values, m.value)
			ratios = append(ratios, m.value/first[i].value)
			cpu = append(cpu, m.cpu.Seconds())
			rss = append(rss, float64(m.rss)/(1<<20))
		}
		t.Logf("| %s | %s | %s | %s | %s |", name, spread(values, "%.0f"), spread(ratios, "%.2f"), spread(cpu, "%.2f"), spread(rss, "%.0f"))
	}
}

func spread(v []float64, format string) string {
	v = slices.Sorted(slices.Values(v))
	return fmt.Sprintf(format+" ("+format+"-"+format+")", v[len(v)/2], v[0], v[len(v)-1])
}

// TestCompareDrain drains the same WAL from a slot with each receiver.
func TestCompareDrain(t *testing.T) {
	f := newField(t, map[string]string{"max_wal_size": "16GB", "checkpoint_timeout": "1h", "max_slot_wal_keep_size": "-1"})
	f.sql("SELECT pg_create_physical_replication_slot('keep', true)")
	must(t, f.primary.Exec(f.ctx, "CREATE TABLE filler (id int, note text)"))
	from := f.sql("SELECT pg_current_wal_lsn()")
	for f.sql(fmt.Sprintf("SELECT pg_current_wal_lsn() - '%s'::pg_lsn > %d::numeric * 1024 * 1024", from, *drainMB)) != "t" {
		f.sql("WITH i AS (INSERT INTO filler SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 200000) g RETURNING 1) SELECT count(*) FROM i")
	}
	end, err := pg.ParseLSN(f.sql("SELECT pg_current_wal_flush_lsn()"))
	must(t, err)
	start, err := pg.ParseLSN(f.sql("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'keep'"))
	must(t, err)
	size := float64(end-start) / 1e6

	names := []string{"pg_receivewal --no-sync", "pg_receivewal --synchronous", "sluice"}
	all := map[string][]figure{}
	for range *rounds {
		for i, name := range names {
			var took time.Duration
			var m figure
			switch i {
			case 0:
				took, m = f.drainReceivewal(end, "--no-sync")
			case 1:
				took, m = f.drainReceivewal(end, "--synchronous")
			default:
				took, m = f.drainSluice(end)
			}
			m.value = size / took.Seconds()
			all[name] = append(all[name], m)
		}
	}
	t.Logf("draining %.0f MB of WAL from a slot, %d rounds", size, *rounds)
	table(t, "MB/s", names, all)
}

// slot makes a slot that keeps all of the WAL.
func (f *field) slot(name string) {
	f.t.Helper()
	f.sql(fmt.Sprintf("SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots WHERE slot_name = '%s'", name))
	f.sql(fmt.Sprintf("SELECT pg_copy_physical_replication_slot('keep', '%s')", name))
}

func (f *field) drainReceivewal(end pg.LSN, mode string) (time.Duration, figure) {
	f.t.Helper()
	f.slot("rw")
	dir := rig.TempDir(f.t)
	cmd, err := rig.Command(f.ctx, dir, filepath.Join(f.primary.Installation().BinDir, "pg_receivewal"), "-D", dir, "--slot", "rw",
		"--no-password", "--no-loop", mode, "--endpos", end.String(), "--dbname", f.primary.Conninfo())
	must(f.t, err)
	must(f.t, rig.Give(dir))
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		f.t.Fatalf("pg_receivewal: %v\n%s", err, out)
	}
	took := time.Since(began)
	must(f.t, os.RemoveAll(dir))
	return took, figure{cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), rss: peakOf(cmd.ProcessState)}
}

func (f *field) drainSluice(end pg.LSN) (time.Duration, figure) {
	f.t.Helper()
	f.slot("sluice_" + rig.NodeID)
	n := f.node()
	ctx, cancel := context.WithTimeout(f.ctx, 2*time.Minute)
	defer cancel()
	began := time.Now()
	must(f.t, n.Create(ctx, f.primary.Conninfo()))
	_, err := n.AwaitStatus(ctx, "all is durable", func(s rig.Status) bool { return s.FlushLSN >= end })
	must(f.t, err)
	took := time.Since(began)
	cpu, rss, err := usage(n.PID())
	must(f.t, err)
	must(f.t, n.Stop(ctx))
	must(f.t, os.RemoveAll(n.DataDir()))
	return took, figure{cpu: cpu, rss: rss}
}

// TestCompareCommits commits with each receiver as the only synchronous standby.
func TestCompareCommits(t *testing.T) {
	f := newField(t, map[string]string{"max_wal_size": "8GB", "checkpoint_timeout": "1h", "fsync": "on", "max_connections": "120"})
	must(t, f.primary.Exec(f.ctx, "CREATE TABLE ledger (id bigserial PRIMARY KEY, note text)"))
	script := filepath.Join(rig.TempDir(t), "insert.sql")
	must(t, os.WriteFile(script, []byte("INSERT INTO ledger (note) VALUES ('twenty characters...');\n"), 0o644))
	names := []string{"pg_receivewal --synchronous", "sluice", "none (asynchronous)"}
	for _, clients := range []int{1, 16, 64} {
		all := map[string][]figure{}
		for range *rounds {
			all[names[0]] = append(all[names[0]], f.commitReceivewal(script, clients))
			all[names[1]] = append(all[names[1]], f.commitSluice(script, clients))
			all[names[2]] = append(all[names[2]], f.pgbench(script, clients))
		}
		t.Logf("commits of one row each, %d clients, %d rounds of %d s", clients, *rounds, *seconds)
		table(t, "transactions/s", names, all)
	}
}

func (f *field) waitFor(name string) {
	f.t.Helper()
	must(f.t, f.primary.Configure(f.ctx, map[string]string{"synchronous_standby_names": name}))
}

func (f *field) commitReceivewal(script string, clients int) figure {
	f.t.Helper()
	r := rig.NewReceiveWAL(f.t, f.primary.Installation(), "rw", true)
	must(f.t, r.Start(f.ctx, f.primary.Conninfo()))
	defer func() { must(f.t, r.Kill()) }()
	return f.commitWith("rw", script, clients)
}

func (f *field) commitSluice(script string, clients int) figure {
	f.t.Helper()
	n := f.node()
	must(f.t, n.Create(f.ctx, f.primary.Conninfo()))
	defer func() { must(f.t, n.Kill()) }()
	return f.commitWith(rig.NodeID, script, clients)
}

// commitWith measures while commits wait for a standby, and for nobody before
// and after.
func (f *field) commitWith(name, script string, clients int) figure {
	f.t.Helper()
	streams := func() (bool, error) {
		v, err := f.primary.Value(f.ctx, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name = '"+name+"'")
		return v == "1", err
	}
	ctx, cancel := context.WithTimeout(f.ctx, time.Minute)
	defer cancel()
	must(f.t, rig.Poll(ctx, 50*time.Millisecond, streams))
	f.waitFor(name)
	defer f.waitFor("")
	return f.pgbench(script, clients)
}

func (f *field) pgbench(script string, clients int) figure {
	f.t.Helper()
	cmd, err := rig.Command(f.ctx, filepath.Dir(script), filepath.Join(f.primary.Installation().BinDir, "pgbench"), "-n", "-f", script,
		"-c", fmt.Sprint(clients), "-j", "1", "-T", fmt.Sprint(*seconds), "-h", "127.0.0.1", "-p", fmt.Sprint(f.primary.Port()), "-U", "postgres", "postgres")
	must(f.t, err)
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("pgbench: %v\n%s", err, out)
	}
	var tps float64
	_, rest, _ := strings.Cut(string(out), "tps = ")
	if _, err := fmt.Sscanf(rest, "%f", &tps); err != nil {
		f.t.Fatalf("pgbench printed no rate: %v\n%s", err, out)
	}
	return figure{value: tps}
}
