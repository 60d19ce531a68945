package telemetry

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// noLimit has the detail series of every timeline collected.
const noLimit = -1

// A look is what the node was like at one moment: what one scrape answers with.
type look struct {
	at        time.Time
	took      time.Duration
	node      NodeStats
	timelines []*TimelineStats // by name
	detailed  []*TimelineStats // of them, those that have detail series
	omitted   int              // those that have none only because there are too many
}

// lookAt asks a node for its numbers. A panic is an error: it fails the scrape, and not the node.
func lookAt(src Source, limit int) (l *look, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("collect metrics: panic: %v", p)
		}
	}()
	l = &look{at: time.Now(), node: src.Node()}
	timelines := src.Timelines()
	for i := range timelines {
		l.timelines = append(l.timelines, &timelines[i])
	}
	slices.SortFunc(l.timelines, byID)
	l.choose(limit)
	l.took = time.Since(l.at)
	return l, nil
}

// choose decides which timelines have detail series: without a limit all, else those that are active or
// in trouble, the troubled ones first, then by name.
func (l *look) choose(limit int) {
	for _, s := range l.timelines {
		if limit == noLimit || s.Manager.Active || s.troubled() {
			l.detailed = append(l.detailed, s)
		}
	}
	if limit == noLimit || len(l.detailed) <= limit {
		return
	}
	slices.SortFunc(l.detailed, func(a, b *TimelineStats) int {
		return cmp.Or(-cmp.Compare(number(a.troubled()), number(b.troubled())), byID(a, b))
	})
	l.detailed, l.omitted = l.detailed[:limit], len(l.detailed)-limit
}

func byID(a, b *TimelineStats) int {
	return cmp.Or(cmp.Compare(a.ID.Tenant, b.ID.Tenant), cmp.Compare(a.ID.Name, b.ID.Name))
}

// since says how long ago something was; 0 when it is not there.
func (l *look) since(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return max(0, l.at.Sub(t).Seconds())
}

// pulled are the metrics of the node that are collected at a scrape; the others are counted as events come.
var pulled = []string{
	"tenants", "timelines", "timelines_active", "node_stage", "shutdown_stage_seconds", "shutdown_stage_limit_seconds",
	"manager_phase_age_seconds", "manager_wakeups_total", "tasks_running", "tasks_waiting",
	"gate_holders", "gate_oldest_holder_seconds", "gate_closing_seconds", "gate_close_holders",
	"lifecycle_operation_age_seconds", "wal_fsync_pending_seconds",
	"data_dir_free_bytes", "data_dir_capacity_bytes", "wal_local_bytes", "wal_retained_bytes",
	"objectstore_available", "objectstore_pending_operations", "objectstore_pending_seconds",
	"backup_uploads_running", "backup_concurrency_limit", "backup_queue_segments",
	"broker_connected", "broker_messages_total", "broker_errors_total", "broker_last_message_timestamp_seconds",
	"telemetry_scrape_duration_seconds", "telemetry_timelines_omitted",
}

// described are the metrics of the node with what the client library wants to know of each.
type described map[string]describedMetric

type describedMetric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func describe() described {
	all := described{}
	for _, name := range pulled {
		kind := prometheus.GaugeValue
		if metric(name).Kind == Counter {
			kind = prometheus.CounterValue
		}
		all[name] = describedMetric{newDesc(name), kind}
	}
	return all
}

// A nodeCollector collects what is said of the node as a whole, of one look at it.
type nodeCollector struct {
	*look
	descs   described
	wakeups *wakeupTotals
}

// Describe implements prometheus.Collector.
func (c *nodeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d.desc
	}
}

// Collect implements prometheus.Collector.
func (c *nodeCollector) Collect(ch chan<- prometheus.Metric) {
	e := &emission{nodeCollector: c, ch: ch}
	e.emit()
	e.value("telemetry_timelines_omitted", float64(c.omitted))
	e.value("telemetry_scrape_duration_seconds", c.took.Seconds())
}

// An emission is the node's part of one scrape.
type emission struct {
	*nodeCollector
	ch chan<- prometheus.Metric
}

// value emits a metric of the node; labels are the values of its labels, in the catalogue's order.
func (e *emission) value(name string, v float64, labels ...string) {
	d := e.descs[name]
	e.ch <- prometheus.MustNewConstMetric(d.desc, d.kind, v, labels...)
}

// age emits how long something has lasted; 0 when it is not there.
func (e *emission) age(name string, since time.Time, labels ...string) {
	e.value(name, e.since(since), labels...)
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
