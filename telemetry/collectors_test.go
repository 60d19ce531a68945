package telemetry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	collectpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// grpcCollector answers as a test wants.
type grpcCollector struct {
	collectpb.UnimplementedTraceServiceServer
	answer func(context.Context) error
}

func (c *grpcCollector) Export(ctx context.Context, _ *collectpb.ExportTraceServiceRequest) (*collectpb.ExportTraceServiceResponse, error) {
	return &collectpb.ExportTraceServiceResponse{}, c.answer(ctx)
}

func startGRPC(t *testing.T, answer func(context.Context) error) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	collectpb.RegisterTraceServiceServer(server, &grpcCollector{answer: answer})
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return "grpc://" + l.Addr().String()
}

func startHTTP(t *testing.T, answer func(context.Context) error) (url string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the server does not see the client go
		if err := answer(r.Context()); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestEveryLostSpanIsCounted, whatever the collector does and whatever is spoken: the shutdown is in time, the memory stays
// flat, and each span that ended is exported, failed or dropped.
func TestEveryLostSpanIsCounted(t *testing.T) {
	spans := 3 * uint64(defaultBatching.queue)
	errUnavailable := status.Error(codes.Unavailable, "not now")
	collectors := []struct {
		name     string
		answer   func(context.Context) error
		exported bool
	}{
		{"right", func(context.Context) error { return nil }, true},
		{"refusing", func(context.Context) error { return errUnavailable }, false},
		{"slow", func(ctx context.Context) error {
			select {
			case <-time.After(300 * time.Millisecond): // for 512 spans, which come in a millisecond
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}, true},
		{"hanging", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, false},
		{"down", nil, false},
	}
	for protocol, begin := range map[string]func(*testing.T, func(context.Context) error) string{"http": startHTTP, "grpc": startGRPC} {
		for _, c := range collectors {
			t.Run(protocol+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				url := protocol + "://127.0.0.1:1"
				if c.answer != nil {
					url = begin(t, c.answer)
				}
				tel, err := Start(t.Context(), Config{OTLPEndpoint: url, SampleRatio: 1, SampleRatioSet: true, LogOutput: httptest.NewRecorder(), Getenv: func(string) string { return "" }})
				if err != nil {
					t.Fatal(err)
				}
				before := allocated()
				for range spans {
					_, span := tel.Tracer().Start(t.Context(), "x")
					span.End()
				}
				if grown := allocated() - before; grown > 64<<20 {
					t.Errorf("%d bytes are kept of %d spans", grown, spans)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				began := time.Now()
				err = tel.Shutdown(ctx)
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("the shutdown took %v", took)
				}
				a := tel.processor.accounts
				if sum := a.exported.Load() + a.failed.Load() + a.dropped.Load(); sum != spans || a.inFlight.Load() != 0 {
					t.Errorf("%d spans: %d exported, %d failed, %d dropped, %d in flight", spans, a.exported.Load(), a.failed.Load(), a.dropped.Load(), a.inFlight.Load())
				}
				if got := a.exported.Load() > 0; got != c.exported {
					t.Errorf("%d spans were exported (%v)", a.exported.Load(), err)
				}
				if err != nil && c.exported && !errors.Is(err, context.DeadlineExceeded) { // on a busy machine the time may be short
					t.Error(err)
				}
			})
		}
	}
}

// allocated is what is on the heap and not garbage.
func allocated() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestScrapeBlocksNoTimeline: while a scrape hangs in the middle, no event waits for it.
func TestScrapeBlocksNoTimeline(t *testing.T) {
	tel, _ := start(t, Config{TimelineLimit: 10})
	hang, asked := make(chan struct{}), make(chan struct{})
	tel.Watch(hangingSource{fakeSource: busySource(), asked: asked, hang: hang})
	scraped := make(chan struct{})
	go func() {
		defer close(scraped)
		tel.Metrics().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil))
	}()
	<-asked
	done := make(chan struct{})
	go func() { defer close(done); everything(t, tel) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("an event waits for a scrape")
	}
	close(hang)
	<-scraped
	<-done
}

// hangingSource is a node that does not answer the collector.
type hangingSource struct {
	*fakeSource
	asked, hang chan struct{}
}

func (h hangingSource) Timelines() []TimelineStats {
	close(h.asked)
	<-h.hang
	return h.fakeSource.Timelines()
}
