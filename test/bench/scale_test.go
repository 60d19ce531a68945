package bench

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluicewal/sluice/test/rig"
)

// TestScale measures what a timeline costs whose source is not there: the node
// keeps many, and is measured after a restart, so that nothing of their creation
// is counted.
func TestScale(t *testing.T) {
	asked(t, "scale")
	f := &field{t: t, ctx: t.Context(), program: build(t)}
	n := f.node()
	ctx, cancel := context.WithTimeout(f.ctx, 20*time.Minute)
	defer cancel()
	createMany(ctx, t, n, 1, 1)
	none := f.settled(ctx, n)
	begun := time.Now()
	createMany(ctx, t, n, 2, *many)
	t.Logf("%d timelines created in %s", *many, time.Since(begun).Round(time.Millisecond))
	begun = time.Now()
	all := f.settled(ctx, n)
	t.Logf("restarted and settled in %s", time.Since(begun).Round(time.Millisecond))

	before, err := usageOf(n.PID())
	must(t, err)
	begun = time.Now()
	<-time.After(*idleFor)
	after, err := usageOf(n.PID())
	must(t, err)
	took := time.Since(begun)
	t.Logf("%d timelines without a source: %.1f KiB resident each (%d MiB with one, %d MiB with all); %.2f %% of a core over %s",
		*many, float64(all-none)/float64(*many-1)/1024, none>>20, all>>20, 100*after.since(before).cpu.Seconds()/took.Seconds(), took.Round(time.Second))
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

// createMany creates timelines from the first to the last, several at once; their
// source is a port where nobody listens.
func createMany(ctx context.Context, t *testing.T, n *rig.Node, first, last int) {
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
				if err := createByHTTP(ctx, n.URL(), fmt.Sprintf("t%d", i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	must(t, group.Wait())
}

func createByHTTP(ctx context.Context, url, name string) error {
	const body = `{"source":"host=127.0.0.1 port=1 user=sluice"}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url+"/v1/tenants/acme/timelines/"+name+"?new=1", bytes.NewReader([]byte(body)))
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

// settled restarts the node and returns what is resident once its backoffs have
// grown.
func (f *field) settled(ctx context.Context, n *rig.Node) int64 {
	f.t.Helper()
	must(f.t, n.Stop(ctx))
	must(f.t, n.Start(ctx))
	<-time.After(*idleFor)
	rss, err := resident(n.PID())
	must(f.t, err)
	return rss
}
