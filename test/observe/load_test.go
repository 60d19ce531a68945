package observe

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// sessions is how many commit at once, on each source.
const sessions = 3

// load commits on every source, as that of the durability test does: single rows mostly, now and then many, and now and then a
// record of a megabyte. It goes at a walking pace, since what is looked at are alerts.
type load struct {
	stop    context.CancelFunc
	done    sync.WaitGroup
	commits atomic.Int64
}

func (w *world) startLoad() *load {
	ctx, cancel := context.WithCancel(w.ctx)
	l := &load{stop: cancel}
	for _, s := range w.sources {
		for range sessions {
			l.done.Go(func() { l.client(ctx, s) })
		}
	}
	w.t.Cleanup(l.end)
	return l
}

// end cuts all sessions off and waits for them.
func (l *load) end() {
	l.stop()
	l.done.Wait()
}

// client commits on one connection after the other: a source may be silent.
func (l *load) client(ctx context.Context, s *pgserver.Server) {
	for ctx.Err() == nil {
		if c, err := s.Connect(ctx); err == nil {
			l.session(ctx, c)
			_ = c.Close(ctx) // broken, or cut off: both are fine here
		}
		pause(ctx, time.Second)
	}
}

func (l *load) session(ctx context.Context, c *pgserver.Conn) {
	for ctx.Err() == nil {
		rows, padding := 1, 2_000
		switch rand.IntN(100) {
		case 0:
			padding = 1 << 20
		case 1, 2, 3, 4:
			rows = 20 + rand.IntN(130)
		}
		sql := fmt.Sprintf("INSERT INTO ledger (note) SELECT 'row ' || n FROM generate_series(1, %d) AS n; SELECT pg_logical_emit_message(true, 'padding', repeat('x', %d))", rows, padding)
		if c.Exec(ctx, sql) != nil {
			return
		}
		l.commits.Add(1)
		pause(ctx, time.Duration(rand.IntN(200))*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

// restartAll restarts one node after the other, as an upgrade does, under load.
func (w *world) restartAll(each func(*rig.Node)) {
	w.t.Helper()
	for _, n := range w.nodes {
		w.restart(n)
		each(n)
	}
}

func (w *world) restart(n *rig.Node) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	w.do(n.Stop(ctx))
	w.do(n.Start(ctx))
	w.allStream()
}
