package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

var restarts = flag.Int("restarts", 1, "how often TestThreeNodes restarts each node, and kills the one that backs up")

// takesOver is how long nobody may back up after the one who did was killed: five seconds of silence make a node dead,
// which is looked at once a second, and this machine is busy.
const takesOver = 10 * time.Second

// trio is three nodes, each with a disk of its own, that keep one timeline together. Commits wait for two of them.
type trio struct {
	*bench
	nodes map[string]*rig.Node
	store string
}

var trioIDs = []string{"a", "b", "c"}

func newTrio(t *testing.T) *trio {
	t.Helper()
	tr := &trio{bench: newEmptyBench(t), nodes: map[string]*rig.Node{}}
	tr.store = rig.TempDir(t)
	tr.explains("nodes start, stop and are killed one after the other", `^embedded broker: `, `^another node is silent`, `^broker is lost`,
		`^a message between nodes`)
	tr.primary = tr.newCluster(pgserver.Options{SegmentSizeMiB: segmentMiB})
	tr.do(tr.primary.Exec(tr.ctx, "CREATE TABLE ledger (id int PRIMARY KEY, note text)"))
	var routes []string
	for range trioIDs {
		port, err := pgserver.FreePort()
		tr.do(err)
		routes = append(routes, fmt.Sprintf("127.0.0.1:%d", port))
	}
	for i, id := range trioIDs {
		others := append(append([]string{}, routes[:i]...), routes[i+1:]...)
		n := tr.newNode(rig.NodeOptions{
			Binary: program, ID: id, Store: "file://" + tr.store,
			Config: fmt.Sprintf("broker: {cluster_listen: %q, routes: [\"nats://%s\"]}", routes[i], strings.Join(others, `", "nats://`)),
		})
		tr.nodes[id] = n
		tr.do(n.Join(tr.ctx, tr.primary.Conninfo()))
	}
	tr.each("it streams, and hears the others", func(s rig.Status) bool { return s.Source.Connected && len(s.Peers) == 2 })
	const names = "ANY 2 (a, b, c)"
	tr.do(tr.primary.Configure(tr.ctx, map[string]string{"synchronous_standby_names": names}))
	tr.each("it knows that commits wait for two of three", func(s rig.Status) bool { return s.Quorum.Text == names && s.Quorum.Synchronous })
	return tr
}

// each waits until every node that runs is as wanted.
func (tr *trio) each(what string, wanted func(rig.Status) bool) {
	tr.t.Helper()
	for id, n := range tr.nodes {
		if n.Running() {
			ctx, cancel := context.WithTimeout(tr.ctx, patience)
			_, err := n.AwaitStatus(ctx, "node "+id+": "+what, wanted)
			cancel()
			tr.do(err)
		}
	}
}

// offloader waits until all nodes that run agree on one of them, and returns it.
func (tr *trio) offloader() (id string) {
	tr.t.Helper()
	ctx, cancel := context.WithTimeout(tr.ctx, patience)
	defer cancel()
	err := rig.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		id = ""
		for _, n := range tr.nodes {
			if !n.Running() {
				continue
			}
			s, err := n.Status(ctx)
			if err != nil || s.Offloader == nil || id != "" && s.Offloader.Node != id {
				return false, nil //nolint:nilerr // it may answer in a moment
			}
			id = s.Offloader.Node
		}
		return tr.nodes[id] != nil && tr.nodes[id].Running(), nil
	})
	tr.do(err)
	return id
}

// commits commits rows until it is told to stop, and returns how many.
func (tr *trio) commits() (stop func() int) {
	ctx, cancel := context.WithCancel(tr.ctx)
	var load sync.WaitGroup
	counts, errs := make([]int, 2), make([]error, 2)
	for i := range counts {
		load.Go(func() { counts[i], errs[i] = tr.commitFrom(ctx, (i+1)*1_000_000_000) })
	}
	return func() int {
		tr.t.Helper()
		cancel()
		load.Wait()
		for _, err := range errs {
			tr.do(err)
		}
		return counts[0] + counts[1]
	}
}

func (tr *trio) commitFrom(stop context.Context, first int) (n int, err error) {
	c, err := tr.primary.Connect(tr.ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close(tr.ctx) }()
	for ; stop.Err() == nil; n++ {
		if err := c.Exec(tr.ctx, fmt.Sprintf("INSERT INTO ledger VALUES (%d, repeat(md5('%d'), 100))", first+n, n)); err != nil {
			return n, fmt.Errorf("commit %d: %w", n, err)
		}
	}
	return n, nil
}

// restart is one step of a rolling restart: the turn to back up goes to another only if it was this node's.
func (tr *trio) restart(id string) {
	tr.t.Helper()
	before := tr.offloader()
	tr.do(tr.nodes[id].Stop(tr.ctx))
	during := tr.offloader()
	tr.do(tr.nodes[id].Start(tr.ctx))
	tr.each("it streams again, and hears the others", func(s rig.Status) bool {
		return s.Source.Connected && len(s.Peers) == 2 && !s.Peers[0].Silent && !s.Peers[1].Silent
	})
	after := tr.offloader()
	if before != id && during != before || after != during {
		tr.t.Errorf("%s was restarted, and %s backed up before, %s meanwhile, %s after it", id, before, during, after)
	}
}

// kill kills the one that backs up, and returns how long it took another to take over.
func (tr *trio) kill() time.Duration {
	tr.t.Helper()
	id := tr.offloader()
	tr.do(tr.nodes[id].Kill())
	began := time.Now()
	heir := tr.offloader()
	took := time.Since(began)
	tr.t.Logf("%s was killed, %s took over after %v", id, heir, took)
	tr.do(tr.nodes[id].Start(tr.ctx))
	if after := tr.offloader(); after != heir {
		tr.t.Errorf("%s came back, and the turn went from %s to %s", id, heir, after)
	}
	return took
}

// stored holds what is in object storage against what was committed: every whole segment, each once.
func (tr *trio) stored() {
	tr.t.Helper()
	tr.do(tr.primary.Exec(tr.ctx, "SELECT pg_switch_wal()"))
	end := tr.walEnd(tr.primary)
	const size = pg.SegmentSize(segmentMiB << 20)
	tr.each("it knows that all whole segments are in object storage", func(s rig.Status) bool { return s.BackupLSN >= size.StartOf(end) })
	first := ^pg.SegNo(0)
	for _, n := range tr.nodes {
		s, err := n.Status(tr.ctx)
		tr.do(err)
		first = min(first, size.SegNo(s.StartLSN))
	}
	for n := first; n < size.SegNo(end); n++ {
		name := pg.SegmentName(1, n, size) + ".zst"
		if found, err := filepath.Glob(filepath.Join(tr.store, "acme", "main", "*", "wal", name)); err != nil || len(found) != 1 {
			tr.t.Errorf("segment %s is %d times in object storage (%v)", name, len(found), err)
		}
	}
	if _, err := os.Stat(filepath.Join(tr.store, "sluice.json")); err != nil {
		tr.t.Error(err)
	}
}

// Three nodes that are restarted one after the other, and killed, under load: no commit fails, no segment is missing in
// object storage, and the turn to back up changes only with the node that had it. Were bytes uploaded twice that are not
// the same, a node would log a conflict, and the scan of its log would find it.
func TestThreeNodes(t *testing.T) {
	tr := newTrio(t)
	stop := tr.commits()
	for range *restarts {
		for _, id := range trioIDs {
			tr.restart(id)
		}
		if took := tr.kill(); took > takesOver {
			t.Errorf("it took %v until another node backed up", took)
		}
	}
	t.Logf("%d commits", stop())
	tr.stored()
}
