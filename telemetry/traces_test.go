package telemetry

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicewal/sluice/test/rig"
)

func TestEndpointsAndProtocols(t *testing.T) {
	s := rig.StartCollector(t, nil)
	tests := []struct {
		name     string
		file     string
		env      map[string]string
		exported bool
		path     string
	}{
		{"nobody asked", "", nil, false, ""},
		{"file", s.URL, nil, true, "/v1/traces"},
		{"file, slash", s.URL + "/", nil, true, "/v1/traces"},
		{"file, path", s.URL + "/otlp", nil, true, "/otlp/v1/traces"},
		{"file, whole", s.URL + "/x/v1/traces", nil, true, "/x/v1/traces"},
		{"environment", "", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": s.URL}, true, "/v1/traces"},
		{"file wins", s.URL, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, true, "/v1/traces"},
		{"disabled", s.URL, map[string]string{"OTEL_SDK_DISABLED": "TRUE"}, false, ""},
		{"no exporter", s.URL, map[string]string{"OTEL_TRACES_EXPORTER": "none"}, false, ""},
		{"sampler of the environment", s.URL, map[string]string{"OTEL_TRACES_SAMPLER": "always_off"}, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for name, value := range tt.env {
				t.Setenv(name, value) // the exporter reads it, too
			}
			before := len(s.Paths())
			tel, _ := start(t, Config{OTLPEndpoint: tt.file, SampleRatio: 1, Getenv: func(name string) string { return tt.env[name] }})
			_, span := tel.Tracer().Start(t.Context(), "x")
			span.End()
			if err := tel.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := []string{tt.path}
			if !tt.exported {
				want = nil
			}
			if posted := s.Paths()[before:]; !slices.Equal(posted, want) {
				t.Errorf("posted to %v, want %v", posted, want)
			}
		})
	}
}

func TestWrongEnvironmentIsSaid(t *testing.T) {
	for _, env := range []map[string]string{
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_SAMPLER": "sometimes"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "zipkin"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_BSP_SCHEDULE_DELAY": "1s"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_BSP_MAX_QUEUE_SIZE": "0"},
	} {
		tel, err := Start(t.Context(), Config{Getenv: func(name string) string { return env[name] }})
		if err == nil {
			t.Errorf("%v is accepted", env)
			_ = tel.Shutdown(t.Context())
		} else if !strings.Contains(err.Error(), "OTEL_") {
			t.Errorf("%v: %v", env, err)
		}
	}
}

func TestResourceSaysWho(t *testing.T) {
	s := rig.StartCollector(t, nil)
	t.Setenv("OTEL_SERVICE_NAME", "my-sluice")
	tel, _ := start(t, Config{OTLPEndpoint: s.URL, SampleRatio: 1, NodeID: "a", Version: "v1"})
	_, span := tel.Tracer().Start(t.Context(), "x")
	span.End()
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.Resource()["service.name"] != "my-sluice" || s.Resource()["service.instance.id"] != "a" || s.Resource()["service.version"] != "v1" {
		t.Errorf("resource: %v", s.Resource())
	}
}

func TestSamplerKeepsWhatMustBeThere(t *testing.T) {
	never := sampler{sdktrace.ParentBased(sdktrace.TraceIDRatioBased(0))}
	decide := func(attrs ...attribute.KeyValue) sdktrace.SamplingDecision {
		return never.ShouldSample(sdktrace.SamplingParameters{ParentContext: t.Context(), TraceID: trace.TraceID{1}, Attributes: attrs}).Decision
	}
	if decide() != sdktrace.Drop || decide(sampleKey.Bool(false)) != sdktrace.Drop {
		t.Error("a ratio of 0 samples")
	}
	if decide(attribute.Int("x", 1), always()) != sdktrace.RecordAndSample {
		t.Error("a span that must be there is dropped")
	}
}

func sampledContext() trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled})
}

// badExporter exports as a test wants.
type badExporter struct {
	export func(context.Context) error
	calls  atomic.Int64
}

func (e *badExporter) ExportSpans(ctx context.Context, _ []sdktrace.ReadOnlySpan) error {
	e.calls.Add(1)
	return e.export(ctx)
}
func (e *badExporter) Shutdown(context.Context) error { return nil }

// TestEverySpanIsAccountedFor ends more spans than the queue takes, with collectors of all kinds, and
// shuts down in the middle.
func TestEverySpanIsAccountedFor(t *testing.T) {
	spans := 3 * uint64(defaultBatching.queue)
	errFailed := errors.New("503")
	tests := []struct {
		name   string
		export func(context.Context) error
		check  func(exported, failed, dropped uint64) bool
	}{
		{"fast", func(context.Context) error { return nil }, func(_, failed, _ uint64) bool { return failed == 0 }},
		{"failing", func(context.Context) error { return errFailed }, func(exported, failed, _ uint64) bool { return exported == 0 && failed > 0 }},
		{"slow", func(ctx context.Context) error {
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}, func(_, _, dropped uint64) bool { return dropped > 0 }},
		{"hanging", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			func(exported, failed, dropped uint64) bool {
				return exported == 0 && failed > 0 && dropped > uint64(defaultBatching.queue)
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				patient := defaultBatching
				patient.timeout = time.Hour
				p := newProcessor(&badExporter{export: tt.export}, patient)
				provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(p))
				tracer := provider.Tracer("test")
				for range spans {
					_, span := tracer.Start(t.Context(), "x")
					span.End()
				}
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				began := time.Now()
				_ = provider.Shutdown(ctx)
				if took := time.Since(began); took > 3*time.Second {
					t.Errorf("the shutdown took %v", took)
				}
				p.OnEnd(tracetest.SpanStub{SpanContext: sampledContext()}.Snapshot()) // it ended too late
				synctest.Wait()                                                       // whatever the batch processor left behind
				exported, failed, dropped := p.accounts.exported.Load(), p.accounts.failed.Load(), p.accounts.dropped.Load()
				if exported+failed+dropped != spans+1 {
					t.Errorf("%d spans: %d exported, %d failed, %d dropped", spans+1, exported, failed, dropped)
				}
				if p.accounts.inFlight.Load() != 0 || !tt.check(exported, failed, dropped) {
					t.Errorf("%d exported, %d failed, %d dropped, %d in flight", exported, failed, dropped, p.accounts.inFlight.Load())
				}
			})
		})
	}
}

func TestCollectorThatIsDownCostsSpansAndNoLogStorm(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	tel, log := start(t, Config{OTLPEndpoint: gone.URL, SampleRatio: 1})
	for range 3 {
		_, span := tel.Tracer().Start(t.Context(), "x")
		span.End()
		if err := tel.provider.ForceFlush(t.Context()); err == nil {
			t.Fatal("exported to nobody")
		}
		tel.errors.report("traces", errors.New("as the SDK reports it"))
	}
	if n := strings.Count(log.String(), "telemetry failed"); n != 1 {
		t.Errorf("%d records: %s", n, log)
	}
	if text := scrape(t, tel.Metrics()); !strings.Contains(text, `sluice_telemetry_spans_total{result="failed"} 3`) {
		t.Error("failed exports are not counted")
	}
}

func TestShutdownIsBoundedThoughTheCollectorHangs(t *testing.T) {
	release := make(chan struct{})
	s := rig.StartCollector(t, func(r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	tel, _ := start(t, Config{OTLPEndpoint: s.URL, SampleRatio: 1})
	_, span := tel.Tracer().Start(t.Context(), "x")
	span.End()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := tel.Shutdown(ctx); err == nil {
		t.Error("the span was exported")
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("the shutdown took %v", took)
	}
}
