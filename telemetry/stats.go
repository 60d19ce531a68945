package telemetry

import (
	"time"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/timeline"
)

// A Source is what the collector asks at each scrape. No method may wait for anything.
type Source interface {
	Node() NodeStats
	// Timelines are all that the node has, those that shut down included, in no order.
	Timelines() []TimelineStats
	// NameHolders tells what is known of those inside a timeline's gate, or, where the id has no name, a tenant's, or, where it
	// is empty, the node's own: of all, in their order. It is asked while somebody waits for them, or one leaves who was long inside.
	NameHolders(id timeline.ID, holders []gate.HolderInfo) []timeline.GateHolder
}

// NodeStats are the numbers of the node itself.
type NodeStats struct {
	Stage   string         // that it is in
	Tenants map[string]int // by mode
	// Shutdown has the stages of the shutdown that began, in their order; nil while the node serves.
	Shutdown []StageStats
	// Gates are the tenants' gates; the timelines' are theirs.
	Gates []GateStats

	DataDirFree, DataDirCapacity int64 // bytes; 0: not known

	Store  *StoreStats  // nil: none is configured
	Broker *BrokerStats // nil: there are no other nodes
}

// StoreStats is the object store as the node uses it. One that could not be opened yet has no numbers.
type StoreStats struct {
	backup.Stats
}

// StageStats is one stage of a shutdown.
type StageStats struct {
	Name         string
	Taken, Limit time.Duration
}

// GateStats is one gate.
type GateStats struct {
	Kind             string // "tenant" or "timeline"
	Tenant, Timeline string
	gate.Stats
	// Holders lists who is inside; it is asked only while the gate closes.
	Holders func() []gate.HolderInfo
}

// TimelineStats are the numbers of one timeline. Positions are 0 while they are not known.
type TimelineStats struct {
	ID          timeline.ID
	Incarnation timeline.Incarnation
	Mode        string
	State       timeline.State
	TLI         pg.TLI

	StartLSN, WriteLSN, FlushLSN, CommitLSN pg.LSN
	BackupLSN, HorizonLSN                   pg.LSN
	ReceivedBytes                           int64 // since the node opened it
	LocalBytes, DivergedBytes               int64
	SyncSince                               time.Time // when the sync began that runs now; zero: none does

	SourceConnected bool
	SourceState     string
	LagBytes        int64
	LagKnown        bool

	// BackupLagBytes is the WAL from the backup LSN to the commit LSN; nil: not known, or no object storage.
	BackupLagBytes *int64
	// OldestUnbackedSince is when the oldest whole segment below the commit LSN became one that is not in object storage;
	// zero: there is none, or, while the lag is not known either, it is not known.
	OldestUnbackedSince time.Time
	QueueSegments       *int64         // whole segments below the commit LSN that are not in object storage; nil: not known
	Retained            *RetainedBytes // nil: not known

	Offloader *bool // it is this node's turn to back it up; nil: no object storage

	QuorumKnown    bool // the setting was read
	Synchronous    bool
	WasSynchronous bool // now or ever
	QuorumRequired int
	QuorumReady    int

	Operation      string // under way; empty: none
	OperationStep  string
	OperationSince time.Time

	Manager manager.Status
	Wake    *timeline.Wake // nil: not counted
	Gate    GateStats
}

// RetainedBytes is why WAL is on the local disk. Each byte counts once: for the first of these that keeps it.
type RetainedBytes struct {
	NotBackedUp int64 // it is not in object storage
	Reader      int64 // somebody reads it
	Configured  int64 // retain.local_bytes
}

// troubled says that somebody may be looking for this timeline.
func (s *TimelineStats) troubled() bool {
	return s.State != timeline.StateRunning || !s.SourceConnected || !s.Synchronous || s.DivergedBytes > 0
}

// restarts is how often one of its tasks was started after a failure.
func (s *TimelineStats) restarts() (n uint64) {
	for _, t := range s.Manager.Tasks {
		n += t.Status.Restarts
	}
	return n
}
