package keeper

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/broker"
	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/timeline"
)

// nodes are some nodes in this process, each with a disk of its own, one object store, and NATS between them.
type nodes struct {
	t       *testing.T
	objects string // the directory of the object store
	doors   string // each node comes to it through a link of its own, in this directory
	keepers map[string]*Keeper
	ids     []string // what each is told of the others
	change  []func(*Config)
	wal     *pgtest.Writer
}

// newNodes starts nodes that keep one timeline, of which each has met the identity.
func newNodes(t *testing.T, ids ...string) *nodes {
	t.Helper()
	return newNodesWith(t, nil, ids...)
}

func newNodesWith(t *testing.T, change func(*Config), ids ...string) *nodes {
	t.Helper()
	n := &nodes{t: t, objects: t.TempDir(), doors: t.TempDir(), keepers: map[string]*Keeper{}, ids: ids, wal: source(start + 8*mib)}
	if change != nil {
		n.change = append(n.change, change)
	}
	for _, id := range ids {
		n.start(id, newHome(t))
	}
	return n
}

func (n *nodes) start(id string, h *home) {
	n.t.Helper()
	cfg := broker.Config{URL: broker.Embedded, ClusterListen: "127.0.0.1:0", Interval: 50 * time.Millisecond}
	for _, k := range n.keepers {
		n.until("a node listens", func() bool { return k.broker.ClusterAddr() != "" })
		cfg.Routes = append(cfg.Routes, "nats://"+k.broker.ClusterAddr())
	}
	must(n.t, os.Symlink(n.objects, n.door(id)))
	k := h.start(n.t, append(n.change, func(c *Config) {
		c.Peers = slices.DeleteFunc(slices.Clone(n.ids), func(other string) bool { return other == id })
		c.NodeID, c.Broker, c.Store = id, cfg, StoreConfig{URL: "file://" + n.door(id), PartialInterval: time.Hour}
	})...)
	n.keepers[id] = k
	m, err := k.Member(main1)
	if err != nil {
		m = create(n.t, k, main1)
	}
	store, err := k.depot.open(n.t.Context())
	must(n.t, err)
	must(n.t, m.meetEmpty(n.t.Context()))
	must(n.t, m.decideIdentity(n.t.Context(), store, systemID, seg))
}

// door is where a node comes to the object store.
func (n *nodes) door(id string) string { return filepath.Join(n.doors, id) }

func (n *nodes) member(id string) *Member {
	n.t.Helper()
	return member(n.t, n.keepers[id], main1)
}

// receive lets a node have WAL up to an LSN, of a source whose commits wait for any two of a, b and c.
func (n *nodes) receive(id string, to pg.LSN) {
	n.t.Helper()
	receive(n.t, n.member(id), n.wal, to)
}

func (n *nodes) waitFor(names string) {
	n.t.Helper()
	for id := range n.keepers {
		setQuorum(n.t, n.member(id), names)
	}
}

func (n *nodes) until(what string, is func() bool) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			n.t.Fatalf("not within a minute: %s", what)
		}
	}
}

// offloader is who thinks that it is its turn: "" while they do not agree.
func (n *nodes) offloader() string {
	var who []string
	for id := range n.keepers {
		turn := n.member(id).manager.Turn()
		if turn.Mine {
			who = append(who, id)
		}
		if turn.Node == "" || !slices.Contains(who, turn.Node) && len(who) > 0 {
			return ""
		}
	}
	if len(who) != 1 {
		return ""
	}
	for id := range n.keepers {
		if n.member(id).manager.Turn().Node != who[0] {
			return ""
		}
	}
	return who[0]
}

// stored is how many whole segments are in object storage.
func (n *nodes) stored() int {
	n.t.Helper()
	for id, k := range n.keepers {
		c := n.member(id).Control()
		t := k.Store().Timeline("acme", "main", backup.Identity{
			Incarnation: string(c.Incarnation), SystemID: systemID, SegmentSize: seg, Compression: backup.Compression(c.Stored.Compression),
		})
		l, err := t.List(n.t.Context())
		must(n.t, err)
		return len(l.Segments)
	}
	return 0
}

// F11, B9: what one node alone has is not committed, and does not leave it. What two of three have is brought to object
// storage by one of them, and each of the others finds it there.
func TestNodesBackUpOnceWhatIsCommitted(t *testing.T) {
	n := newNodes(t, "a", "b", "c")
	for id := range n.keepers {
		n.receive(id, start+1000) // they have begun
	}
	n.waitFor("ANY 2 (a, b, c)")
	n.until("all agree on who backs up", func() bool { return n.offloader() != "" })

	n.receive("a", start+3*mib+5000)
	n.until("the others hear that", func() bool {
		return slices.ContainsFunc(n.member("b").peerStatus(), func(p timeline.PeerStatus) bool { return p.Node == "a" && p.FlushLSN > start+3*mib })
	})
	if end := n.member("a").CommitEnd(); end > start+mib {
		t.Errorf("a alone has WAL up to its end, and thinks that it is committed up to %s", end)
	}
	if why := n.member("a").Status().Backup.HeldBack; why == "" {
		t.Error("a does not say why it holds WAL back")
	}
	if s := n.stored(); s != 0 {
		t.Errorf("%d segments were uploaded that one node alone has", s)
	}

	n.receive("b", start+2*mib+5000)
	n.until("a and b know that two segments are committed", func() bool {
		return n.member("a").CommitEnd() >= start+2*mib && n.member("b").CommitEnd() >= start+2*mib
	})
	n.receive("c", start+2*mib+5000)
	for id := range n.keepers {
		n.until("node "+id+" knows that they are in object storage", func() bool { return n.member(id).Backup().LSN == start+2*mib })
		n.until("node "+id+" has ended that", func() bool { return !taskOf(n.member(id), manager.Backup).Running })
		if s := taskOf(n.member(id), manager.Backup); s.FruitlessRuns != 0 {
			t.Errorf("node %s has uploaded, or found what another has: %+v", id, s)
		}
	}
	if end := n.member("a").CommitEnd(); end >= start+3*mib {
		t.Errorf("a alone has the third segment, and it counts as committed up to %s", end)
	}
	if s := n.stored(); s != 2 {
		t.Errorf("%d segments are in object storage, want 2", s)
	}
	for id := range n.keepers {
		others := slices.DeleteFunc([]string{"a", "b", "c"}, func(s string) bool { return s == id })
		n.until("node "+id+" remembers both others", func() bool { return slices.Equal(n.member(id).Control().Nodes, others) })
		setQuorum(t, n.member(id), "ANY 1 ("+id+")") // that none of them is waited for now is asked for, and forgets nobody
		n.member(id).CommitEnd()
		if got := n.member(id).KnownNodes(); !slices.Equal(got, others) {
			t.Errorf("node %s knows of %q, want %q", id, got, others)
		}
	}
}

// A node that is told to stop gives its turn away before it goes, and nothing waits for it.
func TestNodeThatLeavesHandsOver(t *testing.T) {
	n := newNodes(t, "a", "b", "c")
	for id := range n.keepers {
		n.receive(id, start+mib+5000)
	}
	n.waitFor("ANY 2 (a, b, c)")
	n.until("all agree on who backs up", func() bool { return n.offloader() != "" })
	gone := n.offloader()
	left := n.keepers[gone]
	began := time.Now()
	must(t, left.Leave(t.Context()))
	delete(n.keepers, gone)
	n.until("another has taken over", func() bool { return n.offloader() != "" })
	if took := time.Since(began); took > left.silentAfter()*9/10 {
		t.Errorf("it took %v: nobody told them", took)
	}
	must(t, left.Drain(t.Context()))
	for id := range n.keepers {
		n.receive(id, start+3*mib+5000)
	}
	for id := range n.keepers {
		n.until("node "+id+" knows what the other has uploaded", func() bool { return n.member(id).Backup().LSN == start+3*mib })
	}
}

// A node that starts while nobody can be heard knows who the others are, and how much was committed.
func TestNodeRemembersTheOthers(t *testing.T) {
	n := newNodes(t, "a", "b")
	n.receive("b", start+2*mib+5000)
	n.receive("a", start+mib+5000)
	n.waitFor("ANY 2 (a, b)")
	n.until("a knows what b has", func() bool { return n.member("a").CommitEnd() > start+mib })
	n.receive("a", start+2*mib+5000) // the end of a segment, for which the control file is saved at once
	n.until("a knows that, too", func() bool { return n.member("a").CommitEnd() > start+2*mib })
	committed := n.member("a").CommitEnd()
	n.until("the control file has it", func() bool {
		c := n.member("a").Control()
		return slices.Equal(c.Nodes, []string{"b"}) && c.Commit.LSN > start+mib
	})
	a := n.keepers["a"]
	must(t, n.keepers["b"].Shutdown(t.Context()))
	must(t, a.Shutdown(t.Context()))

	again := newKeeper(t.Context(), a.cfg)
	lock, err := lockDataDir(again.cfg.FS, again.cfg.DataDir)
	must(t, err)
	again.unlock = lock.Close
	must(t, again.openAll(t.Context())) // and no broker is started
	t.Cleanup(func() { must(t, again.Shutdown(context.Background())) })
	m := member(t, again, main1)
	n.wal = source(start + 8*mib)
	receive(t, m, n.wal, start+4*mib)
	if end := m.CommitEnd(); end != committed {
		t.Errorf("the commit LSN is %s after a restart without the others, want %s", end, committed)
	}
}

// A timeline that nobody else keeps is backed up whatever becomes of the broker (B9), and a broker that cannot start
// keeps nothing from going on.
func TestBrokerThatCannotStartHindersNothing(t *testing.T) {
	h := newHome(t)
	k := h.start(t, func(c *Config) {
		c.Broker = broker.Config{URL: broker.Embedded, ClusterListen: "256.0.0.1:1"}
		c.Store = StoreConfig{URL: "file://" + t.TempDir(), PartialInterval: time.Hour}
	})
	m := create(t, k, main1)
	w := source(start + 3*mib)
	receive(t, m, w, start+2*mib+5000)
	setQuorum(t, m, "a")
	n := &nodes{t: t}
	n.until("it is backed up", func() bool { return m.Backup().LSN == start+2*mib })
	if s, ok := k.BrokerStats(); !ok || s.Connected {
		t.Errorf("the broker is %+v, %t", s, ok)
	}
	stop(t, k)
}

// B3: the membership of a life that is over does not touch that of the next one.
func TestActiveSetFollowsTheTimelines(t *testing.T) {
	n := newNodes(t, "a")
	k := n.keepers["a"]
	old := n.member("a")
	n.until("its manager runs", func() bool { return old.manager.Status().Iterations > 0 }) // one that never did has nothing to end
	old.membership.SetActive(true)
	if s := k.ActiveStats(); s.Members != 1 {
		t.Fatalf("%d timelines are active, want 1", s.Members)
	}
	must(t, k.DeleteTimeline(t.Context(), main1, false))
	if s := k.ActiveStats(); s.Members != 0 || s.Ended != 1 {
		t.Errorf("after the deletion: %+v", s)
	}
	fresh := create(t, k, main1)
	fresh.membership.SetActive(true)
	if old.membership.SetActive(true) || old.membership.End() {
		t.Error("the membership of an earlier life changed something")
	}
	if s := k.ActiveStats(); s.Members != 1 {
		t.Errorf("%d timelines are active, want the new one", s.Members)
	}
}

// TestNodeListensBeforeItsBrokerRuns: the managers of its timelines run by then, and one that thought it had listened long enough
// took the turn of another.
func TestNodeListensBeforeItsBrokerRuns(t *testing.T) {
	k := newKeeper(t.Context(), Config{NodeID: "a", Broker: broker.Config{URL: broker.Embedded, ClusterListen: "127.0.0.1:0"}})
	if since := k.link.hearingSince(); time.Since(since) > k.silentAfter()/2 {
		t.Errorf("it hears the others since %s", since)
	}
}

// Nodes that are started for the first time, and know nobody, do not take the turn all at once: each listens before it does.
func TestFirstStartTakesNoTurnUnheard(t *testing.T) {
	t.Parallel() // it mostly waits
	n := newNodesWith(t, func(c *Config) { c.Limits.Silent = 4 * time.Second }, "a")
	n.receive("a", start+1000)
	n.until("a has planned with WAL", func() bool { return n.member("a").manager.Turn().Why != "" })
	if turn := n.member("a").manager.Turn(); turn.Mine || turn.Why != manager.WhyListening {
		t.Errorf("%+v: it cannot know yet that it is alone", turn)
	}
	n.ids = nil
	n.start("b", newHome(t))
	n.receive("b", start+1000)
	n.until("both agree as soon as they hear each other", func() bool { return n.offloader() != "" })
	for id := range n.keepers {
		if why := n.member(id).manager.Turn().Why; why == manager.WhyTwoAtOnce {
			t.Errorf("node %s found two that backed up", id)
		}
	}
}
