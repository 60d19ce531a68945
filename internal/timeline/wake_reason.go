package timeline

import (
	"math/bits"
	"strings"
)

// WakeReason is why a manager looks again.
type WakeReason uint8

// The reasons, the weightiest first: an iteration that has several is counted
// under the first.
const (
	// ReasonStarted: the manager's first iteration.
	ReasonStarted WakeReason = iota
	// ReasonRecovered: an iteration panicked, and the manager tries again.
	ReasonRecovered
	// ReasonRequest: somebody asked for something else: a source, a seal, a mode.
	ReasonRequest
	// ReasonStateChanged: the timeline's state or its log's changed by itself, as
	// by a failed sync.
	ReasonStateChanged
	// ReasonTaskEnded: a task of the timeline ended.
	ReasonTaskEnded
	// ReasonSourceConnected: the source accepted us, or is gone.
	ReasonSourceConnected
	// ReasonTLIChanged: the source's history went on to another TLI.
	ReasonTLIChanged
	// ReasonSegmentComplete: the commit LSN crossed a segment's border.
	ReasonSegmentComplete
	// ReasonWALResumed: WAL arrives after a time without.
	ReasonWALResumed
	// ReasonBackupAdvanced: a segment became durable in object storage.
	ReasonBackupAdvanced
	// ReasonPeerUpdate: a peer told something that may change a decision.
	ReasonPeerUpdate
	// ReasonTimer: a time came that the plan had named.
	ReasonTimer

	numReasons = iota
)

var reasonNames = [numReasons]string{
	"started", "recovered", "request", "state_changed", "task_ended", "source_connected", "tli_changed",
	"segment_complete", "wal_resumed", "backup_advanced", "peer_update", "timer",
}

// Reasons lists all reasons.
func Reasons() []WakeReason { return WakeReasons(1<<numReasons - 1).All() }

// String returns the reason as metrics and logs name it.
func (r WakeReason) String() string { return reasonNames[r] }

func (r WakeReason) set() WakeReasons { return 1 << r }

// WakeReasons is a set of reasons.
type WakeReasons uint32 // one bit for each reason

// With returns the set with r in it.
func (s WakeReasons) With(r WakeReason) WakeReasons { return s | r.set() }

// Has reports whether r is in the set.
func (s WakeReasons) Has(r WakeReason) bool { return s&r.set() != 0 }

// First returns the weightiest reason of a set that is not empty.
func (s WakeReasons) First() WakeReason { return WakeReason(bits.TrailingZeros32(uint32(s))) }

// All lists the set, the weightiest first.
func (s WakeReasons) All() []WakeReason {
	var list []WakeReason
	for ; s != 0; s &^= s.First().set() {
		list = append(list, s.First())
	}
	return list
}

// String joins the names of the set's reasons.
func (s WakeReasons) String() string {
	var names []string
	for _, r := range s.All() {
		names = append(names, r.String())
	}
	return strings.Join(names, ",")
}

// WakeResult is what became of news.
type WakeResult uint8

// The results.
const (
	Woke       WakeResult = iota // it rang the bell
	Coalesced                    // the bell had been rung, and not been heard yet
	Irrelevant                   // it crossed no threshold
	numResults = iota
)

// WakeResults lists all results.
func WakeResults() []WakeResult { return []WakeResult{Woke, Coalesced, Irrelevant} }

var resultNames = [numResults]string{"woke", "coalesced", "irrelevant"}

// String returns the result as metrics name it.
func (r WakeResult) String() string { return resultNames[r] }
