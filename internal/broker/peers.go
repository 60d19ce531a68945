package broker

import (
	"math/bits"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxNodes bounds how many other nodes are remembered.
const maxNodes = 256

// peers is what was heard: the last word of each node about each timeline. It never calls out while it is locked.
type peers struct {
	silentAfter time.Duration // a node that says nothing for so long is not counted as alive
	forgetAfter time.Duration // and nothing is remembered for longer than this

	mu    sync.Mutex
	nodes map[string]*node // guarded by mu
	kept  map[Key]*kept    // guarded by mu
}

// node is one other node.
type node struct {
	id      string
	started uint64 // which of its processes is believed
	heard   time.Time
	silent  bool
	window  window
}

// kept is a timeline that this node keeps, and others that say they do.
type kept struct {
	key   Key
	words []word
}

// word is what one process of a node said about a timeline.
type word struct {
	node     *node
	started  uint64
	sequence uint64 // of the message that said it
	heard    time.Time
	status   Status
}

func newPeers(silentAfter, forgetAfter time.Duration) *peers {
	return &peers{
		silentAfter: silentAfter, forgetAfter: forgetAfter,
		nodes: make(map[string]*node), kept: make(map[Key]*kept),
	}
}

// greet takes a message's header. It returns the node, and whether this is a process that was not heard of yet or was
// silent; the reason says why the message is not to be read on, if it is not.
func (p *peers) greet(h *header, now time.Time) (from *node, news bool, reason Reason) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.nodes[h.node]
	switch {
	case n == nil && len(p.nodes) == maxNodes:
		return nil, false, TooManyNodes
	case n == nil:
		n = &node{id: h.node, silent: true}
		p.nodes[h.node] = n
	case h.started < n.started && !n.silentAt(now, p.silentAfter):
		// An earlier process's message that was under way for long; or a second process under the same name, which
		// has no say while the one that started last lives.
		return nil, false, EarlierProcess
	}
	if h.started != n.started { // also an earlier start, once the other is silent: its clock was set back
		n.started, n.window, n.silent = h.started, window{}, true
	}
	if h.sequence != 0 {
		reason = n.window.see(h.sequence)
	}
	if reason == Double {
		return nil, false, reason
	}
	news = n.silent
	n.heard, n.silent = now, false
	return n, news, reason
}

func (n *node) silentAt(now time.Time, after time.Duration) bool {
	return n.silent || now.Sub(n.heard) > after
}

// resolve finds the names of a message's statuses among those that are known; the others' are made.
func (p *peers) resolve(said []said) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range said {
		s := &said[i]
		// The compiler makes no strings for a look-up.
		if k := p.kept[Key{string(s.timeline), string(s.incarnation)}]; k != nil {
			s.status.Key = k.key
		} else {
			s.status.Key = Key{string(s.timeline), string(s.incarnation)}
		}
	}
}

// hear takes what a process said about timelines that this node keeps, and appends the keys of those where that is
// news. A status without a key is passed over.
func (p *peers) hear(from *node, h *header, said []said, now time.Time, news []Key) []Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.nodes[from.id] != from || from.started != h.started {
		return news // it was forgotten, or restarted, since it was greeted
	}
	for i := range said {
		s := &said[i].status
		if s.Timeline == "" {
			continue
		}
		if p.wordLocked(s.Key, from).hear(h, s, now) {
			news = append(news, s.Key)
		}
	}
	return news
}

// wordLocked finds the place of a node's word about a timeline, or makes one.
func (p *peers) wordLocked(key Key, from *node) *word {
	k := p.kept[key]
	if k == nil {
		k = &kept{key: key}
		p.kept[key] = k
	}
	at, found := slices.BinarySearchFunc(k.words, from.id, func(w word, id string) int { return strings.Compare(w.node.id, id) })
	if !found {
		k.words = slices.Insert(k.words, at, word{node: from})
	}
	k.words[at].node = from
	return &k.words[at]
}

func (w *word) hear(h *header, s *Status, now time.Time) (news bool) {
	switch {
	case w.started != h.started: // all that its earlier process said is void
		w.status, news = *s, true
	case h.sequence <= w.sequence:
		return false
	default:
		news = w.status.learn(s)
	}
	w.started, w.sequence, w.heard = h.started, h.sequence, now
	return news
}

// counts reports whether the word is of the process of its node that is believed.
func (w *word) counts() bool { return w.started == w.node.started }

// about appends the last words of the peers about a timeline.
func (p *peers) about(key Key, list []Peer) []Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.kept[key]
	if k == nil {
		return list
	}
	for i := range k.words {
		if w := &k.words[i]; w.counts() {
			list = append(list, Peer{Node: w.node.id, Status: w.status, Heard: w.heard, Alive: w.node.heard})
		}
	}
	return list
}

// keepers appends the nodes that a status is sent to: those that said they keep the timeline, and of those that were
// heard of the ones that it names; all of these if it is to introduce a timeline that may be kept anywhere.
func (p *peers) keepers(s *Status, introduce bool, list []string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if introduce && s.To == nil {
		for id := range p.nodes {
			list = append(list, id)
		}
		return list
	}
	if k := p.kept[s.Key]; k != nil {
		for i := range k.words {
			list = append(list, k.words[i].node.id)
		}
	}
	for _, id := range s.To {
		if p.nodes[id] != nil && !slices.Contains(list, id) {
			list = append(list, id)
		}
	}
	return list
}

// list returns the nodes, by name.
func (p *peers) list() []Node {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Node, 0, len(p.nodes))
	for _, n := range p.nodes {
		list = append(list, Node{ID: n.id, Started: time.Unix(0, int64(n.started)), Heard: n.heard, Silent: n.silent})
	}
	slices.SortFunc(list, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// fallSilent marks the nodes that have said nothing for too long, and returns those that were marked now.
func (p *peers) fallSilent(now time.Time) (ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.nodes {
		if !n.silent && n.silentAt(now, p.silentAfter) {
			n.silent = true
			ids = append(ids, n.id)
		}
	}
	slices.Sort(ids)
	return ids
}

// keptBy lists the timelines that a node said it keeps.
func (p *peers) keptBy(id string) (list []Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, k := range p.kept {
		if slices.ContainsFunc(k.words, func(w word) bool { return w.node.id == id }) {
			list = append(list, key)
		}
	}
	return list
}

// keys lists the timelines that something is known about.
func (p *peers) keys() []Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Key, 0, len(p.kept))
	for key := range p.kept {
		list = append(list, key)
	}
	return list
}

// forget drops timelines that this node does not keep any more, and words and nodes that are too old.
func (p *peers) forget(gone []Key, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range gone {
		delete(p.kept, key)
	}
	old := func(heard time.Time) bool { return now.Sub(heard) > p.forgetAfter }
	for id, n := range p.nodes {
		if old(n.heard) {
			delete(p.nodes, id)
		}
	}
	for key, k := range p.kept {
		k.words = slices.DeleteFunc(k.words, func(w word) bool { return old(w.heard) })
		if len(k.words) == 0 {
			delete(p.kept, key)
		}
	}
}

// window tells a number that was seen from one that comes late.
type window struct {
	highest uint64
	seen    uint64 // bit i: highest-i was seen
}

// see returns Double for a number that was seen, Late for one below the highest, and nothing for a new highest. What
// lies too far below is taken for Late: whether it was seen does not matter, as each status has its own number.
func (w *window) see(n uint64) Reason {
	switch {
	case n > w.highest:
		w.seen = w.seen<<min(n-w.highest, bits.UintSize) | 1
		w.highest = n
		return ""
	case w.highest-n >= 64:
		return Late
	case w.seen>>(w.highest-n)&1 == 1:
		return Double
	}
	w.seen |= 1 << (w.highest - n)
	return Late
}
