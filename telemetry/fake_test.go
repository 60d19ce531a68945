package telemetry

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/goleak"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/broker"
	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var acme = timeline.ID{Tenant: "acme", Name: "main"}

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

// NameHolders knows of everybody what they want.
func (f *fakeSource) NameHolders(_ timeline.ID, holders []gate.HolderInfo) []timeline.GateHolder {
	named := timeline.NameHolders(holders)
	for i := range named {
		named[i].Client, named[i].File = "192.0.2.7:40404", "000000010000000000000007"
	}
	return named
}

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
