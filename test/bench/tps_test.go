package bench

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

type command = exec.Cmd

// TestCompareCommits commits with each receiver as the only synchronous standby.
func TestCompareCommits(t *testing.T) {
	asked(t, "tps")
	f := newField(t, map[string]string{"max_wal_size": "32GB", "checkpoint_timeout": "1h", "fsync": "on", "max_connections": "120",
		"shared_buffers": "512MB", "autovacuum": "off"})
	must(t, f.primary.Exec(f.ctx, "CREATE TABLE ledger (id bigserial PRIMARY KEY, note text)"))
	script := filepath.Join(f.dir, "insert.sql")
	must(t, os.WriteFile(script, []byte("INSERT INTO ledger (note) VALUES ('twenty characters...');\n"), 0o644))
	f.sql(f.primary, "SELECT pg_create_physical_replication_slot('"+standbyName+"', true)")
	standby := f.newStandby(f.backup())
	must(t, standby.WaitReady(t.Context()))
	for _, n := range clientCounts(t) {
		r := f.measure([]contender{
			{"pg_receivewal --synchronous", func() figure { return f.commitReceivewal(script, n) }},
			{"streaming standby", func() figure { return f.commitStandby(standby, script, n) }},
			{"sluice", func() figure { return f.commitSluice(script, n) }},
			{"none (asynchronous)", func() figure { return f.pgbench(script, n) }},
		})
		t.Logf("commits of one row each, %d clients, %d rounds of %d s\n%s", n, *rounds, *seconds, r.markdown("transactions/s", commits))
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
	return f.commitWith("rw", r.PID, script, clients)
}

// commitStandby uses one standby in all rounds; between them it is not there.
func (f *field) commitStandby(s *pgserver.Server, script string, clients int) figure {
	f.t.Helper()
	if !s.Running() {
		must(f.t, s.Restart(f.ctx))
	}
	defer func() { must(f.t, s.Stop(f.ctx, pgserver.Fast)) }()
	return f.commitWith(standbyName, func() int { return f.receiverOf(s) }, script, clients)
}

func (f *field) commitSluice(script string, clients int) figure {
	f.t.Helper()
	n := f.node()
	defer f.discard(n)
	must(f.t, n.Create(f.ctx, f.primary.Conninfo()))
	return f.commitWith(rig.NodeID, n.PID, script, clients)
}

// commitWith measures while commits wait for a standby, and for nobody before
// and after.
func (f *field) commitWith(name string, pid func() int, script string, clients int) figure {
	f.t.Helper()
	f.awaitStreaming(name)
	f.waitFor(name)
	defer f.waitFor("")
	before, err := usageOf(pid())
	must(f.t, err)
	m := f.pgbench(script, clients)
	after, err := usageOf(pid())
	must(f.t, err)
	m.usage = after.since(before)
	return m
}

// awaitStreaming waits until a standby is streamed to.
func (f *field) awaitStreaming(name string) {
	f.t.Helper()
	streams := func() (bool, error) {
		v, err := f.primary.Value(f.ctx, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name = '"+name+"'")
		return v == "1", err
	}
	ctx, cancel := context.WithTimeout(f.ctx, 2*time.Minute)
	defer cancel()
	must(f.t, rig.Poll(ctx, 50*time.Millisecond, streams))
}

func (f *field) pgbench(script string, clients int) figure {
	f.t.Helper()
	dir := rig.TempDir(f.t)
	defer func() { must(f.t, os.RemoveAll(dir)) }()
	cmd, err := rig.Command(f.ctx, dir, filepath.Join(f.primary.Installation().BinDir, "pgbench"), "-n", "-l", "-f", script,
		"-c", fmt.Sprint(clients), "-j", "1", "-T", fmt.Sprint(*seconds), "-h", "127.0.0.1", "-p", fmt.Sprint(f.primary.Port()), "-U", "postgres", "postgres")
	must(f.t, err)
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("pgbench: %v\n%s", err, out)
	}
	m := figure{value: number(f.t, string(out), "tps = "), work: number(f.t, string(out), "actually processed: ")}
	took, err := latencies(dir)
	must(f.t, err)
	m.p50, m.p99 = quantile(took, 0.5), quantile(took, 0.99)
	return m
}

// number finds the number behind a text.
func number(t *testing.T, out, behind string) (v float64) {
	t.Helper()
	_, rest, _ := strings.Cut(out, behind)
	if _, err := fmt.Sscanf(rest, "%f", &v); err != nil {
		t.Fatalf("no number behind %q: %v\n%s", behind, err, out)
	}
	return v
}

// latencies reads pgbench's log of transactions, whose third column is how long
// each took, in microseconds, and sorts them.
func latencies(dir string) (took []int, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "pgbench_log.*"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("pgbench wrote no log: %w", err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			us, err := strconv.Atoi(strings.Fields(lines.Text())[2])
			if err != nil {
				return nil, err
			}
			took = append(took, us)
		}
	}
	slices.Sort(took)
	return took, nil
}

func quantile(sorted []int, q float64) time.Duration {
	return time.Duration(sorted[int(q*float64(len(sorted)-1))]) * time.Microsecond
}
