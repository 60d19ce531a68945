package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	otelpyroscope "github.com/grafana/otel-profiling-go"
	"github.com/grafana/pyroscope-go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/sluicewal/sluice/internal/timeline"
)

// scopeName is the OpenTelemetry scope, and the default service name.
const scopeName = "sluice"

// Config is what a Telemetry is told.
type Config struct {
	NodeID            string
	Version, Revision string // of the build

	// OTLPEndpoint is where spans go; empty: the standard environment decides, and without it nobody
	// gets any.
	OTLPEndpoint string
	// SampleRatio of the traces that need not be there; SampleRatioSet says that the file has it, and
	// the environment does not count.
	SampleRatio    float64
	SampleRatioSet bool

	// TimelineLimit is how many timelines have detail series at /metrics.
	TimelineLimit int

	// PyroscopeURL is where profiles are pushed to; empty: nowhere. ProfileEvery is how often; 0 = 15 s.
	PyroscopeURL string
	ProfileEvery time.Duration
	// SpanProfiles has profiles say for which span the time was spent. It doubles the cost of a span.
	SpanProfiles bool

	LogLevel  slog.Level
	LogFormat string    // "json" or "text"
	LogOutput io.Writer // default: os.Stderr

	Getenv func(string) string // default: os.Getenv
}

func (c Config) getenv(name string) string {
	if c.Getenv == nil {
		return os.Getenv(name)
	}
	return c.Getenv(name)
}

// A Telemetry turns what a node tells into metrics, spans and log records. Make one with [Start].
type Telemetry struct {
	log      *slog.Logger
	registry *prometheus.Registry // of what is counted as events come
	scrapes  *scraper             // answers /metrics
	counts   *instruments
	errors   *reporter
	source   atomic.Pointer[Source]
	recent   *recent

	gateEntries gateEntries

	tracer    trace.Tracer
	provider  *sdktrace.TracerProvider // nil: no traces
	processor *processor               // nil: no traces

	profiler     *pyroscope.Profiler // nil: no profiles
	stopProfiler sync.Once
	profilerDone chan struct{} // closed when the profiler has stopped; made by stopProfiler

	mu        sync.Mutex
	timelines map[timeline.ID]*scopedEvents    // guarded by mu
	steps     map[operationKey]*operationSteps // guarded by mu; the operations under way
}

// Start makes a Telemetry, and installs it as the process's for OpenTelemetry. End it with Shutdown.
func Start(ctx context.Context, cfg Config) (*Telemetry, error) {
	t := &Telemetry{
		registry: prometheus.NewRegistry(),
		tracer:   noop.NewTracerProvider().Tracer(scopeName), timelines: map[timeline.ID]*scopedEvents{}, steps: map[operationKey]*operationSteps{},
		gateEntries: newGateEntries(),
	}
	t.scrapes = t.newScraper(cfg.TimelineLimit)
	t.counts = newInstruments(t.registry)
	t.recent = &recent{}
	out := cfg.LogOutput
	if out == nil {
		out = os.Stderr
	}
	t.log = newLogger(io.MultiWriter(t.recent, out), cfg.LogLevel, cfg.LogFormat, t.counts.logRecords)
	t.errors = &reporter{log: t.log, count: t.counts.errors}
	if err := t.startTraces(ctx, cfg); err != nil {
		return nil, err
	}
	if err := t.startProfiles(cfg); err != nil {
		return nil, errors.Join(err, t.Shutdown(ctx))
	}
	t.register(cfg)
	return t, nil
}

func (t *Telemetry) startTraces(ctx context.Context, cfg Config) error {
	provider, p, err := newProvider(ctx, cfg)
	if err != nil {
		return err
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { t.errors.report("traces", err) }))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	if provider == nil {
		return nil
	}
	var through trace.TracerProvider = provider
	if cfg.SpanProfiles {
		through = otelpyroscope.NewTracerProvider(provider)
	}
	otel.SetTracerProvider(through)
	t.provider, t.processor, t.tracer = provider, p, through.Tracer(scopeName)
	return nil
}

// register adds what is not counted by instruments.
func (t *Telemetry) register(cfg Config) {
	t.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	spans := &accounts{}
	if t.processor != nil {
		spans = t.processor.accounts
	}
	t.registry.MustRegister(&spanCollector{newDesc("telemetry_spans_total"), spans})
	t.registry.MustRegister(&entryTotals{t.gateEntries, newDesc("gate_entries_total")})
	t.counts.buildInfo.WithLabelValues(cfg.Version, cfg.Revision, runtime.Version()).Set(1)
}

// Logger returns the logger of the whole process.
func (t *Telemetry) Logger() *slog.Logger { return t.log }

// Tracer returns the tracer of the whole process; one that does nothing where traces are off.
func (t *Telemetry) Tracer() trace.Tracer { return t.tracer }

// Watch has the collector ask src from now on.
func (t *Telemetry) Watch(src Source) { t.source.Store(&src) }

// watched returns what Watch was given; nil before.
func (t *Telemetry) watched() Source {
	if src := t.source.Load(); src != nil {
		return *src
	}
	return nil
}

// Shutdown exports the last spans, and pushes the last profiles, until ctx ends.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	profiles := make(chan error, 1)
	go func() { profiles <- t.stopProfiles(ctx) }()
	var err error
	if t.provider != nil {
		if err = t.provider.Shutdown(ctx); err != nil {
			err = fmt.Errorf("export the last spans: %w", err)
		}
	}
	return errors.Join(err, <-profiles)
}

const (
	// reportEvery is how often one component's errors are logged.
	reportEvery = time.Minute
	// reportedAtOnce is of how many that is known at once; what else there is within a minute is not logged.
	reportedAtOnce = 256
)

// A reporter counts telemetry's own errors, and logs some of them.
type reporter struct {
	log   *slog.Logger
	count *prometheus.CounterVec

	mu   sync.Mutex
	last map[string]time.Time // guarded by mu; when a component's error was logged
}

func (r *reporter) report(component string, err error) {
	r.count.WithLabelValues(component).Inc()
	if r.due(component, time.Now()) {
		r.log.LogAttrs(context.Background(), slog.LevelWarn, "telemetry failed",
			slog.String("component", component), slog.String("error", secrets.ReplaceAllString(err.Error(), "${1}${3}***${2}")))
	}
}

// secrets are where a URL in an error's text may have some: before an @, and in its parameters.
var secrets = regexp.MustCompile(`(//)[^/@\s]*(@)|(\?)[^\s"']*`)

func (r *reporter) due(component string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.last[component]; ok && now.Sub(last) < reportEvery {
		return false
	}
	if len(r.last) >= reportedAtOnce {
		maps.DeleteFunc(r.last, func(_ string, last time.Time) bool { return now.Sub(last) >= reportEvery })
	}
	if len(r.last) >= reportedAtOnce {
		return false
	}
	if r.last == nil {
		r.last = map[string]time.Time{}
	}
	r.last[component] = now
	return true
}
