package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

// instruments are the metrics that events are counted in.
type instruments struct {
	buildInfo *prometheus.GaugeVec

	activeChanges     prometheus.Counter
	iterations        *prometheus.CounterVec
	iterationDuration *prometheus.HistogramVec

	taskSpawns, taskEnds, taskRestarts *prometheus.CounterVec
	taskDuration                       *prometheus.HistogramVec

	gateCloses, gateMisuse *prometheus.CounterVec
	gateCloseDuration      *prometheus.HistogramVec

	operations *prometheus.CounterVec

	receivedBytes                          prometheus.Counter
	ackDuration, fsyncDuration, fsyncBatch prometheus.Histogram
	fsyncFailures                          prometheus.Counter
	sourceConnects, sourceRefused          *prometheus.CounterVec
	removedSegments                        prometheus.Counter
	backupSegments, backupPartials         *prometheus.CounterVec
	backupBytes                            *prometheus.CounterVec
	backupConflicts, damagedObjects        *prometheus.CounterVec // without labels; no series without a store
	storeOperation                         *prometheus.HistogramVec
	restoreAnswers, errors, logRecords     *prometheus.CounterVec
	httpDuration                           *prometheus.HistogramVec
	brokerRound                            *prometheus.HistogramVec // without labels; no series without other nodes
}

// Buckets, chosen for what is measured. All histograms are native at once.
var (
	quickBuckets = []float64{1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10}
	syncBuckets  = []float64{50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1, 2.5, 10}
	storeBuckets = []float64{5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120}
	httpBuckets  = []float64{1e-3, 5e-3, 25e-3, 0.1, 0.5, 1, 5, 30}
	closeBuckets = []float64{1e-3, 1e-2, 0.1, 0.5, 1, 2, 5, 10, 30}
	longBuckets  = []float64{0.1, 1, 10, 60, 600, 3600, 86400}
	batchBuckets = prometheus.ExponentialBuckets(512, 4, 9) // to 32 MiB
)

func newInstruments(r *prometheus.Registry) *instruments {
	f := factory{r}
	i := &instruments{
		buildInfo: f.gauge("build_info"),

		activeChanges:     f.counter("active_changes_total").WithLabelValues(),
		iterations:        f.counter("manager_iterations_total"),
		iterationDuration: f.histogram("manager_iteration_duration_seconds", quickBuckets),

		taskSpawns:   f.counter("task_spawns_total"),
		taskEnds:     f.counter("task_ends_total"),
		taskRestarts: f.counter("task_restarts_total"),
		taskDuration: f.histogram("task_duration_seconds", longBuckets),

		gateCloses:        f.counter("gate_closes_total"),
		gateMisuse:        f.counter("gate_misuse_total"),
		gateCloseDuration: f.histogram("gate_close_duration_seconds", closeBuckets),

		operations: f.counter("lifecycle_operations_total"),

		receivedBytes:   f.counter("wal_received_bytes_total").WithLabelValues(),
		ackDuration:     f.single("wal_ack_duration_seconds", syncBuckets),
		fsyncDuration:   f.single("wal_fsync_duration_seconds", syncBuckets),
		fsyncBatch:      f.single("wal_fsync_batch_bytes", batchBuckets),
		fsyncFailures:   f.counter("wal_fsync_failures_total").WithLabelValues(),
		sourceConnects:  f.counter("source_connects_total"),
		sourceRefused:   f.counter("source_refused_total"),
		removedSegments: f.counter("wal_removed_segments_total").WithLabelValues(),
		backupSegments:  f.counter("backup_segments_total"),
		backupPartials:  f.counter("backup_partials_total"),
		backupBytes:     f.counter("backup_bytes_total"),
		backupConflicts: f.counter("backup_conflicts_total"),
		damagedObjects:  f.counter("objectstore_damaged_objects_total"),
		storeOperation:  f.histogram("objectstore_operation_duration_seconds", storeBuckets),
		restoreAnswers:  f.counter("restore_answers_total"),
		httpDuration:    f.histogram("http_request_duration_seconds", httpBuckets),
		brokerRound:     f.histogram("broker_round_duration_seconds", quickBuckets),

		errors:     f.counter("telemetry_errors_total"),
		logRecords: f.counter("log_records_total"),
	}
	i.initialise()
	return i
}

// initialise makes the series of closed lists before anything happens: increase() of a counter that is
// born with 1 is 0, and the first panic would go unnoticed.
func (i *instruments) initialise() {
	for _, outcome := range []string{"acted", "noop"} {
		i.iterationDuration.WithLabelValues(outcome)
		for _, reason := range timeline.Reasons() {
			i.iterations.WithLabelValues(reason.String(), outcome)
		}
	}
	for _, task := range taskNames {
		i.taskSpawns.WithLabelValues(string(task))
		i.taskRestarts.WithLabelValues(string(task))
		i.taskDuration.WithLabelValues(string(task))
		for _, outcome := range tasks.Outcomes() {
			i.taskEnds.WithLabelValues(string(task), string(outcome))
		}
	}
	for _, kind := range gateKinds {
		i.gateCloseDuration.WithLabelValues(kind)
		each(i.gateCloses.MustCurryWith(prometheus.Labels{"gate": kind}), "complete", "given_up")
	}
	for _, misuse := range gate.MisuseKinds() {
		i.gateMisuse.WithLabelValues(string(misuse))
	}
	for _, of := range operationNames {
		for _, name := range of.names {
			label := operationLabel(of.id, name)
			each(i.operations.MustCurryWith(prometheus.Labels{"operation": label}), "ok", "error", "cancelled")
		}
	}
	for _, reason := range refusals {
		i.sourceRefused.WithLabelValues(string(reason))
	}
	each(i.sourceConnects, "connected", "refused", "missing_wal", "error")
	each(i.restoreAnswers, "file", "absent", "unknown")
	each(i.errors, "traces", "scrape", "profiles")
	each(i.logRecords, "debug", "info", "warn", "error")
}

// initialiseBackup does that for a node that has a store.
func (i *instruments) initialiseBackup() {
	each(i.backupSegments, uploadOutcomes...)
	each(i.backupPartials, uploadOutcomes...)
	each(i.backupBytes, "raw", "stored")
	i.backupConflicts.WithLabelValues()
	i.damagedObjects.WithLabelValues()
	for _, name := range backup.OperationNames() {
		for _, outcome := range backup.Outcomes() {
			i.storeOperation.WithLabelValues(name, string(outcome))
		}
	}
}

// upload counts an upload; bytes only where it made an object.
func (i *instruments) upload(outcome string, e backup.UploadEnd) {
	uploads := i.backupSegments
	if e.Partial {
		uploads = i.backupPartials
	}
	uploads.WithLabelValues(outcome).Inc()
	if outcome == "created" {
		i.backupBytes.WithLabelValues("raw").Add(float64(e.Raw))
		i.backupBytes.WithLabelValues("stored").Add(float64(e.Stored))
	}
}

func each(v *prometheus.CounterVec, values ...string) {
	for _, value := range values {
		v.WithLabelValues(value)
	}
}

// Closed lists of label values.
var (
	operationNames = []struct {
		id    timeline.ID // whose they are
		names []string
	}{
		{timeline.ID{Tenant: "t", Name: "l"}, []string{"create", "set", "delete", "seal", "unseal", "trim", "drain", "restore", "end"}},
		{timeline.ID{Tenant: "t"}, []string{"create", "delete", "attach", "secondary", "detach"}},
	}
	refusals = []replication.Reason{
		replication.ForeignCluster, replication.Behind, replication.Forked, replication.OtherBytes,
		replication.InRecovery, replication.NameTaken, replication.Sealed,
	}
)

// A factory makes and registers what the catalogue describes.
type factory struct{ registry *prometheus.Registry }

func (f factory) counter(name string) *prometheus.CounterVec {
	m := metric(name)
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: m.Name, Help: m.Help}, m.Labels)
	f.registry.MustRegister(v)
	return v
}

func (f factory) gauge(name string) *prometheus.GaugeVec {
	m := metric(name)
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: m.Name, Help: m.Help}, m.Labels)
	f.registry.MustRegister(v)
	return v
}

func (f factory) histogram(name string, buckets []float64) *prometheus.HistogramVec {
	m := metric(name)
	v := prometheus.NewHistogramVec(histogramOpts(m, buckets), m.Labels)
	f.registry.MustRegister(v)
	return v
}

// single makes a histogram without labels.
func (f factory) single(name string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(histogramOpts(metric(name), buckets))
	f.registry.MustRegister(h)
	return h
}

// histogramOpts makes a histogram classic and native at once; the native form takes memory as values
// come, up to 160 buckets of growth by a tenth.
func histogramOpts(m Metric, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: m.Name, Help: m.Help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160,
	}
}

// newDesc describes a metric that is pulled.
func newDesc(name string) *prometheus.Desc {
	m := metric(name)
	return prometheus.NewDesc(m.Name, m.Help, m.Labels, nil)
}
