package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/test/rig"
)

// idleTimelines is how many timelines are connected and have nothing to do.
const idleTimelines = 100

// TestIdle measures what a timeline costs that is connected and idle. The source
// is a fake: a PostgreSQL has one slot for a node, and so one timeline.
func TestIdle(t *testing.T) {
	asked(t, "idle")
	f := &field{t: t, ctx: t.Context(), program: build(t)}
	source := newIdleSource(t)
	n := f.node()
	ctx, cancel := context.WithTimeout(f.ctx, 2*time.Minute+2**idleFor)
	defer cancel()
	connect := func(first, last int) {
		for i := first; i < last; i++ {
			_, err := n.Must(ctx, "timeline", "create", fmt.Sprintf("acme/t%d", i), "--source", source.conninfo(i), "--new")
			must(t, err)
		}
		for i := first; i < last; i++ {
			must(t, f.await(ctx, n, fmt.Sprintf("t%d", i), func(s rig.Status) bool { return s.Source.Connected }))
		}
		<-time.After(*idleFor)
	}
	connect(0, 1) // what the first brings is not each one's
	before, err := resident(n.PID())
	must(t, err)
	connect(1, 1+idleTimelines)
	after, err := resident(n.PID())
	must(t, err)
	t.Logf("%d idle timelines, connected for %s: %d KiB resident each (%d MiB before, %d MiB after)",
		idleTimelines, *idleFor, (after-before)/idleTimelines>>10, before>>20, after>>20)
}

// await waits until a timeline's status is as wanted.
func (f *field) await(ctx context.Context, n *rig.Node, timeline string, wanted func(rig.Status) bool) error {
	return rig.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		_, body, err := n.Get(ctx, "/v1/tenants/acme/timelines/"+timeline)
		if err != nil {
			return false, err
		}
		var s rig.Status
		err = json.Unmarshal(body, &s)
		return wanted(s), err
	})
}

func (f *field) awaitFlush(ctx context.Context, n *rig.Node, timeline string, end pg.LSN) error {
	return f.await(ctx, n, timeline, func(s rig.Status) bool { return s.FlushLSN >= end })
}
