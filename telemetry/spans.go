package telemetry

import "github.com/prometheus/client_golang/prometheus"

// spans are the catalogue's. Their attributes tenant, timeline and incarnation are not repeated.
var spans = []Span{
	{"manager.iteration", []string{"reason", "outcome", "snapshot_seconds", "plan_seconds", "apply_seconds"}, "the request that woke it",
		"A turn of a manager's loop. Events: task.start, task.stop, active.changed, offloader.changed, control.save, each with its why. One that acted, or took over 100 ms, is always there."},
	{"manager.phase.wait", []string{"phase", "age"}, "the iteration", "Each second while a manager is longer than 5 s in a phase other than waiting for a change."},
	{"task.spawn", []string{"task", "attempt"}, "", "A task was started; child of the iteration that decided it."},
	{"task.end", []string{"task", "attempt", "outcome", "ran_seconds", "error.type"}, "its task.spawn", "A task ended."},
	{"gate.hold", []string{"gate", "holder", "file", "client"}, "", "A stay of over a second in a gate, in the trace of whoever stayed; of one that a close waits for also when it is first named: its other spans have not ended. File and client are those of a WAL file that is handed back; another request has the client."},
	{"gate.close", []string{"gate"}, "", "A gate closes: from refusing newcomers until the last one left."},
	{"gate.close.wait", []string{"gate", "holders", "holder_count", "oldest_age"}, "the traces of up to 16 holders", "Each second while a gate closes: who is inside, with the file that is wanted and the client's address where it is a request."},
	{"receive.session", []string{"start", "server_version"}, "the task.spawn of the receiver", "A source was connected, and streams."},
	{"wal.fsync", []string{"bytes", "flush"}, "the receive.session, and the task.spawn of the receiver", "A sync that failed or took over 100 ms; of the others one a second and timeline, by chance."},
	{"wal.ack", []string{"bytes", "flush"}, "", "An acknowledgement that took over 100 ms; child of its sync."},
	{"backup.segment", []string{"tli", "segment", "partial", "bytes", "stored_bytes", "created", "outcome"}, "the task.spawn of the task that uploads, and the last receive.session",
		"An upload of a segment, whole or open (partial). One that failed or took over 10 s is always there, the others by chance."},
	{"segment.remove", []string{"below", "segments", "bytes"}, "the task.spawn of the task that removes", "Local segments were removed."},
	{"wal.fetch", []string{"file", "client", "answer", "bytes"}, "", "A request for a WAL file, until it was read; below the request's span. Its answer: file, absent, unknown."},
	{"broker.round", []string{"kind", "timelines", "messages", "bytes"}, "", "A round of telling the other nodes. One that took over 100 ms is always there, the others by chance."},
	{"timeline.create", nil, "", "A timeline is created; in the trace of the request that asked, as all that follow, also where the work goes on without it."},
	{"timeline.set", nil, "", "A timeline's source is set."},
	{"timeline.delete", nil, "", "A timeline is deleted."},
	{"timeline.seal", nil, "", "A timeline is sealed."},
	{"timeline.unseal", nil, "", "A seal is taken back."},
	{"timeline.trim", nil, "", "Old segments are removed from object storage."},
	{"timeline.drain", nil, "", "What is held of a timeline is brought to object storage, before the node stops."},
	{"timeline.end", nil, "", "A timeline that was deleted on another node is stopped here; what it holds stays."},
	{"timeline.restore", nil, "", "A timeline that holds nothing takes over what object storage knows of it."},
	{"tenant.create", nil, "", "A tenant is created, if it is not there."},
	{"tenant.delete", nil, "", "A tenant is deleted, with its timelines."},
	{"tenant.attach", nil, "", "A tenant goes over to the mode attached."},
	{"tenant.secondary", nil, "", "A tenant goes over to the mode secondary."},
	{"tenant.detach", nil, "", "A tenant goes over to the mode detached."},
	{"lifecycle.step", []string{"operation", "step"}, "", "One step of such an operation."},
	{"lifecycle.step.wait", []string{"operation", "step", "age"}, "", "Each second while a step takes longer than 5 s."},
	{"node.stuck", []string{"what", "which", "doing", "age"}, "", "Something is stuck outside of a shutdown (manager, operation, gate), and what every goroutine does is written down. Event: diagnostics, with the path. At most one a minute."},
	{"timeline.shutdown", []string{"cause"}, "", "A timeline shuts down, for the node or an operation; its gate.close is below."},
	{"tenant.shutdown", []string{"cause"}, "", "A tenant shuts down, its timelines side by side."},
	{"node.shutdown", []string{"cause"}, "", "A shutdown of the node, from the signal until the last spans are sent off."},
	{"shutdown.stage", []string{"stage", "limit"}, "", "One stage of it. Event: diagnostics, with the path of what was written down when it was late."},
	{"shutdown.stage.wait", []string{"stage", "waits_for"}, "", "Each second while a stage is late: once half of its time is over."},
}

// A spanCollector tells what became of the spans.
type spanCollector struct {
	desc     *prometheus.Desc
	accounts *accounts
}

// Describe implements prometheus.Collector.
func (c *spanCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *spanCollector) Collect(ch chan<- prometheus.Metric) {
	for result, n := range map[string]uint64{
		"exported": c.accounts.exported.Load(), "failed": c.accounts.failed.Load(), "dropped": c.accounts.dropped.Load(),
	} {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, float64(n), result)
	}
}
