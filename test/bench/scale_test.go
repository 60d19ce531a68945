package bench

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluicewal/sluice/test/rig"
)

// TestScale measures a node that keeps no timeline, and one that keeps many: first
// connected to sources that have nothing to say, then, its disk replaced, found in
// object storage and without a source.
func TestScale(t *testing.T) {
	asked(t, "scale")
	f := &field{t: t, ctx: t.Context(), dir: rig.TempDir(t), program: build(t)}
	objects := filepath.Join(f.dir, "objects")
	n := f.nodeWith(rig.NodeOptions{Store: "file://" + objects, Config: fmt.Sprintf("telemetry: {pprof: %t}", *profiles != "")})
	ctx, cancel := context.WithTimeout(f.ctx, time.Hour+4**settle+4**idleFor)
	defer cancel()

	none := f.restarted(ctx, n, 0, "")
	f.idle(n, 0, "at all", 0)
	if *sourceless {
		storeMany(ctx, t, objects, *many)
	} else {
		f.scaleConnected(ctx, n)
	}
	f.scaleWithoutSource(ctx, n, none)
}

// scaleConnected measures timelines with a source, and leaves them in object storage.
func (f *field) scaleConnected(ctx context.Context, n *rig.Node) {
	f.t.Helper()
	source := newIdleSource(f.t)
	createMany(ctx, f.t, n, source, 1, 1)
	one := f.restarted(ctx, n, 1, "connected")
	begun := time.Now()
	createMany(ctx, f.t, n, source, 2, *many)
	f.t.Logf("%d timelines created in %s", *many, time.Since(begun).Round(time.Millisecond))
	f.idle(n, *many-1, "connected, beside one", f.restarted(ctx, n, *many, "connected")-one)
	must(f.t, n.Stop(ctx))
	must(f.t, n.DestroyDisk())
	must(f.t, n.Start(ctx))
}

// scaleWithoutSource measures the timelines that object storage has.
func (f *field) scaleWithoutSource(ctx context.Context, n *rig.Node, none int64) {
	f.t.Helper()
	t := f.t
	begun := time.Now()
	_, err := n.Must(ctx, "tenant", "mode", "acme", "attached")
	must(t, err)
	t.Logf("%d timelines found in object storage in %s", *many, time.Since(begun).Round(time.Millisecond))
	f.idle(n, *many, "without a source", f.restarted(ctx, n, *many, "")-none)
	for _, path := range []string{"/metrics", "/metrics/timelines"} {
		begun = time.Now()
		_, body, err := n.Get(ctx, path)
		must(t, err)
		t.Logf("%s: %d KiB in %s", path, len(body)>>10, time.Since(begun).Round(time.Millisecond))
	}
	begun = time.Now()
	must(t, n.Stop(ctx))
	t.Logf("stopped in %s", time.Since(begun).Round(time.Millisecond))
}

// restarted starts the node again, so that nothing of what was before is counted,
// and returns what is resident once all of its timelines' sources are in a state.
func (f *field) restarted(ctx context.Context, n *rig.Node, timelines int, state string) int64 {
	f.t.Helper()
	must(f.t, n.Stop(ctx))
	must(f.t, n.Start(ctx))
	want := regexp.MustCompile(`(?m)^sluice_timeline_state{.*state="running".*} 1$`)
	if state == "connected" {
		want = regexp.MustCompile(`(?m)^sluice_timeline_source_connected{.*} 1$`)
	}
	must(f.t, rig.Poll(ctx, time.Second, func() (bool, error) {
		_, body, err := n.Get(ctx, "/metrics")
		return len(want.FindAll(body, -1)) == timelines, err
	}))
	<-time.After(cmp.Or(*settle, *idleFor))
	rss, err := resident(n.PID())
	must(f.t, err)
	return rss
}

// idle logs what timelines are resident with, and what the processor has to do
// for the node.
func (f *field) idle(n *rig.Node, timelines int, what string, bytes int64) {
	f.t.Helper()
	before, err := usageOf(n.PID())
	must(f.t, err)
	begun := time.Now()
	<-time.After(*idleFor)
	after, err := usageOf(n.PID())
	must(f.t, err)
	took := time.Since(begun)
	used := after.since(before)
	f.t.Logf("%d timelines %s: %.1f KiB resident each; %.3f %% of a core and %.1f switches a second over %s", timelines, what,
		float64(bytes)/float64(max(timelines, 1))/1024, 100*used.cpu.Seconds()/took.Seconds(),
		float64(used.switches)/took.Seconds(), took.Round(time.Second))
	if *profiles != "" {
		f.profile(n, fmt.Sprintf("%d %s", timelines, what))
	}
}

// profile keeps what the node does for as long as was measured, and what it has on the heap.
func (f *field) profile(n *rig.Node, what string) {
	f.t.Helper()
	must(f.t, os.MkdirAll(*profiles, 0o755))
	for kind, path := range map[string]string{"cpu": fmt.Sprintf("profile?seconds=%.0f", idleFor.Seconds()), "heap": "heap?gc=1"} {
		_, body, err := n.Get(f.ctx, "/debug/pprof/"+path)
		must(f.t, err)
		name := strings.ReplaceAll(what, " ", "-") + "." + kind + ".pb.gz"
		must(f.t, os.WriteFile(filepath.Join(*profiles, name), body, 0o644))
	}
}

// createMany creates timelines from the first to the last, several at once.
func createMany(ctx context.Context, t *testing.T, n *rig.Node, source *idleSource, first, last int) {
	t.Helper()
	if !n.Running() {
		must(t, n.Start(ctx))
	}
	var next atomic.Int64
	next.Store(int64(first))
	var group errgroup.Group
	for range 16 {
		group.Go(func() error {
			for i := next.Add(1) - 1; i <= int64(last); i = next.Add(1) - 1 {
				if err := createByHTTP(ctx, n.URL(), fmt.Sprintf("t%d", i), source.conninfo(int(i))); err != nil {
					return err
				}
			}
			return nil
		})
	}
	must(t, group.Wait())
}

func createByHTTP(ctx context.Context, url, name, source string) error {
	body := fmt.Sprintf(`{"source":%q}`, source)
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url+"/v1/tenants/acme/timelines/"+name+"?new=1", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("create %s: %s", name, resp.Status)
	}
	return nil
}
