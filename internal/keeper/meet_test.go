package keeper

import (
	"context"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/replication"
)

// refusing is a source that refuses every connection.
const refusing = "host=127.0.0.1 port=1 user=u sslmode=disable"

// counting counts what object storage is asked.
func counting(asked *atomic.Int64) func(*Config) {
	return func(c *Config) {
		c.Store.Backup.Events.Operation = func(context.Context, backup.Operation) { asked.Add(1) }
	}
}

// TestSourceThatRefusesMakesNobodyAsk object storage before each attempt: once behind the first, and then seldom, whether something
// is held or not.
func TestSourceThatRefusesMakesNobodyAsk(t *testing.T) {
	for name, holds := range map[string]bool{"an empty timeline": false, "one that holds WAL": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int64
				k := newHome(t).start(t, with(objects(t)), counting(&asked))
				must(t, k.CreateTimeline(t.Context(), main1, "", false))
				m := member(t, k, main1)
				if holds {
					receive(t, m, source(start+mib+1000), start+mib+1000)
					time.Sleep(time.Minute) // it is uploaded
				}
				must(t, m.SetSource(t.Context(), refusing, false))
				time.Sleep(time.Minute)
				before, tries := asked.Load(), taskOf(m, "receive").Restarts
				time.Sleep(meetEvery - 2*time.Minute)
				if n := asked.Load() - before; n != 0 {
					t.Errorf("asked %d times", n)
				}
				if n := taskOf(m, "receive").Restarts - tries; n < 30 {
					t.Errorf("the source was tried %d times", n)
				}
				time.Sleep(2 * time.Minute)
				if asked.Load() == before {
					t.Error("object storage is never asked again")
				}
				stop(t, k)
			})
		})
	}
}

// TestEndIsNoticedWhileTheSourceIsAway (D1): nobody uploads any more, and nothing is received.
func TestEndIsNoticedWhileTheSourceIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTwo(t)
		must(t, n.mB(t).SetSource(t.Context(), refusing, false))
		time.Sleep(time.Second)
		must(t, n.a.DeleteTimeline(t.Context(), main1, false))
		time.Sleep(meetEvery + 10*time.Second)
		n.wantEnded(t, start+mib+1000)
	})
}

// TestEmptyDiskMeetsWhileTheSourceIsAway: it has to hand back what object storage has, now that the source is gone.
func TestEmptyDiskMeetsWhileTheSourceIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTwo(t)
		k := newHome(t).start(t, with(n.dir), onNode("c"))
		must(t, k.CreateTimeline(t.Context(), main1, refusing, false))
		time.Sleep(time.Second)
		if m := member(t, k, main1); m.Control().Incarnation != n.life || m.Backup().LSN != start+mib {
			t.Errorf("it is %+v", m.Control())
		}
		stop(t, k)
	})
}

// TestSessionsTakeTurns, which are the node's: while all are taken, a timeline does not connect, and says so.
func TestSessionsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newHome(t).start(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for ctx.Err() == nil { // until one would have to wait
			_, _ = k.turns.Take(ctx, func() func() { cancel(); return func() {} })
		}
		must(t, k.CreateTimeline(t.Context(), main1, refusing, false))
		synctest.Wait()
		m := member(t, k, main1)
		if s := m.Status().Source; s.WaitsFor != string(replication.WaitsForTurn) || s.Error != "" {
			t.Errorf("the source is %+v", s)
		}
		time.Sleep(time.Second)
		if s := m.Status().Source; s.WaitsFor != "" || s.Error == "" {
			t.Errorf("a second later the source is %+v", s)
		}
		stop(t, k)
	})
}

// TestStatusSaysWhyNoSessionBegins: the source has answered, and object storage has not.
func TestStatusSaysWhyNoSessionBegins(t *testing.T) {
	dir := objects(t)
	must(t, os.WriteFile(dir, nil, 0o600)) // it cannot be used
	k := newHome(t).start(t, with(dir))
	s := &mute{application: "a"}
	must(t, k.CreateTimeline(t.Context(), main1, s.listen(t), false))
	m := member(t, k, main1)
	waitUntil(t, 20*time.Second, "said", func() bool {
		return strings.Contains(m.Status().Source.Error, "nothing is acknowledged before object storage has told")
	})
	if s.slot.Load() {
		t.Error("a slot was made on a source that nothing is received from")
	}
	stop(t, k)
}
