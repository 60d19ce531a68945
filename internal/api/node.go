package api

import (
	"context"
	"crypto/sha256"
	"io"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/timeline"
)

// A Node is what the API needs of the node that it speaks for. All methods may be called at once, also
// while the node starts and stops.
//
// Errors that a client can do something about are made by [Errorf] and keep their kind through
// wrapping; every other error is the node's own fault and is answered with status 500.
//
// A method that changes something takes the context of the request as the time that its caller is
// ready to wait. When it ends, the method returns an error that wraps the context's, and the work goes
// on: it belongs to the timeline, not to the request. A second call joins it.
type Node interface {
	Info() NodeInfo
	// Ready returns nil while the node serves, and otherwise why it does not: it starts, or it stops.
	Ready() error

	Tenants() []Tenant // by name
	Tenant(id timeline.TenantID) (Tenant, error)
	// CreateTenant is idempotent; created says whether this call made it.
	CreateTenant(ctx context.Context, id timeline.TenantID) (tenant Tenant, created bool, err error)
	// SetTenantMode answers KindRefused while commits of a source wait for this node, unless force. An attach of a tenant that
	// only object storage knows makes it.
	SetTenantMode(ctx context.Context, id timeline.TenantID, mode Mode, force bool) (Tenant, error)
	// DeleteTenant deletes the tenant's timelines, too. It answers KindNotFound when there is none.
	DeleteTenant(ctx context.Context, id timeline.TenantID, keepObjects bool) error

	Timelines(tenant timeline.TenantID) ([]timeline.Status, error) // by name
	Timeline(id timeline.ID) (timeline.Status, error)
	// CreateTimeline makes the timeline, and the tenant if need be. KindExists: it is there, with any source.
	CreateTimeline(ctx context.Context, id timeline.ID, opts CreateOptions) (timeline.Status, error)
	// SetTimeline sets the source of a timeline that exists.
	SetTimeline(ctx context.Context, id timeline.ID, opts SetOptions) (timeline.Status, error)
	DeleteTimeline(ctx context.Context, id timeline.ID, keepObjects bool) error

	// Seal leaves the source and promises, durably, never again to acknowledge the TLI. Sealing twice
	// answers the end that was decided first.
	Seal(ctx context.Context, id timeline.ID, acceptDataLoss bool) (SealResult, error)
	// Unseal takes a seal back; KindRefused once its tail was handed out, unless force.
	Unseal(ctx context.Context, id timeline.ID, force bool) error
	// Trim removes whole segments, and copies of open ones, from object storage that lie below a segment. KindConflict: there is no
	// object storage.
	Trim(ctx context.Context, id timeline.ID, before string) (TrimResult, error)
	// Check asks the source whether it really waits for this node.
	Check(ctx context.Context, id timeline.ID) (CheckResult, error)
	// OpenWAL answers one request for a file. An error counts as [AnswerUnknown].
	OpenWAL(ctx context.Context, id timeline.ID, file string, opts WALOptions) (WAL, error)

	// Gates are the gates that are closing now, the oldest first; before them, the stage of a shutdown that is under way.
	Gates() []ClosingGate
}

// NodeInfo is what a node says of itself.
type NodeInfo struct {
	ID      string     `json:"id"`
	Version string     `json:"version"`
	Stage   string     `json:"stage"` // starting, running, or the stage of the shutdown
	Started time.Time  `json:"started,omitzero"`
	Peers   []PeerInfo `json:"peers"`
	// Broker is how the other nodes are heard; absent where there is none.
	Broker *BrokerInfo `json:"broker,omitempty"`
}

// BrokerInfo is the connection to the other nodes.
type BrokerInfo struct {
	Connected bool   `json:"connected"`
	Error     string `json:"error"` // why not, if that is known
}

// PeerInfo is another node, as this one knows it.
type PeerInfo struct {
	ID   string    `json:"id"`
	URL  string    `json:"url"`
	Seen time.Time `json:"seen,omitzero"` // last heard of; absent: not since this node started
	// Silent says that nothing was heard of it for longer than a live node is silent.
	Silent bool `json:"silent"`
}

// A Mode says what a tenant does on this node.
type Mode string

// The modes of a tenant.
const (
	ModeAttached  Mode = "attached"  // it streams from its sources
	ModeSecondary Mode = "secondary" // it keeps a warm copy, and is no member of a quorum
	ModeDetached  Mode = "detached"  // it does nothing here
)

// A Tenant is one customer's namespace.
type Tenant struct {
	Name      string `json:"tenant"`
	Mode      Mode   `json:"mode"`
	State     string `json:"state"`  // running, changing (its mode), stopped (detached), stopping
	Reason    string `json:"reason"` // of State, for people
	Timelines int    `json:"timelines"`
}

// CreateOptions are what a new timeline begins with.
type CreateOptions struct {
	Source string // conninfo; empty: none yet
	// New is the operator's word that no other node and no store has ever held this timeline.
	New bool
	// Incarnation names a life that object storage has, and that goes on; empty: a new one, or the one that is under way.
	// KindNotFound: there is none; KindConflict: it did not keep its objects, or another one is under way.
	Incarnation string
}

// SetOptions change a timeline.
type SetOptions struct {
	Source string // conninfo
	// AcceptDataLoss follows a source that lacks acknowledged commits.
	AcceptDataLoss bool
}

// A SealResult is the end that was decided, and who vouches for it.
type SealResult struct {
	TLI      pg.TLI   `json:"tli"`
	End      pg.LSN   `json:"end"`
	Nodes    []string `json:"nodes"`    // that sealed
	Warnings []string `json:"warnings"` // for the operator: what this seal does not promise
}

// A TrimResult is what was removed from object storage.
type TrimResult struct {
	Segments int    `json:"segments"`
	Bytes    int64  `json:"bytes"`  // of the objects
	Before   pg.LSN `json:"before"` // base backups that began at or above it can still be restored
}

// A CheckResult is the report of a timeline's check.
type CheckResult struct {
	OK    bool        `json:"ok"` // nothing failed; warnings may be there
	Lines []CheckLine `json:"checks"`
}

// A CheckLine is one thing that was looked at.
type CheckLine struct {
	Name   string      `json:"name"`
	Result CheckStatus `json:"result"`
	Text   string      `json:"text"` // what was found, and what to do about it
}

// CheckStatus is the result of one check.
type CheckStatus string

// The results of a check.
const (
	CheckOK   CheckStatus = "ok"
	CheckWarn CheckStatus = "warn"
	CheckFail CheckStatus = "fail"
)

// WALOptions say how much an operator insists on.
type WALOptions struct {
	// Copy: a clone for a test is being made, it may end at the last whole segment.
	Copy bool
	// AcceptDataLoss takes one node's word for "it does not exist".
	AcceptDataLoss bool
}

// An Answer to a request for a WAL file. There are three, never two: a "does not exist" that only means
// "I could not find out" ends a recovery early and loses commits.
type Answer string

// The three answers. The zero value is none of them and counts as AnswerUnknown.
const (
	AnswerFile    Answer = "file"
	AnswerAbsent  Answer = "absent"
	AnswerUnknown Answer = "unknown"
)

// A WAL is the answer to a request for a file.
type WAL struct {
	Answer Answer
	// Text says why, and what to do, in one or more lines; with AnswerFile it is a note, mostly empty.
	Text string

	// The rest is set with AnswerFile only.

	Size   int64             // of Body, in bytes
	Digest [sha256.Size]byte // SHA-256 of Body
	// Body has been verified. Closing it leaves the timeline's gate, so whoever reads must not wait for
	// anything else without watching Gone.
	Body io.ReadCloser
	// Gone is closed when the timeline shuts down; the reader then closes Body at once.
	Gone <-chan struct{}
}

// GateStage is the kind of a [ClosingGate] that is a stage of the node's shutdown.
const GateStage = "stage"

// A ClosingGate keeps somebody waiting.
type ClosingGate struct {
	Gate     string                `json:"gate"` // tenant, timeline, http (requests under way), stage
	Stage    string                `json:"stage,omitempty"`
	Tenant   string                `json:"tenant"`
	Timeline string                `json:"timeline,omitempty"`
	Since    time.Time             `json:"since"`
	Holders  []timeline.GateHolder `json:"holders"` // the oldest first
}
