package manager

import (
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/timeline"
)

// Peer is another node that keeps the timeline, with what it said last.
type Peer struct {
	Candidate
	Backup pg.Position // how far it knows that object storage has the timeline
}

// Heard is what this node knows of the nodes that keep the timeline.
type Heard struct {
	Self      string // this node
	Timeline  string // its incarnation
	CanUpload bool   // as a [Candidate] says it, of this node
	// Leaving says that this node stops: its turn is another's, if there is one.
	Leaving bool
	// Nodes is how many keep it, this one among them, whether or not they are heard.
	Nodes int
	Since time.Time // since when the others can be heard
	Peers []Peer    // those that are, or were until lately
}

// several reports whether another node keeps the timeline, too.
func (h *Heard) several() bool { return h.Nodes > 1 || len(h.Peers) > 0 }

// Backup is how far object storage has the timeline, as far as others say.
func (h *Heard) Backup() (p pg.Position) {
	for i := range h.Peers {
		if at := h.Peers[i].Backup; at.TLI > p.TLI || at.TLI == p.TLI && at.LSN > p.LSN {
			p = at
		}
	}
	return p
}

// WhyAlone is the reason where no other node keeps the timeline.
const WhyAlone Why = "alone"

// Turn says who backs the timeline up.
type Turn struct {
	Node  string // "": nobody
	Mine  bool
	Why   Why // of the change to Node
	Since time.Time
	lost  lost
}

// lost is what a node remembers of a turn that it lost because nothing came through: it would only be stuck again, while
// a third one that was not tried yet may do better. It is forgotten once something comes through, or after a time: when all
// were stuck, nobody knows who is no longer.
type lost struct {
	stuck time.Time // since when nothing came through; zero: no turn was lost so
	at    time.Time
}

// forgetStuck is after how many times the limit a node that was stuck may be tried again.
const forgetStuck = 10

// forgetAt is when it is forgotten in any case.
func (l lost) forgetAt(limits Limits) time.Time {
	return l.at.Add(forgetStuck * limits.OrDefaults().Stuck)
}

// lostAfter is what is remembered when this node's turn was v.turn, and is over or not.
func (v *view) lostAfter(mine bool, now time.Time, limits Limits) lost {
	l := v.turn.lost
	switch {
	case mine:
		return lost{}
	case v.turn.Mine && v.stalled(now) > limits.OrDefaults().Stuck:
		return lost{stuck: v.stalledSince(), at: now}
	case v.stalledSince().IsZero(), !now.Before(l.forgetAt(limits)):
		return lost{}
	}
	l.at = notAfter(l.at, now)
	return l
}

// whose decides whose turn it is: Elect's word, where there are several nodes.
// While nothing is held there is no turn: it would be taken before anybody could
// say that it is another's.
func whose(v *view, now time.Time, cfg *Config) Turn {
	h := &v.heard
	if !cfg.Backup || cfg.Secondary || v.TLI == 0 {
		return Turn{}
	}
	next := Turn{Node: h.Self, Why: WhyAlone}
	if h.several() {
		e := v.election(now, cfg.Limits)
		next.Node, next.Why = Elect(&e)
	}
	next.Mine = next.Node == h.Self || h.Leaving && next.Node == "" // who stops brings there what nobody else will
	next.lost = v.lostAfter(next.Mine, now, cfg.Limits)
	if next.Node == v.turn.Node && v.turn.Why != "" {
		next.Why, next.Since = v.turn.Why, v.turn.Since
		return next
	}
	next.Since = now
	return next
}

// election is what every node hears, and what this one says of itself.
func (v *view) election(now time.Time, limits Limits) Election {
	h := &v.heard
	e := Election{
		Timeline: h.Timeline, Backup: furthest(v.Backup.At, h.Backup()),
		Nodes: h.Nodes, HearingSince: h.Since, Now: now, Limits: limits, Candidates: make([]Candidate, 0, len(h.Peers)+1),
	}
	e.Candidates = append(e.Candidates, Candidate{
		Node: h.Self, Heard: now, Start: v.Oldest, End: pg.Position{TLI: v.TLI, LSN: v.FlushLSN},
		CanUpload: h.CanUpload && !h.Leaving, Offloading: v.turn.Mine && !h.Leaving, Stalled: v.stalled(now),
	})
	for i := range h.Peers {
		e.Candidates = append(e.Candidates, h.Peers[i].Candidate)
	}
	return e
}

func furthest(a, b pg.Position) pg.Position {
	if b.TLI > a.TLI || b.TLI == a.TLI && b.LSN > a.LSN {
		return b
	}
	return a
}

// stalled is for how long it was this node's turn, and nothing of what waits came
// to object storage; also after it lost the turn by that.
func (v *view) stalled(now time.Time) time.Duration {
	since := v.stalledSince()
	if since.IsZero() {
		return 0
	}
	return max(0, now.Sub(since))
}

// stalledSince is zero where nothing waits for this node.
func (v *view) stalledSince() time.Time {
	stuck := v.turn.lost.stuck
	switch {
	case v.queuedSince.IsZero():
		return time.Time{}
	case v.turn.Mine:
		return latest(v.turn.Since, v.queuedSince, v.Backup.Since)
	case v.Backup.Since.After(stuck): // of what was to be uploaded something is there, and was seen from here
		return time.Time{}
	}
	return stuck
}

// sinceQueued remembers since when whole segments wait for object storage.
func sinceQueued(v *view, since, now time.Time) time.Time {
	switch {
	case !v.queued():
		return time.Time{}
	case since.IsZero():
		return now
	}
	return since
}

func latest(times ...time.Time) (t time.Time) {
	for _, one := range times {
		if one.After(t) {
			t = one
		}
	}
	return t
}

// confirmable reports whether another node says that it has brought a whole
// segment to object storage that this one holds and knows nothing of there.
func (v *view) confirmable() bool {
	at := v.heard.Backup()
	return v.Backup.Decided && v.SegmentSize != 0 && at.TLI == v.TLI && v.claimed() &&
		min(v.SegmentSize.StartOf(at.LSN), v.wholeEnd()) > v.Backup.LSN
}

// uploads reports whether this node brings WAL to object storage: it is its turn;
// or it leaves the timeline for good, and waits for nobody's word.
func (v *view) uploads(turn Turn) bool { return turn.Mine || v.Draining && !v.heard.Leaving }

// planTurn says who backs up, and when that may change without anybody saying so.
func (p *Plan) planTurn(v *view, now time.Time, cfg *Config) {
	p.Turn = whose(v, now, cfg)
	p.TurnChanged = v.heard.several() && p.Turn.Node != v.turn.Node
	if !v.heard.several() || !cfg.Backup {
		return
	}
	if p.Turn.Why == WhyListening {
		p.lookAgain(notAfter(v.heard.Since, now).Add(cfg.Limits.OrDefaults().Silent))
	}
	if stuck := v.stalledSince(); !stuck.IsZero() {
		if at := stuck.Add(cfg.Limits.OrDefaults().Stuck + time.Millisecond); at.After(now) {
			p.lookAgain(at)
		}
	}
	if l := p.Turn.lost; !l.stuck.IsZero() {
		p.lookAgain(l.forgetAt(cfg.Limits))
	}
}

// PeersSaid looks whether what other nodes said, or that they say nothing any
// more, changes what was decided, and wakes the manager only then. It may be
// called at any time, from anywhere, and waits for nothing.
//
// No news is lost: a manager that looked before it was said decides first and
// then looks once more (see iterate), so that one of the two finds it.
func (m *Manager) PeersSaid() {
	last := m.last.Load()
	if m.cfg.Heard == nil || last == nil {
		return // the first iteration looks
	}
	now := time.Now()
	v := view{Snapshot: m.tl.Snapshot(), heard: m.cfg.Heard(), turn: last.plan.Turn, queuedSince: last.queuedSince}
	turn := whose(&v, now, &m.cfg)
	v.uploading = v.uploads(turn)
	wanted, _ := wantsBackup(&v, now, &m.cfg)
	if turn.Node != last.plan.Turn.Node || wanted && last.plan.Tasks[backupRule].Action == Off {
		m.tl.Wake().Ring(timeline.ReasonPeerUpdate)
	}
}

// Turn returns who backs the timeline up, as was decided last.
func (m *Manager) Turn() Turn {
	if last := m.last.Load(); last != nil {
		return last.plan.Turn
	}
	return Turn{}
}

// Stalled is for how long it has been this node's turn, and nothing of what waits
// came to object storage; also after it lost the turn by that.
func (m *Manager) Stalled() time.Duration {
	last := m.last.Load()
	if last == nil || last.queuedSince.IsZero() || !last.plan.Turn.Mine && last.plan.Turn.lost == (lost{}) {
		return 0
	}
	v := view{Snapshot: m.tl.Snapshot(), turn: last.plan.Turn, queuedSince: last.queuedSince}
	return v.stalled(time.Now())
}
