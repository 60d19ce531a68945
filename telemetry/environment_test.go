package telemetry

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

func environment(of map[string]string) func(string) string {
	return func(name string) string { return of[name] }
}

// TestBatchesAreAsTheEnvironmentHasThem: what waits, for how long, and in which portions it is exported.
func TestBatchesAreAsTheEnvironmentHasThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := batchingFor(environment(map[string]string{
			"OTEL_BSP_SCHEDULE_DELAY": "3000", "OTEL_BSP_EXPORT_TIMEOUT": "7000", "OTEL_BSP_MAX_QUEUE_SIZE": "20", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4",
		}))
		if err != nil {
			t.Fatal(err)
		}
		var sizes []int
		var times []time.Duration
		began := time.Now()
		p := newProcessor(exporterFunc(func(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
			sizes, times = append(sizes, len(spans)), append(times, time.Since(began))
			if len(sizes) == 1 {
				<-ctx.Done() // it hangs
			}
			return ctx.Err()
		}), b)
		provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(p))
		for range 2 {
			_, span := provider.Tracer("test").Start(t.Context(), "x")
			span.End()
		}
		<-time.After(4 * time.Second) // the two are being exported
		for range 30 {
			_, span := provider.Tracer("test").Start(t.Context(), "x")
			span.End()
		}
		if err := provider.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if want := []int{2, 4, 4, 4, 4, 2}; !slices.Equal(sizes, want) {
			t.Errorf("exported in portions of %v, want %v", sizes, want)
		}
		if times[0] != 3*time.Second || times[1] != 10*time.Second {
			t.Errorf("exported after %v, want 3 s for the first, and its time-out later the next", times)
		}
		a := p.accounts
		if a.exported.Load() != 18 || a.failed.Load() != 2 || a.dropped.Load() != 12 {
			t.Errorf("%d exported, %d failed, %d dropped", a.exported.Load(), a.failed.Load(), a.dropped.Load())
		}
	})
}

type exporterFunc func(context.Context, []sdktrace.ReadOnlySpan) error

func (f exporterFunc) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	return f(ctx, spans)
}
func (exporterFunc) Shutdown(context.Context) error { return nil }

func TestBatchIsNoLargerThanTheQueue(t *testing.T) {
	b, err := batchingFor(environment(map[string]string{"OTEL_BSP_MAX_QUEUE_SIZE": "100"}))
	if err != nil || b.queue != 100 || b.batch != 100 {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestVariablesWithoutEffectAreNamed(t *testing.T) {
	got := WithoutEffect([]string{
		"PATH=/bin", "OTEL_METRICS_EXPORTER=otlp", "OTEL_PROPAGATORS=b3", "OTEL_LOG_LEVEL=", "OTEL_EXPORTER_OTLP_HEADERS=a=b", "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY=x",
		"OTEL_BSP_SCHEDULE_DELAY=1", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=1", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=x", "OTEL_TRACES_SAMPLER_ARG=1",
	})
	if want := []string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_METRICS_EXPORTER", "OTEL_PROPAGATORS"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
