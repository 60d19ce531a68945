package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace/noop"
	collectpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/broker"
	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var acme = timeline.ID{Tenant: "acme", Name: "main"}

// a sink is a trace collector that keeps what it gets.
type sink struct {
	url string

	mu    sync.Mutex
	paths []string
	spans []*tracepb.Span
	who   map[string]string // the resource's attributes
}

// newSink starts a collector; before, if any, runs before each answer.
func newSink(t *testing.T, before func(*http.Request)) *sink {
	t.Helper()
	s := &sink{who: map[string]string{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before != nil {
			before(r)
		}
		if err := s.take(r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *sink) take(r *http.Request) error {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		gz, err := gzip.NewReader(body)
		if err != nil {
			return err
		}
		body = gz
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var req collectpb.ExportTraceServiceRequest
	if err := proto.Unmarshal(b, &req); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paths = append(s.paths, r.URL.Path)
	for _, rs := range req.ResourceSpans {
		for _, a := range rs.Resource.Attributes {
			s.who[a.Key] = a.Value.GetStringValue()
		}
		for _, ss := range rs.ScopeSpans {
			s.spans = append(s.spans, ss.Spans...)
		}
	}
	return nil
}

// start makes a Telemetry without any environment, and what it logs.
func start(t *testing.T, cfg Config) (*Telemetry, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	cfg.LogOutput = &locked{w: log}
	if cfg.Getenv == nil {
		cfg.Getenv = func(string) string { return "" }
	}
	tel, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		otel.SetTracerProvider(noop.NewTracerProvider())
		if err := tel.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return tel, log
}

type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// fakeSource is a node with some timelines.
type fakeSource struct {
	node      NodeStats
	timelines []TimelineStats
	panics    bool
}

func (f *fakeSource) Node() NodeStats { return f.node }

func (f *fakeSource) Timelines() []TimelineStats {
	if f.panics {
		panic("a bug")
	}
	return f.timelines
}

// busyTimeline has a number for everything.
func busyTimeline(id timeline.ID) TimelineStats {
	since := time.Now().Add(-time.Minute)
	wake := timeline.NewWake()
	wake.Ring(timeline.ReasonRequest)
	closing := GateStats{
		Kind: "timeline", Tenant: string(id.Tenant), Timeline: id.Name,
		Stats:   gate.Stats{Inside: 1, Oldest: since, ClosingSince: since},
		Holders: func() []gate.HolderInfo { return []gate.HolderInfo{{Name: "wal_download", Since: since}} },
	}
	return TimelineStats{
		ID: id, Incarnation: "0190", Mode: "attached", State: timeline.StateRunning, TLI: 3,
		StartLSN: 0x1000000, WriteLSN: 0x16B3750, FlushLSN: 0x16B3748, CommitLSN: 0x16B3700,
		ReceivedBytes: 10, LocalBytes: 20, SyncSince: since,
		BackupLSN: 0x1400000, HorizonLSN: 0x1200000, BackupLagBytes: pointer(0x2B3700), OldestUnbackedSince: since,
		QueueSegments: pointer(2), Retained: &RetainedBytes{NotBackedUp: 12, Reader: 5, Configured: 3},
		SourceConnected: true, SourceState: "connected", LagBytes: 8, LagKnown: true,
		QuorumKnown: true, Synchronous: true, QuorumRequired: 1, QuorumReady: 1, Offloader: new(bool),
		Operation: "delete", OperationStep: "files", OperationSince: since,
		Manager: manager.Status{
			Phase: manager.PhaseSave, PhaseSince: since, Iterations: 5, Noops: 2, Active: true,
			Tasks: []manager.TaskStatus{
				{Decision: manager.Decision{Task: manager.Receive, Action: manager.Run}, Status: tasks.Status{Running: true, Restarts: 4}},
				{Decision: manager.Decision{Task: manager.Settings, Action: manager.Waiting}},
				{Decision: manager.Decision{Task: manager.Remove, Action: manager.Off}},
			},
		},
		Wake: wake, Gate: closing,
	}
}

func pointer(n int64) *int64 { return &n }

// busySource is a node that stops, with a store and one timeline.
func busySource() *fakeSource {
	return &fakeSource{
		node: NodeStats{
			Stage: "running", Tenants: map[string]int{"attached": 1}, DataDirFree: 1, DataDirCapacity: 2,
			Shutdown: []StageStats{{"tenants", time.Second, time.Minute}},
			Store:    &StoreStats{Stats: backup.Stats{Available: true, Pending: 2, OldestPending: time.Minute, Uploads: 1, UploadLimit: 4}},
			Broker: &BrokerStats{
				Stats: broker.Stats{
					Connected: true, Sent: map[broker.Kind]uint64{broker.KindStatus: 3}, Received: map[broker.Kind]uint64{broker.KindGreeting: 2},
					Rejected: map[broker.Reason]uint64{broker.Late: 1},
				},
				Nodes: []broker.Node{{ID: "b", Heard: time.Now()}},
			},
			Gates: []GateStats{{Kind: "tenant", Tenant: "acme", Stats: gate.Stats{Inside: 2}}},
		},
		timelines: []TimelineStats{busyTimeline(acme)},
	}
}

// scrape returns what /metrics answers.
func scrape(t *testing.T, h http.Handler) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("scrape: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}
