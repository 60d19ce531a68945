package broker

import (
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Key names one life of a timeline: what is said about another life under the same name is about another timeline.
type Key struct {
	Timeline    string // TENANT/TIMELINE
	Incarnation string
}

// Status is what one node says about one timeline.
type Status struct {
	Key
	// SystemID is PostgreSQL's; 0 while no source was seen.
	SystemID uint64
	// Start is the first position that the node holds; Flush is the newest, on the newest TLI of its lineage, and
	// RecordEnd the record end of that, on the same TLI.
	Start, Flush pg.Position
	RecordEnd    pg.LSN
	// Commit is as far as the node knows that enough nodes have it; Backup is how far object storage has it.
	Commit, Backup pg.Position

	Active    bool // it has something to tell
	Qualified bool // else it is joining
	// CanUpload says that the node has object storage and does not know that it cannot use it. Stalled is for how
	// long it has had WAL to upload and has uploaded none, though it tried; Offloading says that it thinks it is its
	// turn.
	CanUpload, Offloading bool
	Stalled               time.Duration

	// To is not sent: it names the nodes that are known to keep the timeline, such as those in
	// synchronous_standby_names. Those that said so themselves need not be in it. Nil: it is not known.
	To []string
}

// Peer is the last word of another node about a timeline.
type Peer struct {
	Node string
	Status
	// Heard is when it said that; Alive when anything was last heard of the node.
	Heard, Alive time.Time
}

// Node is another node that was heard of.
type Node struct {
	ID      string
	Started time.Time // its process, by its own clock
	Heard   time.Time
	Silent  bool // for longer than a live node is
}

// learn takes over what a newer message of the same process says. Positions only go forward.
func (s *Status) learn(n *Status) (changed bool) {
	was := *s
	key, recordEnd := s.Key, n.RecordEnd
	if n.Flush.TLI == was.Flush.TLI {
		recordEnd = max(was.RecordEnd, n.RecordEnd)
	} else if n.Flush.TLI < was.Flush.TLI {
		recordEnd = was.RecordEnd
	}
	*s = *n
	s.Key, s.RecordEnd = key, recordEnd
	s.Flush, s.Commit, s.Backup = later(was.Flush, n.Flush), later(was.Commit, n.Commit), later(was.Backup, n.Backup)
	return !s.saysTheSame(&was)
}

// saysTheSame compares everything that a peer can say, but the name.
func (s *Status) saysTheSame(o *Status) bool {
	return s.SystemID == o.SystemID && s.Start == o.Start && s.Flush == o.Flush && s.RecordEnd == o.RecordEnd &&
		s.Commit == o.Commit && s.Backup == o.Backup && s.Active == o.Active && s.Qualified == o.Qualified &&
		s.CanUpload == o.CanUpload && s.Offloading == o.Offloading && s.Stalled == o.Stalled
}

// later returns the position that is further along one history.
func later(a, b pg.Position) pg.Position {
	if b.TLI > a.TLI || b.TLI == a.TLI && b.LSN > a.LSN {
		return b
	}
	return a
}
