package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/test/rig"
)

// scrapeEvery is how often a node that is watched is scraped; Prometheus' own default is rarer.
const scrapeEvery = 5 * time.Second

// teller is a node that tells so much.
type teller struct {
	name    string
	config  string
	scraped bool
}

// TestCompareTelemetry lets the same node do the same work while it tells nothing, is scraped, and exports some of its traces,
// and all. Its collector runs in this process, on the same cores.
func TestCompareTelemetry(t *testing.T) {
	asked(t, "telemetry")
	f := newField(t, map[string]string{"max_wal_size": "32GB", "checkpoint_timeout": "1h", "autovacuum": "off", "fsync": "on",
		"max_wal_senders": "20", "max_connections": "120", "shared_buffers": "512MB"})
	tellers := f.tellers()
	f.sql(f.primary, "SELECT pg_create_physical_replication_slot('"+keep+"', true)")
	start, end := f.write(f.primary, *walMiB)
	gb := float64(end-start) / 1e9
	r := f.measure(f.told(tellers, func(n *rig.Node) figure { return f.drainTold(n, end, gb) }))
	t.Logf("draining %.2f GB of WAL from a slot, %d rounds\n%s", gb, *rounds, r.markdown("MB/s", drains))

	must(t, f.primary.Exec(f.ctx, "CREATE TABLE ledger (id bigserial PRIMARY KEY, note text)"))
	script := filepath.Join(f.dir, "insert.sql")
	must(t, os.WriteFile(script, []byte("INSERT INTO ledger (note) VALUES ('twenty characters...');\n"), 0o644))
	for _, c := range clientCounts(t) {
		r := f.measure(f.told(tellers, func(n *rig.Node) figure { return f.commitTold(n, script, c) }))
		t.Logf("commits of one row each, %d clients, %d rounds of %d s\n%s", c, *rounds, *seconds, r.markdown("transactions/s", commits))
	}
}

// tellers are compared with the first.
func (f *field) tellers() []teller {
	f.t.Helper()
	collector := collectSpans(f.t)
	traced := func(ratio float64) string {
		return fmt.Sprintf("telemetry: {otlp_endpoint: %q, trace_sample_ratio: %g}\n", collector, ratio)
	}
	return []teller{
		{"off", "", false},
		{"metrics", "", true},
		{"metrics, traces 1 %", traced(0.01), true},
		{"metrics, traces 100 %", traced(1), true},
	}
}

// told makes a contender of each, with a node of its own in each round.
func (f *field) told(tellers []teller, work func(*rig.Node) figure) []contender {
	all := make([]contender, 0, len(tellers))
	for _, told := range tellers {
		all = append(all, contender{told.name, func() figure {
			n := f.nodeWith(rig.NodeOptions{Config: told.config})
			defer f.discard(n)
			if told.scraped {
				defer f.scrape(n)()
			}
			return work(n)
		}})
	}
	return all
}

// drainTold drains what the slot keeps.
func (f *field) drainTold(n *rig.Node, end pg.LSN, gb float64) figure {
	f.t.Helper()
	f.slot(f.primary, "sluice_"+rig.NodeID)
	before, err := usageOf(n.PID())
	must(f.t, err)
	must(f.t, n.Create(f.ctx, f.primary.Conninfo()))
	took := f.awaitDrained(rig.NodeID, end)
	after, err := usageOf(n.PID())
	must(f.t, err)
	return figure{value: gb * 1e3 / took.Seconds(), work: gb, usage: after.since(before)}
}

// commitTold commits while the node is waited for; what the slot keeps is not its business.
func (f *field) commitTold(n *rig.Node, script string, clients int) figure {
	f.t.Helper()
	f.sql(f.primary, fmt.Sprintf("SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots WHERE slot_name = 'sluice_%s'", rig.NodeID))
	must(f.t, n.Create(f.ctx, f.primary.Conninfo()))
	return f.commitWith(rig.NodeID, n.PID, script, clients)
}

// scrape asks a node for its metrics until the function is called that it returns.
func (f *field) scrape(n *rig.Node) (stop func()) {
	ctx, cancel := context.WithCancel(f.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(scrapeEvery)
		defer ticker.Stop()
		for {
			if status, _, err := n.Get(ctx, "/metrics"); ctx.Err() == nil && (err != nil || status != http.StatusOK) {
				f.t.Errorf("scrape: %d %v", status, err)
			}
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}()
	return func() { cancel(); <-done }
}

// collectSpans takes spans over HTTP, and forgets them.
func collectSpans(t *testing.T) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the node counts what was not taken
	})}
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-served })
	return "http://" + l.Addr().String()
}
