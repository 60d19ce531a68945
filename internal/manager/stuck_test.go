package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/tasks"
)

// party is three nodes that keep one timeline and tell each other once a second how they are. Object storage is one
// position, and each node has a way of its own to it.
type party struct {
	t        *testing.T
	timeline string
	worlds   map[string]*world
	ends     []func() error

	mu       sync.Mutex
	managers map[string]*Manager // guarded by mu
	cut      map[string]bool     // whose way to object storage is cut; guarded by mu
	stored   pg.LSN              // guarded by mu
	turns    []string            // who took the turn, in order; guarded by mu
}

// newParty starts the nodes, with a whole segment that waits for object storage.
func newParty(t *testing.T, timeline string, cut ...string) *party {
	t.Helper()
	p := &party{t: t, timeline: timeline, worlds: map[string]*world{}, managers: map[string]*Manager{}, cut: map[string]bool{}, stored: 0x1000000}
	for _, id := range cut {
		p.cut[id] = true
	}
	for _, id := range []string{"a", "b", "c"} {
		p.start(id)
	}
	go func() {
		for tick := time.Tick(time.Second); t.Context().Err() == nil; {
			select {
			case <-tick:
				p.tell()
			case <-t.Context().Done():
			}
		}
	}()
	return p
}

func (p *party) start(id string) {
	w := newMesh().world
	w.state.FlushLSN, w.state.CommitLSN = 0x2000100, 0x2000100
	m, end := managed(p.t, w, bodies(Bodies{Backup: func(ctx context.Context) error { return p.backup(ctx, id) }}), Config{
		Backup: true, PartialInterval: time.Hour, Heard: func() Heard { return p.heard(id) },
		Events: Events{OffloaderChanged: func(_ context.Context, c OffloaderChange) { p.changed(id, c) }},
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.worlds[id], p.managers[id] = w, m
	p.ends = append(p.ends, end)
}

func (p *party) changed(id string, c OffloaderChange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.Mine {
		p.turns = append(p.turns, id)
	}
}

func (p *party) tell() {
	for _, id := range []string{"a", "b", "c"} {
		p.managers[id].PeersSaid()
	}
}

// backup is the task: it uploads if it is the node's turn, and looks for what others have uploaded.
func (p *party) backup(ctx context.Context, id string) error {
	p.mu.Lock()
	m, w, cut := p.managers[id], p.worlds[id], p.cut[id]
	if !cut && m != nil && m.Turn().Mine {
		p.stored = w.Snapshot().FlushLSN &^ (1<<24 - 1)
	}
	stored := p.stored
	p.mu.Unlock()
	if cut || w == nil {
		return errors.New("object storage: connection refused")
	}
	tasks.Progress(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	if at := (pg.Position{TLI: 1, LSN: stored}); w.state.Backup.At != at {
		w.state.Backup.LSN, w.state.Backup.At, w.state.Backup.Since = stored, at, time.Now()
	}
	return nil
}

func (p *party) heard(self string) Heard {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := Heard{Self: self, Timeline: p.timeline, CanUpload: true, Nodes: 3, Since: time.Now().Add(-time.Second)}
	for _, id := range []string{"a", "b", "c"} {
		if m, w := p.managers[id], p.worlds[id]; m != nil && id != self {
			s := w.Snapshot()
			h.Peers = append(h.Peers, Peer{Backup: s.Backup.At, Candidate: Candidate{
				Node: id, Heard: time.Now(), Start: s.Oldest, End: pg.Position{TLI: 1, LSN: s.FlushLSN},
				CanUpload: true, Offloading: m.Turn().Mine, Stalled: m.Stalled(),
			}})
		}
	}
	return h
}

// repair mends a node's way to object storage.
func (p *party) repair(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.cut, id)
}

// state returns how far object storage is, and who took the turn.
func (p *party) state() (pg.LSN, []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stored, p.turns
}

func (p *party) end() {
	for _, end := range p.ends {
		mustEnd(p.t, end)
	}
}

// U6: whoever has the turn and cannot upload loses it to one that can, and does not take it back: neither in the moment in which
// nobody has said yet that it has it, nor from another that is cut off, too, nor when its way is mended.
func TestStuckNodesLetAnotherTry(t *testing.T) {
	for _, cut := range []string{"a", "b", "c", "ab", "bc", "ca"} {
		for i := range 4 { // in each of the timelines the nodes have another order
			t.Run(fmt.Sprint(cut, i), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { letAnotherTry(t, strconv.Itoa(i), strings.Split(cut, "")) })
			})
		}
	}
}

func letAnotherTry(t *testing.T, timeline string, cut []string) {
	p := newParty(t, timeline, cut...)
	time.Sleep(time.Duration(len(cut))*Limits{}.OrDefaults().Stuck + 10*time.Second)
	synctest.Wait()
	stored, turns := p.state()
	if stored != 0x2000000 || slices.Contains(cut, turns[len(turns)-1]) {
		t.Errorf("object storage is at %s; the turn was taken by %v", stored, turns)
	}
	for _, id := range cut {
		p.repair(id)
	}
	time.Sleep(backupRetryCap)
	synctest.Wait()
	if _, again := p.state(); len(again) != len(turns) {
		t.Errorf("after the repair the turn was taken by %v", again)
	}
	for id, w := range p.worlds {
		if at := w.Snapshot().Backup.LSN; at != stored {
			t.Errorf("%s has seen object storage up to %s, %v after the repair", id, at, backupRetryCap)
		}
	}
	p.end()
}

// U6: when all are cut off, each is tried, and then the turn rests; but whoever is the only one to come back is found.
func TestWhoeverComesBackFirstIsFound(t *testing.T) {
	for _, back := range []string{"a", "b", "c"} {
		t.Run(back, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newParty(t, "x", "a", "b", "c")
				stuck := Limits{}.OrDefaults().Stuck
				time.Sleep(time.Hour)
				_, turns := p.state()
				if least, most := 3, 3*int(time.Hour/(forgetStuck*stuck)); len(turns) < least || len(turns) > most {
					t.Errorf("the turn was taken %d times in an hour, want %d to %d", len(turns), least, most)
				}
				p.repair(back)
				time.Sleep((forgetStuck + 3) * stuck)
				synctest.Wait()
				if stored, turns := p.state(); stored != 0x2000000 || turns[len(turns)-1] != back {
					t.Errorf("object storage is at %s; the turn was taken by %v", stored, turns)
				}
				p.end()
			})
		})
	}
}
