package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/sluicewal/sluice/test/natstest"
	"github.com/sluicewal/sluice/test/rig"
)

// TestCompareBroker lets commits wait for two of three nodes, whose NATS server runs, or is stopped from before they
// start until after the last commit. The first contender comes a second time, under another name: by as much as it
// differs from itself, nothing is told from noise.
func TestCompareBroker(t *testing.T) {
	asked(t, "broker")
	f := newField(t, map[string]string{"max_wal_size": "32GB", "checkpoint_timeout": "1h", "fsync": "on", "max_connections": "120",
		"shared_buffers": "512MB", "autovacuum": "off"})
	must(t, f.primary.Exec(f.ctx, "CREATE TABLE ledger (id bigserial PRIMARY KEY, note text)"))
	script := filepath.Join(f.dir, "insert.sql")
	must(t, os.WriteFile(script, []byte("INSERT INTO ledger (note) VALUES ('twenty characters...');\n"), 0o644))
	tr := f.newTrio()
	for _, n := range clientCounts(t) {
		r := f.measure([]contender{
			{"broker runs", func() figure { return tr.commit(true, script, n) }},
			{"broker is stopped", func() figure { return tr.commit(false, script, n) }},
			{"broker runs, once more", func() figure { return tr.commit(true, script, n) }},
		})
		t.Logf("commits of one row each, two of three nodes are waited for, %d clients, %d rounds of %d s\n%s%s",
			n, *rounds, *seconds, r.markdown("transactions/s", append([]column{p50}, commits...)), r.latencyRatios())
	}
}

// latencyRatios are the ratios to the first contender's latencies.
func (r results) latencyRatios() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n| latency, ratio to %s | p50 | p99 |\n|---|--:|--:|\n", r.names[0])
	for _, name := range r.names[1:] {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, r.ratio(name, p50.of), r.ratio(name, p99.of))
	}
	return b.String()
}

// trio is three nodes that keep one timeline together, and hear of each other through a NATS server of an operator's.
type trio struct {
	*field
	broker  *natstest.Server // in this process, on the cores that all share
	running bool             // whether it does
	nodes   []*rig.Node
}

func (f *field) newTrio() *trio {
	f.t.Helper()
	tr := &trio{field: f, broker: natstest.Start(f.t, server.Options{}), running: true}
	store := "file://" + filepath.Join(rig.TempDir(f.t), "objects")
	for _, id := range []string{"a", "b", "c"} {
		n := f.nodeWith(rig.NodeOptions{ID: id, Store: store, Config: fmt.Sprintf("broker: {url: %q}", tr.broker.URL())})
		must(f.t, n.Join(f.ctx, f.primary.Conninfo()))
		tr.nodes = append(tr.nodes, n)
	}
	return tr
}

// commit starts the nodes anew, with a broker or without, and measures while commits wait for two of them.
func (tr *trio) commit(brokerRuns bool, script string, clients int) figure {
	tr.t.Helper()
	for _, n := range tr.nodes {
		must(tr.t, n.Stop(tr.ctx))
	}
	if brokerRuns != tr.running {
		tr.toggle()
	}
	for _, n := range tr.nodes {
		must(tr.t, n.Start(tr.ctx))
		tr.awaitStreaming(n.ID())
	}
	tr.awaitPeers(brokerRuns)
	tr.waitFor("ANY 2 (a, b, c)")
	defer tr.waitFor("")
	before := tr.usage()
	m := tr.pgbench(script, clients)
	m.usage = tr.usage().since(before)
	tr.awaitPeers(brokerRuns)
	return m
}

// toggle starts the broker or stops it.
func (tr *trio) toggle() {
	tr.t.Helper()
	if tr.running {
		tr.broker.Kill()
	} else {
		tr.broker.Restart(tr.t)
	}
	tr.running = !tr.running
}

// awaitPeers waits until each node hears two others, or makes sure that it is cut off.
func (tr *trio) awaitPeers(heard bool) {
	tr.t.Helper()
	ctx, cancel := context.WithTimeout(tr.ctx, time.Minute)
	defer cancel()
	for _, n := range tr.nodes {
		must(tr.t, rig.Poll(ctx, 50*time.Millisecond, func() (bool, error) {
			_, body, err := n.Get(ctx, "/v1/node")
			if err != nil {
				return false, err
			}
			var node struct {
				Broker struct{ Connected bool }
				Peers  []struct{ Silent bool }
			}
			err = json.Unmarshal(body, &node)
			silent := slices.ContainsFunc(node.Peers, func(p struct{ Silent bool }) bool { return p.Silent })
			return node.Broker.Connected == heard && (!heard || len(node.Peers) == 2 && !silent), err
		}))
	}
}

// usage is what all three have used.
func (tr *trio) usage() (sum usage) {
	tr.t.Helper()
	for _, n := range tr.nodes {
		u, err := usageOf(n.PID())
		must(tr.t, err)
		sum = sum.plus(u)
	}
	return sum
}
