package telemetry

import (
	"fmt"
	"slices"
)

// Kind is the type of a metric, as Prometheus has them.
type Kind string

// The kinds of metrics.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram" // classic and native at once
)

// Tier says how many series a metric has.
type Tier string

// The tiers.
const (
	// TierNode: aggregates over the node, by closed lists. All histograms are here.
	TierNode Tier = "node"
	// TierVital: some series of every timeline, always, so that alerts work.
	TierVital Tier = "vital"
	// TierDetail: more about a limited number of timelines, the troubled ones first; about all of them at
	// /metrics/timelines.
	TierDetail Tier = "detail"
)

// namespace begins every metric's name.
const namespace = "sluice_"

// A Metric describes one metric.
type Metric struct {
	Name   string // whole
	Kind   Kind
	Unit   string // "seconds", "bytes", or "" for a count or a state
	Labels []string
	Tier   Tier
	Help   string
}

// A Span describes the spans of one name.
type Span struct {
	Name       string
	Attributes []string // besides tenant, timeline and incarnation, where it belongs to a timeline
	Links      string   // what it links to; empty: nothing
	Help       string
}

// A Catalogue is everything that a node can tell.
type Catalogue struct {
	Metrics []Metric
	Spans   []Span
	// Values has the values of each label whose list is closed, by the metric's name and the label's.
	Values map[string]map[string][]string
}

// Catalog lists every metric and every span. The lists are the caller's.
func Catalog() Catalogue {
	c := Catalogue{Metrics: slices.Clone(metrics), Spans: slices.Clone(spans), Values: map[string]map[string][]string{}}
	for name, of := range labelValues() {
		c.Values[namespace+name] = of
	}
	for i := range c.Metrics {
		c.Metrics[i].Name = namespace + c.Metrics[i].Name
	}
	return c
}

// metric finds a metric by its name without the namespace. One that is not declared is a bug of this
// package's, found by the first test that makes a Telemetry.
func metric(name string) Metric {
	i := slices.IndexFunc(metrics, func(m Metric) bool { return m.Name == name })
	if i < 0 {
		panic(fmt.Sprintf("telemetry: the catalogue has no %s", name))
	}
	m := metrics[i]
	m.Name = namespace + m.Name
	return m
}

// perTimeline are the first labels of the vital and the detail tier.
func perTimeline(more ...string) []string { return append([]string{"tenant", "timeline"}, more...) }

// metrics are the catalogue's, by part. The names are without the namespace.
var metrics = []Metric{
	// Node.
	{"build_info", Gauge, "", []string{"version", "revision", "go_version"}, TierNode, "Always 1; the labels say what runs."},
	{"tenants", Gauge, "", []string{"mode"}, TierNode, "Tenants on this node."},
	{"timelines", Gauge, "", []string{"state"}, TierNode, "Timelines on this node."},
	{"timelines_active", Gauge, "", nil, TierNode, "Timelines that have something to tell the broker."},
	{"active_changes_total", Counter, "", nil, TierNode, "Times that a timeline became active, or ceased to be."},
	{"node_stage", Gauge, "", []string{"stage"}, TierNode, "1 for the stage that the node is in: starting, running, or a stage of its shutdown."},
	{"shutdown_stage_seconds", Gauge, "seconds", []string{"stage"}, TierNode, "How long each stage of the shutdown has taken so far. Only while stopping."},
	{"shutdown_stage_limit_seconds", Gauge, "seconds", []string{"stage"}, TierNode, "How long each stage of the shutdown may take. Only while stopping."},

	// Manager.
	{"manager_iterations_total", Counter, "", []string{"reason", "outcome"}, TierNode, "Turns of managers' loops, by what woke them, and whether they acted or did nothing (noop)."},
	{"manager_iteration_duration_seconds", Histogram, "seconds", []string{"outcome"}, TierNode, "Duration of managers' iterations."},
	{"manager_phase_age_seconds", Gauge, "seconds", []string{"phase"}, TierNode, "How long the manager that is longest in a phase has been in it. Waiting for a change is no phase."},
	{"manager_wakeups_total", Counter, "", []string{"reason", "result"}, TierNode, "Wake-ups of managers: it woke one, was coalesced with another, or was irrelevant to what the manager waits for."},

	// Tasks.
	{"task_spawns_total", Counter, "", []string{"task"}, TierNode, "Starts of tasks."},
	{"task_ends_total", Counter, "", []string{"task", "outcome"}, TierNode, "Ends of tasks: done, cancelled, error, panic."},
	{"task_restarts_total", Counter, "", []string{"task"}, TierNode, "Starts of tasks after a run that failed or panicked."},
	{"tasks_running", Gauge, "", []string{"task"}, TierNode, "Tasks that run now."},
	{"tasks_waiting", Gauge, "", []string{"task"}, TierNode, "Tasks that should run and wait for their next try."},
	{"task_duration_seconds", Histogram, "seconds", []string{"task"}, TierNode, "How long tasks ran."},

	// Gates.
	{"gate_entries_total", Counter, "", []string{"gate", "result"}, TierNode, "Attempts to enter a gate: entered, or refused because it closes."},
	{"gate_holders", Gauge, "", []string{"gate"}, TierNode, "Passes that are held now."},
	{"gate_oldest_holder_seconds", Gauge, "seconds", []string{"gate"}, TierNode, "Age of the oldest pass that is held now."},
	{"gate_closes_total", Counter, "", []string{"gate", "outcome"}, TierNode, "Closes of gates: complete, or given up while holders remained."},
	{"gate_close_duration_seconds", Histogram, "seconds", []string{"gate"}, TierNode, "How long closes of gates waited for those inside."},
	{"gate_misuse_total", Counter, "", []string{"kind"}, TierNode, "Passes that were used wrongly; each one is a bug."},
	{"gate_closing_seconds", Gauge, "seconds", perTimeline("gate"), TierNode, "How long this gate has been closing. Only while it does."},
	{"gate_close_holders", Gauge, "", perTimeline("gate", "holder"), TierNode, "Who keeps this gate from closing. Only while it closes."},

	// Broker.
	{"broker_connected", Gauge, "", nil, TierNode, "1 while the broker through which other nodes are heard can be reached. Absent without other nodes, as all of this part."},
	{"broker_messages_total", Counter, "", []string{"direction", "kind"}, TierNode, "Messages between nodes, sent and received: status of timelines, greeting."},
	{"broker_errors_total", Counter, "", []string{"reason"}, TierNode, "What came and was not used, or could not be sent, and why."},
	{"broker_last_message_timestamp_seconds", Gauge, "seconds", []string{"peer"}, TierNode, "When another node was last heard, Unix time of this node's clock; it is forgotten after ten minutes."},
	{"broker_round_duration_seconds", Histogram, "seconds", nil, TierNode, "Duration of rounds: telling the other nodes about the active timelines, once a second and at once on a change."},

	// Lifecycle.
	{"lifecycle_operations_total", Counter, "", []string{"operation", "outcome"}, TierNode, "Lifecycle operations that ended: ok, error, or cancelled (the node stopped; it goes on at the next start)."},
	{"lifecycle_operation_age_seconds", Gauge, "seconds", []string{"operation", "step"}, TierNode, "Age of the oldest lifecycle operation under way."},

	// Receive and sync.
	{"wal_received_bytes_total", Counter, "bytes", nil, TierNode, "WAL that was received and made durable."},
	{"wal_ack_duration_seconds", Histogram, "seconds", nil, TierNode, "From reading the first of a batch of WAL off the socket to reporting it as durable: what Sluice adds to a commit."},
	{"wal_fsync_duration_seconds", Histogram, "seconds", nil, TierNode, "Duration of syncs."},
	{"wal_fsync_batch_bytes", Histogram, "bytes", nil, TierNode, "WAL that one sync made durable."},
	{"wal_fsync_failures_total", Counter, "", nil, TierNode, "Syncs that failed. Each one poisons a log; the WAL since the sync before is received again."},
	{"wal_fsync_pending_seconds", Gauge, "seconds", nil, TierNode, "Age of the oldest sync that is running now: a sync that hangs is in no histogram."},
	{"source_connects_total", Counter, "", []string{"outcome"}, TierNode, "Attempts to stream from a source: connected, refused, missing_wal, error."},
	{"source_refused_total", Counter, "", []string{"reason"}, TierNode, "Sources that were refused, because they could damage what is kept."},

	// Backup.
	{"backup_segments_total", Counter, "", []string{"outcome"}, TierNode, "Uploads of whole segments that ended: created, present (it was there already), cancelled, or the class of the failure: conflict, damaged, denied, no_bucket, not_stored, cut (no answer in time), error. Absent without object storage, as all of this part."},
	{"backup_partials_total", Counter, "", []string{"outcome"}, TierNode, "Uploads of open segments that ended, as for whole ones."},
	{"backup_bytes_total", Counter, "bytes", []string{"form"}, TierNode, "What uploads made durable: raw is WAL, stored is what it was compressed to."},
	{"backup_queue_segments", Gauge, "", nil, TierNode, "Whole segments that may be uploaded and are not in object storage. Absent while it is not known."},
	{"backup_uploads_running", Gauge, "", nil, TierNode, "Segments that are being uploaded now."},
	{"backup_concurrency_limit", Gauge, "", nil, TierNode, "How many segments may be uploaded at once, as configured."},
	{"backup_conflicts_total", Counter, "", nil, TierNode, "Objects that were there already with other content. Nothing was overwritten; a person has to find out which is right."},
	{"objectstore_available", Gauge, "", nil, TierNode, "1 if object storage answered when it was last asked."},
	{"objectstore_operation_duration_seconds", Histogram, "seconds", []string{"operation", "outcome"}, TierNode, "Duration of operations on object storage. exists (refused, as it has to be) and not_found are answers, no failures; cut: no answer in time."},
	{"objectstore_pending_operations", Gauge, "", nil, TierNode, "Operations on object storage that are under way."},
	{"objectstore_pending_seconds", Gauge, "seconds", nil, TierNode, "Age of the oldest operation under way: one that hangs is in no histogram. Absent when there is none."},
	{"objectstore_damaged_objects_total", Counter, "", nil, TierNode, "Objects that were found not to be what was written. They are kept, and do not count as there."},

	// Disk.
	{"data_dir_free_bytes", Gauge, "bytes", nil, TierNode, "Free space on the file system of data_dir."},
	{"data_dir_capacity_bytes", Gauge, "bytes", nil, TierNode, "Size of the file system of data_dir."},
	{"wal_local_bytes", Gauge, "bytes", nil, TierNode, "WAL on the local disk."},
	{"wal_retained_bytes", Gauge, "bytes", []string{"reason"}, TierNode, "WAL on the local disk by what keeps it. Each byte counts once: not_backed_up before reader before configured (retain.local_bytes). Absent while it is not known."},
	{"wal_removed_segments_total", Counter, "", nil, TierNode, "Segments that were removed from the local disk."},

	// Hand-back.
	{"restore_answers_total", Counter, "", []string{"answer"}, TierNode, "Answers to requests for a WAL file: file, absent (it does not exist), unknown (could not find out)."},

	// HTTP.
	{"http_request_duration_seconds", Histogram, "seconds", []string{"route", "method", "code"}, TierNode, "Duration of HTTP requests."},

	// Telemetry.
	{"telemetry_spans_total", Counter, "", []string{"result"}, TierNode, "Spans that ended: exported, failed (the collector refused them), dropped (the queue was full, or the time for the last export over)."},
	{"telemetry_errors_total", Counter, "", []string{"component"}, TierNode, "Errors of telemetry itself: traces, scrape, profiles."},
	{"telemetry_scrape_duration_seconds", Gauge, "seconds", nil, TierNode, "How long the walk over the timelines took at this scrape."},
	{"telemetry_timelines_omitted", Gauge, "", nil, TierNode, "Active timelines without detail series here, because of telemetry.timeline_metrics_limit; /metrics/timelines has all."},
	{"log_records_total", Counter, "", []string{"level"}, TierNode, "Log records written."},

	// Vital.
	{"timeline_state", Gauge, "", perTimeline("state"), TierVital, "1 for the state that the timeline is in."},
	{"timeline_source_connected", Gauge, "", perTimeline(), TierVital, "1 while WAL is streamed from the source."},
	{"timeline_source_state", Gauge, "", perTimeline("state"), TierVital, "1 for the state that the connection to the source is in: connected, connecting, refused, missing_wal (the source no longer has what is needed), stopped; above these sealed, poisoned (a write or sync failed), ended (deleted on another node), none (no source is set)."},
	{"timeline_source_lag_bytes", Gauge, "bytes", perTimeline(), TierVital, "WAL that the source has and this node has not made durable. Absent while it is not known."},
	{"timeline_backup_lag_bytes", Gauge, "bytes", perTimeline(), TierVital, "Committed WAL that object storage does not have: from the backup LSN to the commit LSN, the open segment included. Absent while it is not known, and without object storage."},
	{"timeline_backup_lag_seconds", Gauge, "seconds", perTimeline(), TierVital, "Age of the oldest whole segment that is not in object storage; 0 while all are. Absent while it is not known, and without object storage."},
	{"timeline_flush_lsn_bytes", Gauge, "bytes", perTimeline(), TierVital, "The flush LSN, as a number."},
	{"timeline_synchronous", Gauge, "", perTimeline(), TierVital, "1 if commits wait for this node, as synchronous_standby_names says. Absent until it was read."},
	{"timeline_was_synchronous", Gauge, "", perTimeline(), TierVital, "While commits do not wait for this node: 1 if they ever have, 0 if not yet, as with a timeline that is being set up. Absent while they do."},
	{"timeline_quorum_required", Gauge, "", perTimeline(), TierVital, "How many nodes have to seal before no quorum can be left without them. Absent until it is known."},
	{"timeline_quorum_ready", Gauge, "", perTimeline(), TierVital, "How many qualified nodes this node knows of, itself included."},
	{"timeline_diverged_bytes", Gauge, "bytes", perTimeline(), TierVital, "WAL that was received, is not part of the history that is followed, and is kept aside."},
	{"timeline_iterations_total", Counter, "", perTimeline("outcome"), TierVital, "Iterations of the timeline's manager."},
	{"timeline_offloader", Gauge, "", perTimeline(), TierVital, "1 on the node whose turn it is to back the timeline up, as it thinks. Absent without object storage."},
	{"timeline_task_restarts_total", Counter, "", perTimeline(), TierVital, "Starts of the timeline's tasks after a run that failed or panicked."},

	// Detail.
	{"timeline_info", Gauge, "", perTimeline("incarnation", "mode", "tli"), TierDetail, "Always 1; the labels say which life, and which TLI."},
	{"timeline_active", Gauge, "", perTimeline(), TierDetail, "1 while the timeline has something to tell the broker."},
	{"timeline_lsn_bytes", Gauge, "bytes", perTimeline("position"), TierDetail, "A position, as a number: start, write, flush, commit, backup (in object storage up to here), horizon (below, local WAL may be removed). Absent while it is not known."},
	{"timeline_tasks_running", Gauge, "", perTimeline("task"), TierDetail, "1 while the task runs."},
	{"timeline_gate_holders", Gauge, "", perTimeline(), TierDetail, "Passes of the timeline's gate that are held now."},
	{"timeline_received_bytes_total", Counter, "bytes", perTimeline(), TierDetail, "WAL received since the node opened the timeline."},
	{"timeline_local_bytes", Gauge, "bytes", perTimeline(), TierDetail, "WAL on the local disk."},
}
