package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
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

// uploadsAtOnce is how many segments a node uploads at once, which is the default of object_store.concurrency.
const uploadsAtOnce = 4

// trio is three nodes, each with a disk of its own, that keep one timeline together. Commits wait for two of them.
type trio struct {
	*bench
	nodes map[string]*rig.Node
	store string
	doors string // each node comes to the store through a link of its own, in this directory
	// cut is the node that was cut off from the store, if one was.
	cut string
	// handovers is how often the node that backed up was stopped or killed.
	handovers int
}

var trioIDs = []string{"a", "b", "c"}

func newTrio(t *testing.T) *trio {
	t.Helper()
	tr := &trio{bench: newEmptyBench(t), nodes: map[string]*rig.Node{}}
	tr.store, tr.doors = rig.TempDir(t), rig.TempDir(t)
	tr.explains("nodes start, stop and are killed one after the other", `^embedded broker: `, `^another node is silent`, `^broker is lost`)
	tr.primary = tr.newCluster(pgserver.Options{SegmentSizeMiB: segmentMiB})
	var routes []string
	for range trioIDs {
		port, err := pgserver.FreePort()
		tr.do(err)
		routes = append(routes, fmt.Sprintf("127.0.0.1:%d", port))
	}
	for i, id := range trioIDs {
		others := append(append([]string{}, routes[:i]...), routes[i+1:]...)
		tr.do(os.Symlink(tr.store, tr.door(id)))
		n := tr.newNode(rig.NodeOptions{
			Binary: program, ID: id, Store: "file://" + tr.door(id),
			Config: fmt.Sprintf("retain: {local_bytes: 1MiB}\nbroker: {cluster_listen: %q, routes: [\"nats://%s\"]}\ntelemetry: {log_level: debug}",
				routes[i], strings.Join(others, `", "nats://`)),
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

// door is where a node comes to the store.
func (tr *trio) door(id string) string { return filepath.Join(tr.doors, id) }

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

// pgbenchSeconds is how long one run of pgbench takes: a run that is told to stop reports nothing, so that short ones follow each other.
const pgbenchSeconds = 2

// commits lets pgbench commit until it is told to stop, and returns how many rows were acknowledged. One that fails ends the test.
func (tr *trio) commits() (stop func() int) {
	tr.t.Helper()
	script := filepath.Join(tr.dir, "insert.sql")
	tr.do(os.WriteFile(script, []byte("INSERT INTO load SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 200);\n"), 0o644))
	tr.do(tr.primary.Exec(tr.ctx, "CREATE TABLE load (note text)"))
	ctx, cancel := context.WithCancel(tr.ctx)
	var load sync.WaitGroup
	var rows int
	var err error
	load.Go(func() {
		for ctx.Err() == nil && err == nil {
			var n int
			n, err = tr.pgbench(script)
			rows += n
		}
	})
	return func() int {
		tr.t.Helper()
		cancel()
		load.Wait()
		tr.do(err)
		return rows
	}
}

// pgbench runs a script from two clients, and returns how often. It ends with an error as soon as one is told that a commit failed.
func (tr *trio) pgbench(script string) (n int, err error) {
	cmd, err := rig.Command(tr.ctx, tr.dir, filepath.Join(tr.primary.Installation().BinDir, "pgbench"), "-n", "-f", script, "-c", "2",
		"-T", strconv.Itoa(pgbenchSeconds), "-h", "127.0.0.1", "-p", strconv.Itoa(tr.primary.Port()), "-U", "postgres", "postgres")
	if err != nil {
		return 0, err
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w\n%s", err, out)
	}
	_, rest, _ := strings.Cut(string(out), "actually processed: ")
	if _, err := fmt.Sscan(rest, &n); err != nil || !strings.Contains(string(out), "failed transactions: 0 ") {
		return 0, fmt.Errorf("pgbench says: %s", out)
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
	if before == id {
		tr.handovers++
	}
	if before != id && during != before || after != during {
		tr.t.Errorf("%s was restarted, and %s backed up before, %s meanwhile, %s after it", id, before, during, after)
	}
}

// kill kills the one that backs up, and returns how long it took another to take over. While it is dead, the others let go of the WAL
// that it had (R2): object storage has it.
func (tr *trio) kill() time.Duration {
	tr.t.Helper()
	id := tr.offloader()
	last, err := tr.nodes[id].Status(tr.ctx)
	tr.do(err)
	tr.do(tr.nodes[id].Kill())
	began := time.Now()
	heir := tr.offloader()
	tr.handovers++
	took := time.Since(began)
	tr.t.Logf("%s was killed, %s took over after %v", id, heir, took)
	tr.gone(pg.SegmentName(1, benchSegment.SegNo(last.FlushLSN), benchSegment))
	tr.t.Logf("what it had was removed from the others after %v", time.Since(began))
	tr.do(tr.nodes[id].Start(tr.ctx))
	if after := tr.offloader(); after != heir {
		tr.t.Errorf("%s came back, and the turn went from %s to %s", id, heir, after)
	}
	return took
}

// gone waits until none of the nodes that run has a segment on its disk, which object storage has then.
func (tr *trio) gone(name string) {
	tr.t.Helper()
	ctx, cancel := context.WithTimeout(tr.ctx, patience)
	defer cancel()
	tr.do(rig.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		for _, n := range tr.nodes {
			if n.Running() && hasSegment(n, name) {
				return false, nil
			}
		}
		return true, nil
	}))
	if found, err := filepath.Glob(filepath.Join(tr.store, "acme", "main", "*", "wal", name+".zst")); err != nil || len(found) != 1 {
		tr.t.Errorf("segment %s is removed from the nodes, and %d times in object storage (%v)", name, len(found), err)
	}
}

// hasSegment reports whether a segment lies on a node's disk, whole or not.
func hasSegment(n *rig.Node, name string) bool {
	for _, file := range []string{name, name + ".partial"} {
		if _, err := os.Stat(filepath.Join(n.WALDir(), file)); err == nil {
			return true
		}
	}
	return false
}

// stored holds what is in object storage against what was committed: every whole segment, each once.
func (tr *trio) stored() {
	tr.t.Helper()
	tr.do(tr.primary.Exec(tr.ctx, "SELECT pg_switch_wal()"))
	end := tr.walEnd(tr.primary)
	tr.each("it knows that all whole segments are in object storage", func(s rig.Status) bool { return s.BackupLSN >= benchSegment.StartOf(end) })
	first := ^pg.SegNo(0)
	for _, n := range tr.nodes {
		s, err := n.Status(tr.ctx)
		tr.do(err)
		first = min(first, benchSegment.SegNo(s.StartLSN))
	}
	for n := first; n < benchSegment.SegNo(end); n++ {
		name := pg.SegmentName(1, n, benchSegment) + ".zst"
		if found, err := filepath.Glob(filepath.Join(tr.store, "acme", "main", "*", "wal", name)); err != nil || len(found) != 1 {
			tr.t.Errorf("segment %s is %d times in object storage (%v)", name, len(found), err)
		}
	}
	if _, err := os.Stat(filepath.Join(tr.store, "sluice.json")); err != nil {
		tr.t.Error(err)
	}
}

// logged calls line with each line that the nodes have logged.
func (tr *trio) logged(line func(node, text string)) {
	tr.t.Helper()
	for id, n := range tr.nodes {
		text, err := os.ReadFile(n.LogFile())
		tr.do(err)
		for l := range strings.Lines(string(text)) {
			line(id, l)
		}
	}
}

// uploads holds what was uploaded against what was needed: an object for each whole segment, made once; looked at again only where a
// node that took over could not know how far the one before it had come.
func (tr *trio) uploads() {
	tr.t.Helper()
	created, present := map[uint64]int{}, 0
	tr.logged(func(node, text string) {
		var l struct {
			Msg, Outcome string
			Segment      uint64
			Partial      bool
		}
		if !strings.Contains(text, `"upload ended"`) {
			return
		}
		tr.do(json.Unmarshal([]byte(text), &l))
		switch {
		case l.Partial || l.Outcome == "cancelled" || node == tr.cut:
		case l.Outcome == "created":
			if created[l.Segment]++; created[l.Segment] > 1 {
				tr.t.Errorf("segment %d was made twice, the last time by %s", l.Segment, node)
			}
		case l.Outcome == "present":
			present++
		default:
			tr.t.Errorf("an upload of %s ended otherwise: %s", node, text)
		}
	})
	tr.t.Logf("%d segments were uploaded, %d were found to be there, in %d handovers", len(created), present, tr.handovers)
	if most := uploadsAtOnce * tr.handovers; present > most {
		tr.t.Errorf("%d segments were about to be uploaded that were there, at most %d could be under way when the turn changed", present, most)
	}
}

// turns holds how often a node took the turn against how often the restarts demanded it. What the others think in between, before
// they have heard who did, is no change.
func (tr *trio) turns() {
	tr.t.Helper()
	var taken []string
	tr.logged(func(node, text string) {
		var l struct {
			From, Why string
			Mine      bool
		}
		if !strings.Contains(text, `"the turn to back up the timeline has changed"`) {
			return
		}
		tr.do(json.Unmarshal([]byte(text), &l))
		if l.Mine {
			taken = append(taken, fmt.Sprintf("%s from %q (%s)", node, l.From, l.Why))
		}
	})
	tr.t.Logf("the turn was taken by %s", strings.Join(taken, ", "))
	if wanted := 1 + tr.handovers; len(taken) > wanted {
		tr.t.Errorf("the turn was taken %d times, and the start and the restarts demanded %d", len(taken), wanted)
	}
}

// Three nodes that are restarted one after the other, and killed, under load: no commit fails, no segment is missing in
// object storage, each is uploaded once, and the turn to back up changes only with the node that had it. Were bytes
// uploaded twice that are not the same, a node would log a conflict, and the scan of its log would find it.
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
	rows := stop()
	t.Logf("%d commits", rows)
	tr.awaitValue(tr.primary, "SELECT count(*) FROM load", strconv.Itoa(rows))
	tr.stored()
	tr.uploads()
	tr.turns()
}
