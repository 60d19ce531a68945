package keeper

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/timeline"
)

// two are nodes that keep one timeline and hear nothing of each other: they meet in object storage alone. Both hold and have
// uploaded a segment.
type two struct {
	dir   string
	homeB *home
	a, b  *Keeper
	wal   *pgtest.Writer
	by    string // who deletes; "": a
	life  timeline.Incarnation
}

func newTwo(t *testing.T) *two {
	t.Helper()
	n := &two{dir: objects(t), homeB: newHome(t), wal: source(start + 8*mib)}
	n.a = newHome(t).start(t, with(n.dir))
	n.startB(t)
	receive(t, create(t, n.a, main1), n.wal, start+mib+1000)
	time.Sleep(time.Minute) // it is uploaded
	must(t, create(t, n.b, main1).meet(t.Context()))
	n.receiveB(t, start+mib+1000)
	time.Sleep(time.Minute)
	n.life = n.mB(t).Control().Incarnation
	if n.life != member(t, n.a, main1).Control().Incarnation || n.mB(t).Backup().LSN != start+mib {
		t.Fatalf("on b it is %+v", n.mB(t).Control())
	}
	return n
}

func (n *two) startB(t *testing.T) {
	t.Helper()
	n.b = n.homeB.start(t, with(n.dir), onNode("b"), retaining)
}

// retaining lets a node keep the WAL of these tests.
func retaining(c *Config) { c.Retain = 1 << 30 }

func (n *two) mB(t *testing.T) *Member { t.Helper(); return member(t, n.b, main1) }

func (n *two) receiveB(t *testing.T, to pg.LSN) { t.Helper(); receive(t, n.mB(t), n.wal, to) }

// wantEnded: b says that the life has ended, and what to do; it does nothing for it, and has what it held.
func (n *two) wantEnded(t *testing.T, held pg.LSN) {
	t.Helper()
	m := n.mB(t)
	state, why := m.State()
	if state != timeline.StateStopped || !errors.Is(why, timeline.ErrEnded) {
		t.Fatalf("it is %s: %v", state, why)
	}
	s := m.Status()
	for _, word := range []string{"node " + cmp.Or(n.by, "a") + " deleted it", "sluice timeline delete acme/main", held.String()} {
		if !strings.Contains(s.Reason, word) {
			t.Errorf("the reason lacks %q: %s", word, s.Reason)
		}
	}
	if s.Source.State != sourceEnded || s.FlushLSN != held || s.Incarnation != string(n.life) || s.Operation != nil {
		t.Errorf("its status is %+v", s)
	}
	if _, err := m.Enter(t.Context(), holderRequest); !errors.Is(err, timeline.ErrEnded) {
		t.Errorf("somebody gets in: %v", err)
	}
	if err := n.b.CreateTimeline(t.Context(), main1, "", false); !errors.Is(err, ErrExists) || !errors.Is(err, timeline.ErrEnded) {
		t.Errorf("made again beside what is held: %v", err)
	}
	all := n.homeB.entries(t, "tenants", "acme", "timelines", "main", "wal")
	for no := seg.SegNo(start); no <= seg.SegNo(held-1); no++ {
		if name := pg.SegmentName(1, no, seg); !slices.ContainsFunc(all, func(file string) bool { return strings.HasPrefix(file, name) }) {
			t.Errorf("%s is not on its disk any more: %q", name, all)
		}
	}
}

// TestDeletionElsewhereIsNoticed (D1, D7) by the next upload: nothing of the old life is in object storage after it, what this node
// holds stays until it is deleted here, and the next start agrees. Then the name is free for another life.
func TestDeletionElsewhereIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTwo(t)
		must(t, n.a.DeleteTimeline(t.Context(), main1, false))
		n.receiveB(t, start+4*mib+1000)
		time.Sleep(2 * aliveFor)
		n.wantEnded(t, start+4*mib+1000)
		wantTombstonesOnly(t, n.dir)

		stop(t, n.b)
		n.startB(t)
		n.wantEnded(t, start+4*mib+1000)
		must(t, n.b.DeleteTimeline(t.Context(), main1, false))
		if left := n.homeB.entries(t, "tenants", "acme", "timelines"); len(left) != 0 {
			t.Errorf("%q are left", left)
		}
		receive(t, create(t, n.b, main1), n.wal, start+mib)
		time.Sleep(time.Minute)
		if _, id := look(t, n.dir); id.Incarnation == string(n.life) || id.Incarnation != string(n.mB(t).Control().Incarnation) {
			t.Errorf("object storage has %+v", id)
		}
	})
}

// TestLateUploadsOfAnEndedLifeGoAgain: what came to object storage after the deletion, before the node looked.
func TestLateUploadsOfAnEndedLifeGoAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTwo(t)
		n.receiveB(t, start+2*mib+1000) // it looks
		time.Sleep(time.Second)
		must(t, n.a.DeleteTimeline(t.Context(), main1, false))
		n.receiveB(t, start+3*mib+1000)
		time.Sleep(time.Second)
		if left := filesBelow(t, filepath.Join(n.dir, "acme", "main", string(n.life))); len(left) < 2 {
			t.Fatalf("nothing was uploaded in the moment in which it need not ask: %q", left)
		}
		time.Sleep(2 * aliveFor)
		n.receiveB(t, start+3*mib+2000)
		time.Sleep(time.Second)
		n.wantEnded(t, start+3*mib+2000)
		wantTombstonesOnly(t, n.dir)
	})
}

// TestLateUploadsLetNoWALGo, where a node keeps as little as it may: what came to object storage after the deletion is not there.
func TestLateUploadsLetNoWALGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTwo(t)
		stop(t, n.b)
		n.b = n.homeB.start(t, with(n.dir), onNode("b"))
		n.receiveB(t, start+2*mib+1000)
		time.Sleep(time.Second)
		must(t, n.a.DeleteTimeline(t.Context(), main1, false))
		n.receiveB(t, start+5*mib+1000)
		time.Sleep(2 * time.Second)
		all := n.homeB.entries(t, "tenants", "acme", "timelines", "main", "wal")
		for no := pg.SegNo(3); no <= 5; no++ {
			if !slices.Contains(all, pg.SegmentName(1, no, seg)) {
				t.Errorf("segment %d, which came after the deletion, is not here: %q", no, all)
			}
		}
		if got := state(n.mB(t)); got != timeline.StateStopped {
			t.Errorf("it is %s", got)
		}
		wantTombstonesOnly(t, n.dir)
	})
}

// TestDeletionElsewhereIsNoticedDuringALongUpload, which may last for hours: no segment begins after it.
func TestDeletionElsewhereIsNoticedDuringALongUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTwo(t)
		stop(t, n.b)
		store := &slow{}
		n.b = n.homeB.start(t, store.config(n.dir), onNode("b"), retaining)
		store.takes.Store(int64(4 * time.Second))
		n.receiveB(t, start+7*mib)
		time.Sleep(20 * time.Second)
		must(t, n.a.DeleteTimeline(t.Context(), main1, false))
		time.Sleep(aliveFor + 30*time.Second)
		store.takes.Store(0)
		n.wantEnded(t, start+7*mib)
		if at := n.mB(t).Backup().LSN; at >= start+7*mib {
			t.Errorf("it was uploaded up to %s", at)
		}
		time.Sleep(time.Minute)
		wantTombstonesOnly(t, n.dir)
	})
}

// TestDeletionElsewhereIsNoticedBeforeASession, by a node with nothing to upload.
func TestDeletionElsewhereIsNoticedBeforeASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTwo(t)
		must(t, n.a.DeleteTimeline(t.Context(), main1, false))
		if err := n.mB(t).meet(t.Context()); !errors.Is(err, timeline.ErrEnded) {
			t.Errorf("a session may begin: %v", err)
		}
		synctest.Wait()
		n.wantEnded(t, start+mib+1000)
	})
}

// TestSealOfAnEndedLifeIsRefused: nobody would ever look for it.
func TestSealOfAnEndedLifeIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTwo(t)
		must(t, n.a.DeleteTimeline(t.Context(), main1, false))
		time.Sleep(aliveFor)
		if _, err := n.b.Seal(t.Context(), main1, true); !errors.Is(err, timeline.ErrEnded) {
			t.Errorf("sealed: %v", err)
		}
		time.Sleep(time.Minute)
		n.wantEnded(t, start+mib+1000)
		wantTombstonesOnly(t, n.dir)
	})
}

// TestEndedLifeGoesOn where its objects were kept, with what the node holds beyond them.
func TestEndedLifeGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTwo(t)
		must(t, n.a.DeleteTimeline(t.Context(), main1, true))
		n.receiveB(t, start+4*mib+1000)
		time.Sleep(2 * aliveFor)
		n.wantEnded(t, start+4*mib+1000)
		if s := n.mB(t).Status(); !strings.Contains(s.Reason, "sluice timeline create acme/main --incarnation "+string(n.life)) {
			t.Errorf("it does not say how it goes on: %s", s.Reason)
		}
		must(t, attach(n.a, string(n.life))) // the other node was faster
		must(t, attach(n.b, string(n.life)))
		n.receiveB(t, start+5*mib+1000)
		time.Sleep(time.Minute)
		if c := n.mB(t).Control(); state(n.mB(t)) != timeline.StateRunning || c.Ended != nil || c.Revived != 1 || n.mB(t).Backup().LSN != start+5*mib {
			t.Errorf("it is %s, %+v", state(n.mB(t)), c)
		}
		wantAll(t, n.b, n.dir, n.wal, start+5*mib+1000)
		stop(t, n.b)
		n.startB(t)
		if got := state(n.mB(t)); got != timeline.StateRunning {
			t.Errorf("after a restart it is %s", got)
		}
	})
}

// TestLifeThatCameBackGoesOn on a node that missed both, its deletion and its return.
func TestLifeThatCameBackGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTwo(t)
		must(t, n.a.DeleteTimeline(t.Context(), main1, true))
		must(t, attach(n.a, string(n.life)))
		time.Sleep(aliveFor)
		n.receiveB(t, start+4*mib+1000)
		time.Sleep(time.Minute)
		if c := n.mB(t).Control(); c.Revived != 1 || n.mB(t).Backup().LSN != start+4*mib {
			t.Errorf("it is %s, %+v", state(n.mB(t)), c)
		}
	})
}

// TestAnotherLifeIsNotTakenForTheOneThatWasMet: a node that holds nothing has met a life that was deleted since, and another has
// begun. It takes neither its positions nor its WAL, until somebody makes room for it; then it takes it over whole.
func TestAnotherLifeIsNotTakenForTheOneThatWasMet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTwo(t)
		c := newHome(t).start(t, with(n.dir), onNode("c"))
		m := meets(t, c)
		must(t, n.a.DeleteTimeline(t.Context(), main1, false))
		next := create(t, n.a, main1)
		receive(t, next, n.wal, start+3*mib+1000)
		time.Sleep(time.Minute)

		if err := m.meet(t.Context()); !errors.Is(err, timeline.ErrEnded) {
			t.Errorf("met: %v", err)
		}
		synctest.Wait()
		m = member(t, c, main1)
		if at := m.Held().Stored.LSN; m.Control().Incarnation != n.life || at != start+mib {
			t.Errorf("it is %s, with objects up to %s", m.Control().Incarnation, at)
		}
		if why := m.Status().Reason; !strings.Contains(why, string(next.Control().Incarnation)) {
			t.Errorf("it does not name the life that goes on: %s", why)
		}
		must(t, c.DeleteTimeline(t.Context(), main1, false))
		m = meets(t, c)
		if at := m.Held().Stored.LSN; m.Control().Incarnation != next.Control().Incarnation || at != start+3*mib {
			t.Errorf("made again it is %s, with objects up to %s", m.Control().Incarnation, at)
		}
		if _, id := look(t, n.dir); id.Incarnation != string(next.Control().Incarnation) {
			t.Errorf("object storage has %+v", id)
		}
	})
}

// TestWarmCopyOfAnEndedLifeStops, may be deleted, and makes room for the copy of the next life.
func TestWarmCopyOfAnEndedLifeStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTwo(t)
		setMode(t, n.b, timeline.ModeSecondary)
		time.Sleep(time.Minute)
		must(t, n.a.DeleteTimeline(t.Context(), main1, false))
		time.Sleep(time.Minute)
		n.wantEnded(t, start+mib+1000)
		receive(t, create(t, n.a, main1), n.wal, start+3*mib+1000)
		time.Sleep(time.Minute)
		must(t, n.b.DeleteTimeline(t.Context(), main1, false))
		time.Sleep(2 * lookEvery * defaultFollowInterval)
		if m := n.mB(t); m.Control().Incarnation == n.life || m.Log() == nil || m.Log().Flushed().LSN != start+3*mib {
			t.Errorf("it follows %+v", m.Control())
		}
	})
}

// TestDetachedTenantKeepsWhatHasEnded: its objects are gone, so that object storage has nothing of what is held.
func TestDetachedTenantKeepsWhatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTwo(t)
		must(t, n.a.DeleteTimeline(t.Context(), main1, false))
		time.Sleep(aliveFor)
		_ = n.mB(t).meet(t.Context())
		synctest.Wait()
		for _, mode := range []timeline.Mode{timeline.ModeDetached, timeline.ModeAttached} {
			setMode(t, n.b, mode)
		}
		n.wantEnded(t, start+mib+1000)
	})
}

// TestUploadsAskSeldomWhetherTheTimelineLives: not for each segment.
func TestUploadsAskSeldomWhetherTheTimelineLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		count := func(c *Config) {
			retaining(c)
			c.Store.PartialInterval = 48 * time.Hour
			c.Store.Backup.Events.Operation = func(_ context.Context, op backup.Operation) {
				if op.Name == "get" && op.Outcome == backup.NotFound { // of a tombstone: a segment is looked for with "head"
					asked.Add(1)
				}
			}
		}
		k := newHome(t).start(t, with(objects(t)), count)
		m := create(t, k, main1)
		w := source(start + 8*mib)
		receive(t, m, w, start+1000)
		time.Sleep(time.Minute)
		before := asked.Load()
		for n := range pg.LSN(6) { // one in five seconds
			receive(t, m, w, start+mib*(n+1)+1000)
			time.Sleep(5 * time.Second)
		}
		if got := asked.Load() - before; m.Backup().LSN != start+6*mib || got < 1 || got > 2 {
			t.Errorf("for segments up to %s it asked %d times", m.Backup().LSN, got)
		}
		before = asked.Load()
		time.Sleep(24 * time.Hour) // idle
		if got := asked.Load() - before; got > 1 {
			t.Errorf("idle, it asked %d times", got)
		}
	})
}

// TestEndThatACrashCutOff (D6) at any operation of the disk, or of object storage: the next look at object storage ends it, and
// nothing that is held is lost.
func TestEndThatACrashCutOff(t *testing.T) {
	w := source(start + 20_000)
	prepare := func(t *testing.T, s *crashSite) {
		m := create(t, s.k, main1)
		receive(t, m, w, w.End())
		backedUp(t, m, start, w.End())
		other := newHome(t).start(t, with(s.dir), onNode("other"))
		meets(t, other)
		must(t, other.DeleteTimeline(t.Context(), main1, false))
	}
	try := func(ctx context.Context, k *Keeper) error {
		m := member(t, k, main1)
		if err := m.meet(ctx); !errors.Is(err, timeline.ErrEnded) {
			return err
		}
		for {
			select {
			case <-k.ctx.Done():
				return context.Cause(k.ctx)
			case <-time.After(time.Millisecond):
			}
			if err := k.do(ctx, main1, opOpen, func(context.Context) error { return nil }); err != nil {
				return err // it waited for what is under way
			}
			if m := member(t, k, main1); m.Control().Ended != nil && state(m) == timeline.StateStopped {
				return nil
			}
		}
	}
	eachCrash(t, prepare, try, func(t *testing.T, s *crashSite) {
		must(t, try(t.Context(), s.k))
		n := &two{homeB: s.home, b: s.k, by: "other", life: member(t, s.k, main1).Control().Incarnation}
		n.wantEnded(t, w.End())
	})
}
