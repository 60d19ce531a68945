package keeper

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicewal/sluice/internal/broker"
	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/timeline"
)

// toldTimelines is what the broker is told of the timelines of this node.
type toldTimelines struct{ k *Keeper }

var _ broker.Timelines = toldTimelines{}

// Active implements broker.Timelines. A node that stops has nothing to announce:
// what ends is told as it ends.
func (t toldTimelines) Active(tell func(*broker.Status)) {
	if t.k.leaving.Load() {
		return
	}
	var s broker.Status
	for tl := range t.k.active.All() {
		if m, err := t.k.member(tl.ID()); err == nil && m.Timeline == tl && m.say(&s) {
			tell(&s)
		}
	}
}

// All implements broker.Timelines.
func (t toldTimelines) All(tell func(*broker.Status)) {
	var s broker.Status
	for _, m := range t.k.Members() {
		if m.kept() && m.say(&s) {
			tell(&s)
		}
	}
}

// One implements broker.Timelines. Of a timeline that is on its way out, the last
// word still goes out.
func (t toldTimelines) One(key broker.Key, tell func(*broker.Status)) {
	var s broker.Status
	if m := t.k.memberOf(key); m != nil && m.say(&s) {
		tell(&s)
	}
}

// Keeps implements broker.Timelines.
func (t toldTimelines) Keeps(key broker.Key) (systemID uint64, ok bool) {
	m := t.k.memberOf(key)
	if m == nil || !m.kept() {
		return 0, false
	}
	return m.Control().SystemID, true
}

// PeerUpdate implements broker.Timelines.
func (t toldTimelines) PeerUpdate(key broker.Key) {
	m := t.k.memberOf(key)
	if m == nil || !m.kept() {
		return
	}
	var names []string
	for _, p := range t.k.broker.Peers(nil, key) {
		names = append(names, p.Node)
	}
	m.Timeline.PeersSaid(names)
	m.manager.PeersSaid()
}

// memberOf finds the timeline that a key names; nil if this node has none, or
// another life of it.
func (k *Keeper) memberOf(key broker.Key) *Member {
	tenant, name, _ := strings.Cut(key.Timeline, "/")
	m, err := k.member(timeline.ID{Tenant: timeline.TenantID(tenant), Name: name})
	if err != nil {
		return nil
	}
	if mine, ok := m.key(); !ok || mine != key {
		return nil
	}
	return m
}

// kept reports whether this node is one of the timeline's: a warm copy is not, nor
// is what is broken or on its way out.
func (m *Member) kept() bool {
	state, _ := m.State()
	return state == timeline.StateRunning && m.tenant.Mode == timeline.ModeAttached && !m.Control().Deleting
}

// key is what the nodes of the timeline call this life of it. It is decided where
// they meet, in object storage; without one, nodes that stream from one cluster
// under one name mean the same.
func (m *Member) key() (broker.Key, bool) {
	c := m.Control()
	if last := m.lastKey.Load(); last != nil && last.control == c {
		return last.key, last.key.Incarnation != ""
	}
	next := &keyOf{control: c, key: m.keeper.keyOf(m.ID(), c), since: time.Now()}
	if last := m.lastKey.Load(); last != nil && last.key == next.key {
		next.since = last.since
	}
	m.lastKey.Store(next)
	return next.key, next.key.Incarnation != ""
}

// keyOf is a key, since when it is known, and the control file that it was made of.
type keyOf struct {
	control *timeline.Control
	key     broker.Key
	since   time.Time
}

// hearingSince is since when other nodes could have said something of this timeline.
func (m *Member) hearingSince() time.Time {
	since := m.keeper.link.hearingSince()
	if last := m.lastKey.Load(); last != nil && last.since.After(since) {
		return last.since
	}
	return since
}

func (k *Keeper) keyOf(id timeline.ID, c *timeline.Control) broker.Key {
	key := broker.Key{Timeline: id.String()}
	switch {
	case k.depot != nil && c.Stored != nil:
		key.Incarnation = string(c.Incarnation)
	case k.depot == nil && c.SystemID != 0:
		key.Incarnation = "system-" + strconv.FormatUint(c.SystemID, 10)
	}
	return key
}

// say fills in what this node says of the timeline; false: nothing can be said.
func (m *Member) say(s *broker.Status) bool {
	key, ok := m.key()
	l, c := m.Log(), m.Control()
	if !ok || l == nil {
		return false
	}
	w := l.Stats()
	turn, ending := m.manager.Turn(), m.ending()
	*s = broker.Status{
		Key: key, SystemID: c.SystemID, Start: l.Oldest(), Flush: w.Flush, RecordEnd: w.CommitEnd,
		Commit: pg.Position{TLI: w.Flush.TLI, LSN: m.CommitEnd()}, Backup: m.Backup().At,
		Active: m.membership.Active(), Qualified: c.QualifiedAt(w.Flush),
		CanUpload: !ending && m.canUpload(), Offloading: !ending && turn.Mine, Stalled: m.manager.Stalled(),
		To: c.QuorumOf(w.Flush.TLI).Names,
	}
	return true
}

// ending reports whether the timeline's turn has to be another's: this node stops,
// or lets go of the timeline.
func (m *Member) ending() bool {
	phase, _ := m.manager.Phase()
	return m.keeper.leaving.Load() || !m.kept() || phase == manager.PhaseEnding || phase == manager.PhaseStopped
}

// canUpload reports whether there is object storage, and nothing known against it.
func (m *Member) canUpload() bool {
	d := m.keeper.depot
	b := m.Backup()
	return d != nil && d.problem() == nil && b.Decided && (b.Conflict == 0 || b.Conflict != m.Log().Position().TLI)
}

// heard is what the manager plans by.
func (m *Member) heard() manager.Heard {
	k := m.keeper
	h := manager.Heard{Self: k.cfg.NodeID, Timeline: string(m.Control().Incarnation), Nodes: 1, Leaving: k.leaving.Load()}
	if k.broker == nil {
		return h
	}
	l := m.Log()
	key, ok := m.key()
	if !ok || l == nil {
		return h
	}
	h.CanUpload, h.Since = m.canUpload(), m.hearingSince()
	h.Nodes = 1 + len(k.others(m.Timeline))
	if len(k.cfg.Peers) == 0 && time.Since(h.Since) < k.silentAfter() {
		h.Nodes++ // nobody has said who there is: another may not have been heard yet
	}
	for _, p := range k.broker.Peers(nil, key) {
		h.Peers = append(h.Peers, manager.Peer{
			Candidate: manager.Candidate{
				Node: p.Node, Heard: p.Alive, Start: p.Start, End: p.Flush,
				CanUpload: p.CanUpload, Offloading: p.Offloading, Stalled: p.Stalled,
			},
			Backup: p.Backup,
		})
	}
	return h
}

// others names the other nodes that may keep a timeline: those that were ever heard
// to, and those of the configuration. While nothing is heard of them, it is still
// known that they are there.
func (k *Keeper) others(tl *timeline.Timeline) []string {
	names := tl.KnownNodes()
	for _, id := range k.cfg.Peers {
		if !slices.Contains(names, id) {
			names = append(names, id)
		}
	}
	return names
}

// commitBound is a timeline.CommitBound: k of m, of what the other nodes have said.
// A node that commits do not wait for vouches for none.
func (k *Keeper) commitBound(tl *timeline.Timeline, c *timeline.Control, tli pg.TLI) (bound pg.LSN, several bool) {
	q, read := c.QuorumAt(tli)
	vouch := k.others(tl)
	switch {
	case read && q.Unbounded:
		vouch = tl.KnownNodes() // of the others it is not known whether they keep it
	case read:
		vouch = slices.DeleteFunc(vouch, func(n string) bool { return !slices.Contains(q.Names, n) })
	}
	if len(vouch) == 0 {
		return 0, false
	}
	var ends []pg.Position
	need, m := q.K, len(vouch)
	if q.Synchronous || !read { // this node vouches, too: how far is held against the bound when it is asked for
		ends = append(ends, pg.Position{TLI: tli, LSN: math.MaxUint64})
		m++
	}
	if !read {
		need = m
	}
	for _, p := range k.broker.Peers(nil, k.keyOf(tl.ID(), c)) {
		if slices.Contains(vouch, p.Node) {
			ends = append(ends, pg.Position{TLI: p.Flush.TLI, LSN: p.RecordEnd})
		}
	}
	bound, _ = manager.CommitLSN(tli, ends, need, m)
	return bound, true
}

// peerStatus is what was last heard of the other nodes that keep the timeline.
func (m *Member) peerStatus() []timeline.PeerStatus {
	all := []timeline.PeerStatus{}
	key, ok := m.key()
	if m.keeper.broker == nil || !ok {
		return all
	}
	for _, p := range m.keeper.broker.Peers(nil, key) {
		all = append(all, timeline.PeerStatus{
			Node: p.Node, Seen: p.Alive, Silent: time.Since(p.Alive) > m.keeper.silentAfter(), TLI: p.Flush.TLI, FlushLSN: p.Flush.LSN, BackupLSN: p.Backup.LSN,
			SourceConnected: p.Active, Qualified: p.Qualified, Offloader: p.Offloading,
		})
	}
	return all
}

// QuorumReady is how many nodes could vouch for the end of the timeline, should the source fail now, this one included.
func (m *Member) QuorumReady() int {
	tli := m.Held().Position.TLI
	q, read := m.Control().QuorumAt(tli)
	ready := vouching(m.peerStatus(), tli, func(node string) bool { return !read || q.Unbounded || slices.Contains(q.Names, node) })
	if m.Connected() && m.Qualified() {
		ready++
	}
	return ready
}

// vouching counts the nodes that stream a TLI, have had all of the timeline, were heard lately, and are among those that commits
// wait for. It is pure.
func vouching(peers []timeline.PeerStatus, tli pg.TLI, waitedFor func(string) bool) (n int) {
	for _, p := range peers {
		if waitedFor(p.Node) && p.Qualified && p.SourceConnected && !p.Silent && p.TLI == tli {
			n++
		}
	}
	return n
}

// sealedByOne says of a seal that needs other nodes' word what can be done without.
func (m *Member) sealedByOne(err error) error {
	unsealable := new(timeline.UnsealableError)
	q, _ := m.Control().QuorumAt(m.Held().Position.TLI)
	others := m.keeper.others(m.Timeline)
	if !errors.As(err, &unsealable) || m.keeper.broker == nil || len(others) == 0 || !q.Unbounded && q.Required <= 1 {
		return err
	}
	return &timeline.UnsealableError{TLI: unsealable.TLI, Err: fmt.Errorf(
		"synchronous_standby_names was %q, so that commits may lie only on other nodes than this one (%s), and this version cannot seal over several nodes: "+
			"stop the source for good, find the node whose flush_lsn is highest ('sluice timeline show' has all of them), and seal there with --accept-data-loss",
		q.RequiredBy, strings.Join(others, ", "))}
}
