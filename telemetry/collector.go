package telemetry

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluicewal/sluice/internal/timeline"
)

// noLimit has the detail series of every timeline collected.
const noLimit = -1

// pulled are the metrics that a collector emits; the others are counted as events come.
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

	"timeline_state", "timeline_source_connected", "timeline_source_state", "timeline_source_lag_bytes",
	"timeline_backup_lag_bytes", "timeline_backup_lag_seconds",
	"timeline_flush_lsn_bytes", "timeline_synchronous", "timeline_quorum_required", "timeline_quorum_ready",
	"timeline_diverged_bytes", "timeline_iterations_total", "timeline_task_restarts_total", "timeline_offloader",

	"timeline_info", "timeline_active", "timeline_lsn_bytes", "timeline_tasks_running", "timeline_gate_holders",
	"timeline_received_bytes_total", "timeline_local_bytes",
}

// A collector walks the timelines at each scrape. Series are made of what is there at that moment: those
// of a timeline that is gone are gone, too.
type collector struct {
	source func() Source // nil: nothing to collect yet
	failed func(error)
	walked func([]TimelineStats) // told what is there
	tiers  []Tier
	limit  int // of timelines with detail series
	descs  map[string]describedMetric

	mu      sync.Mutex // one scrape at a time
	labels  map[timeline.ID]*labelCache
	wakeups wakeupTotals
}

type describedMetric struct {
	Metric
	desc *prometheus.Desc
}

func newCollector(t *Telemetry, limit int, tiers ...Tier) *collector {
	c := &collector{
		source: t.watched, tiers: tiers, limit: limit,
		failed: func(err error) { t.errors.report("scrape", err) }, walked: t.keepScoped,
		descs: map[string]describedMetric{}, labels: map[timeline.ID]*labelCache{}, wakeups: newWakeupTotals(),
	}
	for _, name := range pulled {
		if m := metric(name); slices.Contains(tiers, m.Tier) {
			c.descs[name] = describedMetric{m, newDesc(name)}
		}
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d.desc
	}
}

// Collect implements prometheus.Collector. A panic fails the scrape, not the node.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() {
		if p := recover(); p != nil {
			err := fmt.Errorf("collect metrics: panic: %v", p)
			c.failed(err)
			ch <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		}
	}()
	if src := c.source(); src != nil {
		c.collect(ch, src)
	}
}

func (c *collector) collect(ch chan<- prometheus.Metric, src Source) {
	now := time.Now()
	timelines := src.Timelines()
	slices.SortFunc(timelines, byID) // the registry sorts what it gets: what is in order already costs it a tenth
	e := &emission{collector: c, ch: ch, now: now}
	detailed, omitted := c.choose(timelines)
	for i := range timelines {
		e.vital(&timelines[i])
	}
	for _, s := range detailed {
		e.detail(s)
	}
	c.forget()
	if slices.Contains(c.tiers, TierNode) {
		c.walked(timelines)
		e.node(src.Node(), timelines)
		e.value("telemetry_timelines_omitted", float64(omitted))
		e.value("telemetry_scrape_duration_seconds", time.Since(now).Seconds())
	}
}

// choose returns the timelines that have detail series: without a limit all, else those that are active
// or in trouble, the troubled ones first, then by name.
func (c *collector) choose(timelines []TimelineStats) (chosen []*TimelineStats, omitted int) {
	for i := range timelines {
		if s := &timelines[i]; c.limit == noLimit || s.Manager.Active || s.troubled() {
			chosen = append(chosen, s)
		}
	}
	if c.limit == noLimit || len(chosen) <= c.limit {
		return chosen, 0
	}
	slices.SortFunc(chosen, func(a, b *TimelineStats) int {
		return cmp.Or(
			-cmp.Compare(number(a.troubled()), number(b.troubled())),
			byID(*a, *b),
		)
	})
	return chosen[:c.limit], len(chosen) - c.limit
}

func byID(a, b TimelineStats) int {
	return cmp.Or(cmp.Compare(a.ID.Tenant, b.ID.Tenant), cmp.Compare(a.ID.Name, b.ID.Name))
}

// forget drops the labels of timelines that are gone.
func (c *collector) forget() {
	for id, l := range c.labels {
		if !l.used {
			delete(c.labels, id)
		}
		l.used = false
	}
}

func (c *collector) labelsOf(id timeline.ID) *labelCache {
	l := c.labels[id]
	if l == nil {
		l = newLabelCache(string(id.Tenant), id.Name)
		c.labels[id] = l
	}
	l.used = true
	return l
}

// An emission is one scrape.
type emission struct {
	*collector
	ch  chan<- prometheus.Metric
	now time.Time
}

// value emits a metric of the node; labels are the values of its labels, in the catalogue's order.
func (e *emission) value(name string, v float64, labels ...string) {
	d := e.descs[name]
	e.ch <- &sample{desc: d.desc, kind: d.Kind, labels: labelPairs(d.Labels, labels), value: v}
}

// age emits how long something has lasted; 0 when it is not there.
func (e *emission) age(name string, since time.Time, labels ...string) {
	e.value(name, e.since(since), labels...)
}

func (e *emission) since(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return max(0, e.now.Sub(t).Seconds())
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
