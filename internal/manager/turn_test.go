package manager

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/timeline"
)

// mesh is what a world's node hears of others: this node is a, the others are where it is.
type mesh struct {
	*world
	told  int       // how often the others were to be told at once; of the manager's goroutine
	since time.Time // since when they can be heard

	mu     sync.Mutex
	peers  map[string]*Peer // guarded by mu
	asking func()           // called before an answer is given, if set
}

func newMesh() *mesh {
	w := newWorld()
	w.state.Backup = timeline.Backup{Decided: true, LSN: 0x1000000, At: pg.Position{TLI: 1, LSN: 0x1000000}, Claimed: 1}
	w.state.BackupSaved, w.state.Oldest = w.state.Backup.At, w.state.Backup.At
	return &mesh{world: w, since: time.Now().Add(-time.Hour), peers: map[string]*Peer{}}
}

// says changes what a peer has said. The manager does not hear of it before PeersSaid.
func (w *mesh) says(name string, change func(*Peer)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.peers[name]
	if p == nil {
		p = &Peer{Candidate: Candidate{Node: name, CanUpload: true, Start: pg.Position{TLI: 1, LSN: 0x1000000}, End: pg.Position{TLI: 1, LSN: start0}}}
		w.peers[name] = p
	}
	p.Heard = time.Now()
	if change != nil {
		change(p)
	}
}

func (w *mesh) heard() Heard {
	if w.asking != nil {
		w.asking()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	h := Heard{Self: "a", Timeline: "x", CanUpload: true, Nodes: 3, Since: w.since}
	for _, name := range []string{"b", "c"} {
		if p := w.peers[name]; p != nil {
			h.Peers = append(h.Peers, *p)
		}
	}
	return h
}

func (w *mesh) config() Config {
	return Config{Backup: true, PartialInterval: time.Minute, Heard: w.heard, Tell: func() { w.told++ }}
}

func offloads(p *Peer) { p.Offloading = true }

// A peer says the same a thousand times, or what decides nothing: nobody is woken. What changes the turn wakes once.
func TestPeersWakeOnlyWithNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newMesh()
		w.says("b", offloads)
		w.says("c", nil)
		m, end := managed(t, w.world, bodies(nil), w.config())
		time.Sleep(10 * time.Second)
		before := m.Status().Iterations
		for i := range 1000 {
			w.says("b", func(p *Peer) { p.End.LSN += 8192 })
			w.says("c", func(p *Peer) { p.Stalled = time.Duration(i) })
			m.PeersSaid()
			synctest.Wait()
		}
		if n := m.Status().Iterations - before; n != 0 {
			t.Errorf("%d iterations for what decides nothing", n)
		}
		w.says("b", func(p *Peer) { p.Offloading = false })
		w.says("c", offloads)
		m.PeersSaid()
		synctest.Wait()
		if n := m.Iterations(timeline.ReasonPeerUpdate, true); n != 1 {
			t.Errorf("%d iterations for another's turn, want 1", n)
		}
		if turn := m.Turn(); turn.Node != "c" || turn.Mine {
			t.Errorf("the turn is %+v", turn)
		}
		mustEnd(t, end)
	})
}

// A peer that falls silent while this node plans by its last word: the manager looks once more.
func TestSilenceDuringAPlanIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newMesh()
		w.says("b", offloads)
		m, end := managed(t, w.world, bodies(nil), w.config())
		time.Sleep(2 * time.Second)
		var once sync.Once
		w.saving = func(context.Context) error {
			once.Do(func() { // in apply: the plan was made, and goes by what was said before
				w.says("b", func(p *Peer) { p.Offloading, p.CanUpload = false, false })
			})
			return nil
		}
		w.change(func(s *timeline.Snapshot) { s.FlushLSN, s.CommitLSN = 0x2000100, 0x2000100 }) // which is saved
		synctest.Wait()
		if turn := m.Turn(); !turn.Mine {
			t.Errorf("b gave its turn away, and it is %+v", turn)
		}
		mustEnd(t, end)
	})
}

// What another has brought to object storage is looked for as soon as it says so, and only then.
func TestPeersWordStartsALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newMesh()
		w.says("b", offloads)
		looked := 0
		m, end := managed(t, w.world, bodies(Bodies{Backup: func(context.Context) error { looked++; return nil }}), w.config())
		w.flush(0x3000100)
		synctest.Wait()
		if looked != 0 {
			t.Errorf("it looked %d times before anybody said anything", looked)
		}
		w.says("b", func(p *Peer) { p.Backup = pg.Position{TLI: 1, LSN: 0x2000000} })
		m.PeersSaid()
		synctest.Wait()
		if looked != 1 {
			t.Errorf("it looked %d times, want 1", looked)
		}
		mustEnd(t, end)
	})
}

// Each edge is told to the others at once: of being active, of the turn, and of the end.
func TestEdgesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newMesh()
		m, end := managed(t, w.world, bodies(nil), w.config())
		// Nobody is heard for an hour: the turn is ours; and the source is connected.
		if w.told != 2 || !m.Turn().Mine {
			t.Errorf("told %d times, want 2 (the turn, active); turn %+v", w.told, m.Turn())
		}
		w.says("b", func(p *Peer) { p.Offloading = true })
		mustEnd(t, end)
		if w.told != 3 || m.Turn().Mine {
			t.Errorf("told %d times with the end, want 3; turn %+v", w.told, m.Turn())
		}
	})
}

// membership records what a manager does with it.
type membership []string

func (m *membership) SetActive(active bool) bool {
	*m = append(*m, fmt.Sprint("active ", active))
	return true
}
func (m *membership) End() bool { *m = append(*m, "end"); return true }

// B1, B2: edges are real, and the membership ends with the manager.
func TestMembershipFollowsTheManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ms := newMesh(), &membership{}
		cfg := w.config()
		cfg.Membership = ms
		_, end := managed(t, w.world, bodies(nil), cfg)
		w.flush(0x3000100)
		synctest.Wait()
		mustEnd(t, end)
		if got := fmt.Sprint([]string(*ms)); got != "[active true active false end]" {
			t.Errorf("the membership saw %s", got)
		}
	})
}

// A node whose disk is full of WAL that nobody takes says for how long, and a source that rests does not count.
func TestStalledCountsFromWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newMesh()
		stuck := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		m, end := managed(t, w.world, bodies(Bodies{Backup: stuck}), w.config())
		time.Sleep(time.Hour)
		if s := m.Stalled(); s != 0 {
			t.Errorf("nothing waits, and it is stalled for %v", s)
		}
		w.flush(0x3000100)
		synctest.Wait()
		time.Sleep(30 * time.Second)
		if s := m.Stalled(); s != 30*time.Second {
			t.Errorf("stalled for %v, want 30s", s)
		}
		w.change(func(s *timeline.Snapshot) { s.Backup.Since = time.Now() })
		time.Sleep(time.Second)
		if s := m.Stalled(); s != time.Second {
			t.Errorf("stalled for %v after an upload, want 1s", s)
		}
		mustEnd(t, end)
	})
}
