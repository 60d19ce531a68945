package observe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// patience is how long anything here may take that has to happen by itself at once.
const patience = time.Minute

// world is nodes, and sources whose commits wait for them.
type world struct {
	t       testing.TB
	ctx     context.Context // the test's own
	dir     string
	s3      *rig.S3
	config  string // YAML that every node has
	nodes   []*rig.Node
	sources map[string]*pgserver.Server // by the timeline's name, without the tenant
}

// tenant is the one that there is.
const tenant = "acme"

func newWorld(t testing.TB) *world {
	t.Helper()
	return &world{t: t, ctx: t.Context(), dir: rig.TempDir(t), sources: map[string]*pgserver.Server{}}
}

// do ends the test at an error.
func (w *world) do(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// await waits until something is so.
func (w *world) await(what string, so func(context.Context) bool) {
	w.t.Helper()
	w.awaitFor(patience, what, so)
}

func (w *world) awaitFor(atMost time.Duration, what string, so func(context.Context) bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, atMost)
	defer cancel()
	if err := rig.Poll(ctx, 50*time.Millisecond, func() (bool, error) { return so(ctx), nil }); err != nil {
		w.t.Fatalf("not so: %s: %v", what, err)
	}
}

// addNode starts a node.
func (w *world) addNode(id string) *rig.Node {
	w.t.Helper()
	w.do(os.MkdirAll(w.faults(id), 0o755))
	opts := rig.NodeOptions{
		Binary: program, ID: id, Config: w.config, PartialInterval: "5s",
		Env: append(rig.S3Env(), "SLUICE_FAULTS="+w.faults(id)),
	}
	if w.s3 != nil {
		opts.Store = w.s3.URL()
	}
	n, err := rig.NewNode(w.t, opts)
	w.do(err)
	w.do(n.Start(w.ctx))
	w.nodes = append(w.nodes, n)
	return n
}

func (w *world) faults(node string) string { return filepath.Join(w.dir, "faults-"+node) }

// switchOn lets a fault begin, on one node and one timeline; what the file says depends on the fault.
func (w *world) switchOn(node *rig.Node, timeline, fault, text string) error {
	file := filepath.Join(w.faults(node.ID()), tenant, timeline, fault)
	return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644))
}

// switchOff ends it.
func (w *world) switchOff(node *rig.Node, timeline, fault string) error {
	return os.Remove(filepath.Join(w.faults(node.ID()), tenant, timeline, fault))
}

// startSource starts a PostgreSQL with segments of 1 MiB.
func (w *world) startSource(name string) *pgserver.Server {
	w.t.Helper()
	s, err := pgserver.Start(w.ctx, pgserver.Options{
		Dir: filepath.Join(w.dir, "pg-"+name), SegmentSizeMiB: 1,
		Config: map[string]string{"autovacuum": "off", "max_wal_senders": "12", "wal_keep_size": "128MB", "shared_buffers": "16MB"},
	})
	w.do(err)
	w.t.Cleanup(func() {
		if err := s.Kill(); err != nil {
			w.t.Error(err)
		}
	})
	return s
}

// addSource starts a PostgreSQL of which every node keeps the timeline. Its commits wait for all nodes but one, or for the only
// one.
func (w *world) addSource(timeline string) {
	w.t.Helper()
	s := w.startSource(timeline)
	w.sources[timeline] = s
	w.do(s.Exec(w.ctx, "CREATE TABLE ledger (id bigserial PRIMARY KEY, note text)"))
	var ids []string
	for _, n := range w.nodes {
		_, err := n.Must(w.ctx, "timeline", "create", tenant+"/"+timeline, "--source", s.Conninfo())
		w.do(err)
		ids = append(ids, n.ID())
	}
	w.streams(timeline)
	w.do(s.Configure(w.ctx, map[string]string{"synchronous_standby_names": fmt.Sprintf("ANY %d (%s)", max(1, len(ids)-1), strings.Join(ids, ", "))}))
}

// streams waits until every node streams a timeline.
func (w *world) streams(timeline string) {
	w.t.Helper()
	w.await("all nodes stream "+timeline, func(ctx context.Context) bool {
		n, err := w.sources[timeline].Value(ctx, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")
		return err == nil && n == fmt.Sprint(len(w.nodes))
	})
}

// allStream waits until all nodes stream all timelines.
func (w *world) allStream() {
	w.t.Helper()
	for timeline := range w.sources {
		w.streams(timeline)
	}
}

// firstSegment returns the oldest whole segment that a node has of a timeline.
func (w *world) firstSegment(n *rig.Node, timeline string) (name string) {
	w.t.Helper()
	dir := filepath.Join(n.DataDir(), "tenants", tenant, "timelines", timeline, "wal")
	w.await("there is a whole segment in "+dir, func(context.Context) bool {
		entries, err := os.ReadDir(dir)
		i := slices.IndexFunc(entries, func(e os.DirEntry) bool { return len(e.Name()) == 24 })
		if err != nil || i < 0 {
			return false
		}
		name = entries[i].Name()
		return true
	})
	return name
}

// download reads a segment from a node until that ends, or the test does.
func (w *world) download(n *rig.Node, timeline, segment string) (ended <-chan struct{}) {
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(w.ctx)
	go func() {
		defer close(done)
		_, _, _ = n.Get(ctx, "/v1/tenants/"+tenant+"/timelines/"+timeline+"/wal/"+segment) // it is cut off, or comes late
	}()
	w.t.Cleanup(func() { cancel(); <-done })
	return done
}

// readHangs says whether a reader is inside a timeline whose read of the disk hangs. Inside alone is not enough: one that asks
// object storage first would leave at once when the node stops.
func (w *world) readHangs(ctx context.Context, n *rig.Node, timeline string) bool {
	says := func(path, word string) bool {
		status, body, err := n.Get(ctx, path)
		return err == nil && status == http.StatusOK && strings.Contains(string(body), word)
	}
	return says("/v1/tenants/"+tenant+"/timelines/"+timeline, `"name":"wal_download"`) && says("/v1/goroutines", "keeper.hangingFile.ReadAt")
}
