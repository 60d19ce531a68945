package broker

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicewal/sluice/internal/pg"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// tick is the interval of these tests' nodes; patience is how long what has to happen may take.
	tick     = 20 * time.Millisecond
	patience = 20 * time.Second
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// fake is a node's timelines.
type fake struct {
	mu       sync.Mutex
	statuses map[Key]Status
	updates  map[Key]int
	hold     chan struct{} // if not nil, PeerUpdate waits until it is closed
}

func newFake(statuses ...Status) *fake {
	f := &fake{statuses: map[Key]Status{}, updates: map[Key]int{}}
	for _, s := range statuses {
		f.set(s)
	}
	return f
}

func (f *fake) set(s Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.statuses[s.Key] = s
}

// holdUp makes each PeerUpdate wait until hold is closed.
func (f *fake) holdUp(hold chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hold = hold
}

func (f *fake) drop(key Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.statuses, key)
}

func (f *fake) some(which func(Status) bool) []Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []Status
	for _, s := range f.statuses {
		if which(s) {
			list = append(list, s)
		}
	}
	return list
}

func tellEach(list []Status, tell func(*Status)) {
	for _, s := range list {
		tell(&s)
	}
}

func (f *fake) Active(tell func(*Status)) {
	tellEach(f.some(func(s Status) bool { return s.Active }), tell)
}

func (f *fake) All(tell func(*Status)) { tellEach(f.some(func(Status) bool { return true }), tell) }

func (f *fake) One(key Key, tell func(*Status)) {
	tellEach(f.some(func(s Status) bool { return s.Key == key }), tell)
}

func (f *fake) Keeps(key Key) (uint64, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.statuses[key]
	return s.SystemID, ok
}

func (f *fake) PeerUpdate(key Key) {
	f.mu.Lock()
	hold := f.hold
	f.updates[key]++
	f.mu.Unlock()
	if hold != nil {
		<-hold
	}
}

func (f *fake) updated(key Key) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.updates[key]
}

// numbered is the n-th timeline of these tests.
func numbered(n int) Key { return Key{fmt.Sprintf("acme/t%d", n), fmt.Sprintf("incarnation-%d", n)} }

// active is a status that a node tells every interval.
func active(key Key, flush pg.LSN) Status {
	return Status{Key: key, SystemID: 7, Start: at(1, 0x1000000), Flush: at(1, flush), RecordEnd: flush, Active: true, Qualified: true}
}

// member is a node that runs.
type member struct {
	*Broker
	*fake
	stop func() error
}

// start runs a node; the test stops it at the latest.
func start(t testing.TB, cfg Config, f *fake) *member {
	t.Helper()
	if cfg.Interval == 0 {
		cfg.Interval = tick
	}
	if cfg.SilentAfter == 0 {
		cfg.SilentAfter = 10 * tick
	}
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil)).With(slog.String("node", cfg.Node))
	b := New(cfg, f)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	m := &member{Broker: b, fake: f}
	m.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return fmt.Errorf("node %s does not stop", cfg.Node)
		}
	})
	t.Cleanup(func() {
		if err := m.stop(); err != nil {
			t.Errorf("node %s: %v", cfg.Node, err)
		}
	})
	return m
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not after %s: %s", patience, what)
		}
	}
}

// word is what a node knows of another's word about a timeline.
func (m *member) word(node string, key Key) (Peer, bool) {
	for _, p := range m.Peers(nil, key) {
		if p.Node == node {
			return p, true
		}
	}
	return Peer{}, false
}

// knows waits until a node knows a flush LSN of another.
func (m *member) knows(t testing.TB, node string, key Key, flush pg.LSN) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s knows that %s has %s up to %s", m.cfg.Node, node, key.Timeline, flush), func() bool {
		p, ok := m.word(node, key)
		return ok && p.Flush.LSN == flush
	})
}

func (m *member) rejected(r Reason) uint64 { return m.Stats().Rejected[r] }
