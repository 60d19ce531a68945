package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// Nodes that know of a timeline from object storage alone: one that lost its disk,
// and a second one beside it.

// newStoreURL is a directory for object storage.
func newStoreURL(t *testing.T) string { return "file://" + filepath.Join(rig.TempDir(t), "objects") }

// anotherNode is a second process with its own name and disk, on the same store.
func (b *bench) anotherNode(id, url, config string) *rig.Node {
	b.t.Helper()
	return b.newNode(rig.NodeOptions{Binary: program, ID: id, Store: url, PartialInterval: "1s", Config: config})
}

// F13 and F14: the timeline is sealed, the node's disk is lost, and the old primary
// lives, with a client that goes on.
func TestNodeWithALostDiskLearnsTheSealBeforeItAcknowledges(t *testing.T) {
	b := newStoredBench(t, newStoreURL(t), "")
	b.explains("the primary lives on a sealed TLI", "sealed")
	b.commit(b.primary, 3)
	seal, err := b.node.Seal(b.ctx)
	b.do(err)
	b.do(b.node.Kill())
	b.do(b.node.DestroyDisk())

	client, err := b.primary.Connect(b.ctx)
	b.do(err)
	answered := make(chan error, 1)
	go func() { answered <- client.Exec(b.ctx, "INSERT INTO ledger VALUES (-1)") }()
	b.do(b.node.Start(b.ctx))
	b.do(b.node.Join(b.ctx, b.primary.Conninfo()))
	s := b.await("the source is refused", func(s rig.Status) bool { return s.Source.State == "sealed" && s.Source.Error != "" })
	if s.Seal == nil || *s.Seal != seal {
		t.Errorf("the status has the seal %+v, want %+v", s.Seal, seal)
	}
	for _, piece := range []string{"TLI 1", "sealed with the end " + seal.End.String(), "set the source to the server that took over"} {
		if !strings.Contains(s.Source.Error, piece) {
			t.Errorf("the refusal does not name %q: %s", piece, s.Source.Error)
		}
	}
	b.hangs(b.primary, "INSERT INTO ledger VALUES (-2)")
	select {
	case err := <-answered:
		t.Errorf("a commit on the sealed primary was answered: %v", err)
	default:
	}
	if again, err := b.node.Seal(b.ctx); err != nil || again != seal {
		t.Errorf("sealed again by the node with the empty disk: %+v (%v), want %+v", again, err, seal)
	}
	b.do(b.primary.Kill())
	if err := <-answered; err == nil {
		t.Error("a commit on the sealed primary was acknowledged")
	}
	_ = client.Close(b.ctx) // its server is gone
}

// F16: two children of a sealed TLI die, one that no node ever saw, and one that
// had committed nothing. Each time the node's disk is lost, too.
func TestChildThatDiesIsRestoredFromObjectStorageAlone(t *testing.T) {
	url := newStoreURL(t)
	b := newStoredBench(t, url, "")
	b.fill(b.primary, 1)
	b.do(b.primary.Kill())
	seal, err := b.node.Seal(b.ctx)
	b.do(err)
	b.await("the tail is stored", func(s rig.Status) bool { return s.Backup.Partial != nil && s.Backup.Partial.End >= seal.End })
	b.loseNode()

	// Object storage alone cannot be certain that no TLI 2 was followed: --accept-data-loss takes its word for that.
	unseen := b.restore(storeCommand(url, "--accept-data-loss"), nil)
	b.do(unseen.Kill())
	child := b.restore(storeCommand(url, "--accept-data-loss"), map[string]string{"synchronous_standby_names": rig.NodeID})
	if fork := b.fork(child, 2); fork != seal.End {
		t.Errorf("fork %s, seal %s", fork, seal.End)
	}
	b.rejoins(child, 2)
	b.do(child.Kill())
	b.await("the child is stored", func(s rig.Status) bool { return s.Backup.Partial != nil && s.Backup.Partial.TLI == 2 })
	b.loseNode()

	b.primary = b.restore(storeCommand(url, "--accept-data-loss"), map[string]string{"synchronous_standby_names": rig.NodeID})
	b.has(b.primary)
	b.rejoins(b.primary, 3)
	b.commit(b.primary, 3)
	b.has(b.primary)
}

func (b *bench) loseNode() {
	b.t.Helper()
	b.do(b.node.Kill())
	b.do(b.node.DestroyDisk())
}

// rejoins starts the node with an empty disk, on a source.
func (b *bench) rejoins(s *pgserver.Server, tli pg.TLI) {
	b.t.Helper()
	b.do(b.node.Start(b.ctx))
	b.do(b.node.Join(b.ctx, s.Conninfo()))
	b.await(fmt.Sprintf("the node follows TLI %d", tli), func(s rig.Status) bool { return s.TLI == tli && s.Source.Connected })
}

// F6, where the two promotions are kept by two nodes: the same fork, equal
// histories, and only object storage that both know.
func TestSecondPromotionOnAnotherNodeIsRefused(t *testing.T) {
	url := newStoreURL(t)
	b := newStoredBench(t, url, "")
	b.commit(b.primary, 3)
	b.do(b.primary.Kill())
	_, err := b.node.Seal(b.ctx)
	b.do(err)
	first := b.restore(b.node.RestoreCommand(), map[string]string{"synchronous_standby_names": rig.NodeID})
	second := b.restore(b.node.RestoreCommand(), map[string]string{"synchronous_standby_names": "b"})
	if f, s := b.history(first, 2), b.history(second, 2); f != s {
		t.Fatalf("the histories differ: %q, %q", f, s)
	}
	b.follow(first, 2)
	b.commit(first, 3)

	other := b.anotherNode("b", url, "")
	b.explains("its source was promoted a second time", rig.Refused.Message.String(), "belongs to another promotion")
	b.do(other.Join(b.ctx, second.Conninfo()))
	b.refusedBy(other, "TLI 2 belongs to another promotion", "node "+rig.NodeID, "first record")
	b.hangs(second, "INSERT INTO ledger VALUES (-1)")
	b.do(other.Kill())
	b.do(other.Start(b.ctx))
	b.refusedBy(other, "TLI 2 belongs to another promotion")
	b.hangs(second, "INSERT INTO ledger VALUES (-2)")

	b.do(other.Kill())
	b.do(other.DestroyDisk()) // as the text says
	b.do(other.Start(b.ctx))
	b.do(other.Join(b.ctx, first.Conninfo()))
	b.awaitValue(first, "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'b' AND flush_lsn IS NOT NULL", "1")
	b.do(first.Configure(b.ctx, map[string]string{"synchronous_standby_names": "ANY 2 (" + rig.NodeID + ", b)"}))
	b.commit(first, 3)
	b.has(first)
}

func (b *bench) history(s *pgserver.Server, tli pg.TLI) string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.Dir(), "pg_wal", pg.HistoryName(tli)))
	b.do(err)
	return string(text)
}

// refusedBy waits until a node refuses its source, and holds the reason against
// the pieces that it has to name.
func (b *bench) refusedBy(n *rig.Node, pieces ...string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	s, err := n.AwaitStatus(ctx, "the source is refused", func(s rig.Status) bool { return s.Source.State == "refused" })
	b.do(err)
	for _, piece := range pieces {
		if !strings.Contains(s.Source.Error, piece) {
			b.t.Errorf("the refusal does not name %q: %s", piece, s.Source.Error)
		}
	}
}

// O1: two nodes create one timeline at once; O3: and a configuration file does not
// bring it back when it is deleted, not on the disk of a third node either.
func TestTwoNodesCreateOneTimelineAndNoFileBringsItBack(t *testing.T) {
	url := newStoreURL(t)
	b := newEmptyBench(t)
	b.explains("the primary waits for nobody at first", "^whether commits of the source wait")
	b.explains("one of them was later", "another node has begun this timeline")
	b.primary = b.newCluster(pgserver.Options{SegmentSizeMiB: segmentMiB})
	b.do(b.primary.Exec(b.ctx, "CREATE TABLE ledger (id int PRIMARY KEY, note text)"))
	nodes := []*rig.Node{b.anotherNode("a", url, ""), b.anotherNode("b", url, "")}
	b.joinAtOnce(nodes)
	b.do(b.primary.Configure(b.ctx, map[string]string{"synchronous_standby_names": "ANY 2 (a, b)"}))
	b.fill(b.primary, 2)

	_, err := nodes[0].Must(b.ctx, "timeline", "delete", rig.Timeline)
	b.do(err)
	b.hangs(b.primary, "INSERT INTO ledger VALUES (-1)")
	b.explains("it is deleted", "^timeline of the configuration file cannot be used: .*deleted")
	third := b.anotherNode("c", url, fmt.Sprintf("timelines: [{name: %s, source: %q}]", rig.Timeline, b.primary.Conninfo()))
	if code, body, err := third.Get(b.ctx, "/v1/tenants/acme/timelines/main"); err != nil || code != http.StatusNotFound {
		t.Errorf("the file of a third node brought the timeline back: %d (%v): %s", code, err, body)
	}
	b.awaitValue(b.primary, "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'c'", "0")
}

// joinAtOnce creates the timeline on all nodes at the same time, and waits until
// each streams, as one life.
func (b *bench) joinAtOnce(nodes []*rig.Node) {
	b.t.Helper()
	created := make(chan error, len(nodes))
	for _, n := range nodes {
		go func() { created <- n.Join(b.ctx, b.primary.Conninfo()) }()
	}
	for range nodes {
		b.do(<-created)
	}
	lives := map[string]bool{}
	for _, n := range nodes {
		s, err := n.AwaitStatus(b.ctx, "the node streams", func(s rig.Status) bool { return s.Source.Connected && s.FlushLSN > 0 })
		b.do(err)
		lives[s.Incarnation] = true
	}
	if len(lives) != 1 {
		b.t.Errorf("the nodes keep different lives: %v", lives)
	}
}
