package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicewal/sluice/internal/api"
	"github.com/sluicewal/sluice/internal/timeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// secret stands for a password in every test; it must not be seen again.
const secret = "s3cret"

// fakeNode answers with what a test puts in; a nil function answers with little.
type fakeNode struct {
	ready     error
	tenants   []api.Tenant
	timelines []timeline.Status
	gates     []api.ClosingGate

	err    error // of every method that can fail
	create func(timeline.ID, api.CreateOptions) (timeline.Status, error)
	set    func(timeline.ID, api.SetOptions) (timeline.Status, error)
	delete func(context.Context) error
	seal   func(timeline.ID, bool) (api.SealResult, error)
	wal    func(file string, o api.WALOptions) (api.WAL, error)
	client string // whose request for a WAL file was last
}

func (n *fakeNode) Info() api.NodeInfo {
	return api.NodeInfo{ID: "a", Version: "v0.0.0-test", Stage: "running", Started: time.Now()}
}
func (n *fakeNode) Ready() error          { return n.ready }
func (n *fakeNode) Tenants() []api.Tenant { return n.tenants }

func (n *fakeNode) Tenant(id timeline.TenantID) (api.Tenant, error) {
	return api.Tenant{Name: string(id), Mode: api.ModeAttached}, n.err
}

func (n *fakeNode) CreateTenant(_ context.Context, id timeline.TenantID) (api.Tenant, bool, error) {
	return api.Tenant{Name: string(id), Mode: api.ModeAttached}, id == "new", n.err
}

func (n *fakeNode) SetTenantMode(_ context.Context, id timeline.TenantID, m api.Mode, _ bool) (api.Tenant, error) {
	if m == api.ModeDetached {
		return api.Tenant{}, api.Errorf(api.KindRefused, "commits wait for this node")
	}
	return api.Tenant{Name: string(id), Mode: m}, n.err
}

func (n *fakeNode) DeleteTenant(ctx context.Context, _ timeline.TenantID, _ bool) error {
	if n.delete != nil {
		return n.delete(ctx)
	}
	return n.err
}

func (n *fakeNode) Timelines(timeline.TenantID) ([]timeline.Status, error) { return n.timelines, n.err }

func (n *fakeNode) Timeline(id timeline.ID) (timeline.Status, error) {
	return timeline.Status{
		Tenant: string(id.Tenant), Timeline: id.Name, State: "running",
		Source: timeline.SourceStatus{Conninfo: "host=h password=" + secret},
	}, n.err
}

func (n *fakeNode) CreateTimeline(_ context.Context, id timeline.ID, o api.CreateOptions) (timeline.Status, error) {
	if n.create != nil {
		return n.create(id, o)
	}
	return n.Timeline(id)
}

func (n *fakeNode) SetTimeline(_ context.Context, id timeline.ID, o api.SetOptions) (timeline.Status, error) {
	if n.set != nil {
		return n.set(id, o)
	}
	return n.Timeline(id)
}

func (n *fakeNode) DeleteTimeline(ctx context.Context, _ timeline.ID, _ bool) error {
	if n.delete != nil {
		return n.delete(ctx)
	}
	return n.err
}

func (n *fakeNode) Seal(_ context.Context, id timeline.ID, accept bool) (api.SealResult, error) {
	if n.seal != nil {
		return n.seal(id, accept)
	}
	return api.SealResult{TLI: 1, End: 0x16B3748, Nodes: []string{"a"}}, n.err
}

func (n *fakeNode) Unseal(context.Context, timeline.ID, bool) error { return n.err }

func (n *fakeNode) Trim(_ context.Context, _ timeline.ID, before string) (api.TrimResult, error) {
	if before != "000000010000000000000001" {
		return api.TrimResult{}, api.Errorf(api.KindInvalid, "no segment")
	}
	return api.TrimResult{Segments: 3, Bytes: 1234, Before: 0x1000000}, n.err
}

func (n *fakeNode) Check(context.Context, timeline.ID) (api.CheckResult, error) {
	return api.CheckResult{OK: true, Lines: []api.CheckLine{{Name: "slot", Result: api.CheckOK, Text: "active"}}}, n.err
}

func (n *fakeNode) OpenWAL(ctx context.Context, _ timeline.ID, file string, o api.WALOptions) (api.WAL, error) {
	n.client = timeline.ClientOf(ctx)
	if n.wal != nil {
		return n.wal(file, o)
	}
	return api.WAL{}, n.err
}

func (n *fakeNode) Gates() []api.ClosingGate { return n.gates }

// fileOf is a WAL file with these bytes.
func fileOf(b []byte) api.WAL {
	return api.WAL{Answer: api.AnswerFile, Size: int64(len(b)), Digest: sha256.Sum256(b), Body: io.NopCloser(bytes.NewReader(b))}
}

// serve starts a server for the node, and returns its URL and what it logged.
func serve(t *testing.T, n api.Node, cfg api.Config) (url string, log *bytes.Buffer) {
	t.Helper()
	log = &bytes.Buffer{}
	cfg.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := httptest.NewServer(api.New(n, cfg).Handler())
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		s.Close()
	})
	return s.URL, log
}
