package telemetry

import (
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

// Closed lists of label values: each has its series from the start, so that an absence means that the
// node does not answer.
var (
	tenantModes = []string{"attached", "secondary", "detached"}
	gateKinds   = []string{"tenant", "timeline", "http"}
	taskNames   = []tasks.Name{manager.Receive, manager.Settings, manager.Backup, manager.BackupPartial, manager.Follow, manager.Remove, "trim"}
)

// emit emits what is said of the node as a whole.
func (e *emission) emit() {
	n, timelines := e.node, e.timelines
	e.value("node_stage", 1, n.Stage)
	for _, mode := range tenantModes {
		e.value("tenants", float64(n.Tenants[mode]), mode)
	}
	for _, s := range n.Shutdown {
		e.value("shutdown_stage_seconds", s.Taken.Seconds(), s.Name)
		e.value("shutdown_stage_limit_seconds", s.Limit.Seconds(), s.Name)
	}
	if n.DataDirCapacity > 0 {
		e.value("data_dir_free_bytes", float64(n.DataDirFree))
		e.value("data_dir_capacity_bytes", float64(n.DataDirCapacity))
	}
	if n.Store != nil {
		e.store(n.Store)
	}
	if n.Broker != nil {
		e.broker(n.Broker)
	}
	sum := newSums()
	for _, t := range timelines {
		sum.add(t)
	}
	e.sums(sum)
	e.gates(n.Gates, timelines)
	e.wakeupTotals(timelines)
}

// store emits what the object store is doing. An operation that hangs is in no histogram.
func (e *emission) store(s *StoreStats) {
	e.value("objectstore_available", number(s.Available))
	e.value("objectstore_pending_operations", float64(s.Pending))
	if s.Pending > 0 {
		e.value("objectstore_pending_seconds", s.OldestPending.Seconds())
	}
	e.value("backup_uploads_running", float64(s.Uploads))
	if s.UploadLimit > 0 {
		e.value("backup_concurrency_limit", float64(s.UploadLimit))
	}
}

// sums are aggregates over all timelines.
type sums struct {
	states           map[timeline.State]int
	active           int
	local            int64
	syncSince        time.Time // the oldest
	running, waiting map[tasks.Name]int
	phases           map[manager.Phase]time.Time // the oldest in each
	operations       map[[2]string]time.Time     // the oldest by name and step
	queue            *int64                      // nil: no timeline knows it
	retained         *RetainedBytes              // nil: no timeline knows it
}

func newSums() *sums {
	return &sums{
		states: map[timeline.State]int{}, running: map[tasks.Name]int{}, waiting: map[tasks.Name]int{},
		phases: map[manager.Phase]time.Time{}, operations: map[[2]string]time.Time{},
	}
}

func (s *sums) add(t *TimelineStats) {
	s.states[t.State]++
	s.local += t.LocalBytes
	s.syncSince = older(s.syncSince, t.SyncSince)
	if t.Manager.Active {
		s.active++
	}
	s.phases[t.Manager.Phase] = older(s.phases[t.Manager.Phase], t.Manager.PhaseSince)
	for _, task := range t.Manager.Tasks {
		switch {
		case task.Status.Running:
			s.running[task.Decision.Task]++
		case task.Decision.Action == manager.Waiting:
			s.waiting[task.Decision.Task]++
		}
	}
	s.addBackup(t)
	if t.Operation != "" {
		key := [2]string{t.Operation, t.OperationStep}
		s.operations[key] = older(s.operations[key], t.OperationSince)
	}
}

// addBackup leaves out the timelines that do not know.
func (s *sums) addBackup(t *TimelineStats) {
	if t.QueueSegments != nil {
		if s.queue == nil {
			s.queue = new(int64)
		}
		*s.queue += *t.QueueSegments
	}
	if t.Retained != nil {
		if s.retained == nil {
			s.retained = &RetainedBytes{}
		}
		s.retained.NotBackedUp += t.Retained.NotBackedUp
		s.retained.Reader += t.Retained.Reader
		s.retained.Configured += t.Retained.Configured
	}
}

// older returns the earlier of two times; a zero one is none.
func older(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

func (e *emission) sums(s *sums) {
	for _, state := range timeline.States() {
		e.value("timelines", float64(s.states[state]), string(state))
	}
	e.value("timelines_active", float64(s.active))
	e.value("wal_local_bytes", float64(s.local))
	if s.queue != nil {
		e.value("backup_queue_segments", float64(*s.queue))
	}
	if s.retained != nil {
		e.value("wal_retained_bytes", float64(s.retained.NotBackedUp), "not_backed_up")
		e.value("wal_retained_bytes", float64(s.retained.Reader), "reader")
		e.value("wal_retained_bytes", float64(s.retained.Configured), "configured")
	}
	e.age("wal_fsync_pending_seconds", s.syncSince)
	for _, name := range taskNames {
		e.value("tasks_running", float64(s.running[name]), string(name))
		e.value("tasks_waiting", float64(s.waiting[name]), string(name))
	}
	for _, p := range manager.Phases() {
		if p.IsWork() {
			e.age("manager_phase_age_seconds", s.phases[p], p.String())
		}
	}
	for op, since := range s.operations {
		e.age("lifecycle_operation_age_seconds", since, op[0], op[1])
	}
}

// gates emits the holders of all gates by kind, and more of those that are closing.
func (e *emission) gates(tenants []GateStats, timelines []*TimelineStats) {
	holders, oldest := map[string]int{}, map[string]time.Time{}
	add := func(g GateStats) {
		holders[g.Kind] += g.Inside
		oldest[g.Kind] = older(oldest[g.Kind], g.Oldest)
		if !g.ClosingSince.IsZero() && !g.Closed {
			e.closingGate(g)
		}
	}
	for _, g := range tenants {
		add(g)
	}
	for _, t := range timelines {
		add(t.Gate)
	}
	for _, kind := range gateKinds {
		e.value("gate_holders", float64(holders[kind]), kind)
		e.age("gate_oldest_holder_seconds", oldest[kind], kind)
	}
}

func (e *emission) closingGate(g GateStats) {
	e.age("gate_closing_seconds", g.ClosingSince, g.Tenant, g.Timeline, g.Kind)
	inside := map[gate.Holder]int{}
	for _, h := range g.Holders() {
		inside[h.Name]++
	}
	for holder, n := range inside {
		e.value("gate_close_holders", float64(n), g.Tenant, g.Timeline, g.Kind, string(holder))
	}
}

// wakeupKey is a pair of the metric's labels.
type wakeupKey struct {
	reason timeline.WakeReason
	result timeline.WakeResult
}

// wakeupTotals adds the timelines' own counts up, so that the sum never falls: what a timeline that is gone
// has counted stays in it. One scrape at a time.
type wakeupTotals struct {
	gone map[wakeupKey]uint64
	last map[*timeline.Wake]bool // those that were there
}

func newWakeupTotals() *wakeupTotals {
	return &wakeupTotals{gone: map[wakeupKey]uint64{}, last: map[*timeline.Wake]bool{}}
}

func (w *wakeupTotals) update(timelines []*TimelineStats) map[wakeupKey]uint64 {
	now := make(map[*timeline.Wake]bool, len(timelines))
	for _, t := range timelines {
		if t.Wake != nil {
			now[t.Wake] = true
		}
	}
	var gone []*timeline.Wake
	for wake := range w.last {
		if !now[wake] {
			gone = append(gone, wake)
		}
	}
	w.last = now
	addCounts(w.gone, slices.Values(gone))
	total := maps.Clone(w.gone)
	addCounts(total, maps.Keys(now))
	return total
}

func addCounts(to map[wakeupKey]uint64, wakes iter.Seq[*timeline.Wake]) {
	reasons, results := timeline.Reasons(), timeline.WakeResults()
	for wake := range wakes {
		for _, reason := range reasons {
			for _, result := range results {
				if n := wake.Count(reason, result); n > 0 {
					to[wakeupKey{reason, result}] += n
				}
			}
		}
	}
}

func (e *emission) wakeupTotals(timelines []*TimelineStats) {
	for key, n := range e.wakeups.update(timelines) {
		e.value("manager_wakeups_total", float64(n), key.reason.String(), key.result.String())
	}
}
