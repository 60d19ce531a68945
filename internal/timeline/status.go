package timeline

import (
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// A Status is everything that a person or a program may be told about one timeline, as the API, the
// console and the CLI show it. It is a value: made from lock-free snapshots, never filled in later.
//
// A position that is not known is 0/0, PostgreSQL's InvalidXLogRecPtr. A number that is not known is
// absent (null), never 0; so is an object that does not apply.
type Status struct {
	Tenant      string `json:"tenant"`
	Timeline    string `json:"timeline"`
	Incarnation string `json:"incarnation"` // UUIDv7 of this life
	State       string `json:"state"`       // creating, running, stopping, stopped, broken
	Reason      string `json:"reason"`      // why it is in State, for people; empty while all is well
	Active      bool   `json:"active"`

	// SystemIdentifier is PostgreSQL's, in decimal; empty until a source was seen. A string, because
	// it uses all 64 bits and a JSON number is safe up to 2^53 only.
	SystemIdentifier string `json:"system_identifier"`
	SegmentSize      int64  `json:"segment_size"` // bytes; 0 until a source was seen

	TLI      pg.TLI           `json:"tli"`
	Seal     *SealStatus      `json:"seal"`
	Quorum   QuorumStatus     `json:"quorum"`
	Diverged []DivergedStatus `json:"diverged"`

	StartLSN   pg.LSN `json:"start_lsn"`
	WriteLSN   pg.LSN `json:"write_lsn"`
	FlushLSN   pg.LSN `json:"flush_lsn"`
	CommitLSN  pg.LSN `json:"commit_lsn"`
	BackupLSN  pg.LSN `json:"backup_lsn"`
	HorizonLSN pg.LSN `json:"horizon_lsn"`
	LocalBytes int64  `json:"local_bytes"` // disk space of its WAL on this node

	Backup    *BackupStatus    `json:"backup"` // null without object storage
	Source    SourceStatus     `json:"source"`
	Operation *OperationStatus `json:"operation"`
	Offloader *OffloaderStatus `json:"offloader"`
	Tasks     []TaskStatus     `json:"tasks"` // each one that exists, running or not, by name
	Gate      GateStatus       `json:"gate"`
	Manager   ManagerStatus    `json:"manager"`
	Peers     []PeerStatus     `json:"peers"`
}

// A SealStatus is the promise never again to acknowledge TLI, with the record end that was decided
// with it.
type SealStatus struct {
	TLI pg.TLI `json:"tli"`
	End pg.LSN `json:"end"`
}

// A QuorumStatus is what synchronous_standby_names of the source said when it was last read.
type QuorumStatus struct {
	K      int       `json:"k"`     // acknowledgements that a commit waits for
	N      int       `json:"n"`     // names that may give one; 0: unknown (`*`), or not synchronous
	Names  []string  `json:"names"` // distinct, in lower case
	ReadAt time.Time `json:"read_at,omitzero"`
	Text   string    `json:"text"` // the setting as PostgreSQL shows it

	// Synchronous says that the source's commits wait for this node.
	Synchronous bool `json:"synchronous"`
	// Why is the reason why it is not synchronous, or why its commits wait for ever, and what to do;
	// empty when all is well.
	Why string `json:"why,omitempty"`
	// Qualified and Joining exclude each other; both are false until a source was seen.
	Qualified bool `json:"qualified"`
	Joining   bool `json:"joining"`
}

// A DivergedStatus is WAL that was received and is not part of the history that was followed. It is
// kept in Path and never served.
type DivergedStatus struct {
	TLI  pg.TLI `json:"tli"`
	From pg.LSN `json:"from"` // the fork
	To   pg.LSN `json:"to"`   // the record end that was held
	Path string `json:"path"`
}

// A SourceStatus is the connection to the PostgreSQL server that WAL is streamed from.
type SourceStatus struct {
	Conninfo  string    `json:"conninfo"` // passwords replaced by "***"
	Connected bool      `json:"connected"`
	State     string    `json:"state"` // connecting, connected, refused, missing_wal, sealed, ended, poisoned, ...
	Since     time.Time `json:"since,omitzero"`
	Error     string    `json:"error"`
	WaitsFor  string    `json:"waits_for,omitempty"` // why it is not connected yet, though it may answer: turn, decisions
	LagBytes  *int64    `json:"lag_bytes"`           // source's end less the flush LSN; null while not known
}

// A BackupStatus is what object storage has of the timeline beside the whole segments up to BackupLSN, and whether it can
// be reached.
type BackupStatus struct {
	Store         string         `json:"store"`          // its URL, without credentials
	Available     bool           `json:"available"`      // it answered when it was last asked
	Error         string         `json:"error"`          // why it is not available, or the last upload failed
	LagBytes      *int64         `json:"lag_bytes"`      // commit LSN less the backup LSN; null while not known
	Partial       *PartialStatus `json:"partial"`        // null while it has none, or that is not known
	QueueSegments *int64         `json:"queue_segments"` // whole segments that wait for their upload; null while not known
	// HeldBack is why WAL that is durable here may not go there yet; empty: all of it may.
	HeldBack string `json:"held_back,omitempty"`
}

// A PartialStatus is the newest open segment in object storage.
type PartialStatus struct {
	TLI pg.TLI    `json:"tli"`
	End pg.LSN    `json:"end"`
	At  time.Time `json:"at"` // when it was read: what came later is not in it
}

// An OperationStatus is a lifecycle operation under way: create, delete, seal, ...
type OperationStatus struct {
	Name  string    `json:"name"`
	Step  string    `json:"step"`
	Since time.Time `json:"since"`
}

// An OffloaderStatus is the node whose turn it is to back the timeline up.
type OffloaderStatus struct {
	Node   string    `json:"node"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
}

// A TaskStatus is one task of the timeline, with the plan's reason why it runs or does not.
type TaskStatus struct {
	Name      string    `json:"name"`
	State     string    `json:"state"` // running, waiting (for its next try), stopped
	Reason    string    `json:"reason"`
	Since     time.Time `json:"since,omitzero"` // in State
	Restarts  int64     `json:"restarts"`
	LastError string    `json:"last_error"`
}

// A GateStatus is the door of the timeline, and who is inside.
type GateStatus struct {
	State   string       `json:"state"` // open, closing, closed
	Holders []GateHolder `json:"holders"`
}

// A GateHolder is one pass that was not left yet.
type GateHolder struct {
	Name    string    `json:"name"` // the kind of holder, from a closed list
	Since   time.Time `json:"since"`
	TraceID string    `json:"trace_id"` // empty when the holder is not traced
	Client  string    `json:"client"`   // the address that the request came from; empty: no request, or not known
	File    string    `json:"file"`     // the WAL file that is wanted; empty: none
}

// String names a holder with what it wants: "wal_download of 000000010000000000000007 for 127.0.0.1:40404".
func (h GateHolder) String() string {
	text := h.Name
	if h.File != "" {
		text += " of " + h.File
	}
	if h.Client != "" {
		text += " for " + h.Client
	}
	return text
}

// A ManagerStatus is what the timeline's manager does at this moment.
type ManagerStatus struct {
	Phase          string    `json:"phase"`
	PhaseSince     time.Time `json:"phase_since,omitzero"`
	Iterations     int64     `json:"iterations"`
	NoopIterations int64     `json:"noop_iterations"`
	LastReason     string    `json:"last_reason"`
}

// A PeerStatus is another node that keeps this timeline, as it was last heard of.
type PeerStatus struct {
	Node   string    `json:"node"`
	Seen   time.Time `json:"seen"`   // when anything was last heard of it
	Silent bool      `json:"silent"` // for longer than a live node is

	TLI       pg.TLI `json:"tli"`
	FlushLSN  pg.LSN `json:"flush_lsn"`
	BackupLSN pg.LSN `json:"backup_lsn"`

	SourceConnected bool `json:"source_connected"`
	Qualified       bool `json:"qualified"`
	Offloader       bool `json:"offloader"` // it thinks that it is its turn to back the timeline up
}
