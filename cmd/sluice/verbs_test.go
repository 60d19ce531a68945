package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sluicewal/sluice/internal/api"
	"github.com/sluicewal/sluice/internal/timeline"
)

// TestVerbs runs the scripts in testdata/verbs. $SLUICE_SERVER is a server that speaks for a fake node;
// "listening FILE" waits until a real one runs and sets $SLUICE_SERVER to it.
func TestVerbs(t *testing.T) {
	server := httptest.NewServer(api.New(fakeNode{}, api.Config{Metrics: http.NotFoundHandler()}).Handler())
	starting := httptest.NewServer(api.New(startingNode{}, api.Config{Metrics: http.NotFoundHandler()}).Handler())
	t.Cleanup(func() { server.Close(); starting.Close() }) // the scripts run after this function
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/verbs",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("SLUICE_SERVER", server.URL)
			e.Setenv("FAKE", server.URL)
			e.Setenv("STARTING", starting.URL)
			e.Setenv("NOBODY", nobody(t))
			e.Setenv("PORT", freePort(t))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"ready": ready, "exits": exits},
	})
}

// freePort returns a port where nobody listens now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// exits runs a program that has to end with a status: "exits 2 sluice gates --no".
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%v ends with %d (%v), want %s", args[1:], code, err, args[0])
	}
}

// ready waits until the node at a URL serves.
func ready(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0]+"/readyz", nil)
		ts.Check(err)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("%s is not ready: %v", args[0], err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// fakeNode has acme/main, which is well, acme/odd, which is not, and acme/local, which is not listed and has no object
// storage.
type fakeNode struct{ api.Node }

func (fakeNode) Info() api.NodeInfo {
	return api.NodeInfo{ID: "1a", Version: "v0", Stage: "running", Started: time.Now()}
}
func (fakeNode) Ready() error { return nil }

// startingNode is not ready.
type startingNode struct{ fakeNode }

func (startingNode) Ready() error { return api.Errorf(api.KindUnavailable, "the node is not ready") }

func (fakeNode) Tenants() []api.Tenant {
	return []api.Tenant{{Name: "acme", Mode: api.ModeAttached, State: "running", Timelines: 2}}
}

func (n fakeNode) Tenant(id timeline.TenantID) (api.Tenant, error) {
	if id != "acme" && id != "slow" {
		return api.Tenant{}, api.Errorf(api.KindNotFound, "there is no tenant %s", id)
	}
	return n.Tenants()[0], nil
}

func (n fakeNode) CreateTenant(_ context.Context, id timeline.TenantID) (api.Tenant, bool, error) {
	return api.Tenant{Name: string(id), Mode: api.ModeAttached, State: "running"}, true, nil
}

func (fakeNode) SetTenantMode(ctx context.Context, id timeline.TenantID, m api.Mode, force bool) (api.Tenant, error) {
	switch {
	case id == "slow":
		<-ctx.Done()
		return api.Tenant{}, fmt.Errorf("secondary tenant slow goes on: %w", ctx.Err())
	case m == api.ModeDetached && !force:
		return api.Tenant{}, api.Errorf(api.KindRefused, "commits of the source wait for this node")
	}
	return api.Tenant{Name: string(id), Mode: m, State: "running"}, nil
}

func (fakeNode) DeleteTenant(context.Context, timeline.TenantID, bool) error { return nil }

func (fakeNode) Timelines(timeline.TenantID) ([]timeline.Status, error) {
	return []timeline.Status{healthy(), odd()}, nil
}

func healthy() timeline.Status {
	lag, unbacked, queue := int64(42), int64(0x2B3700), int64(2)
	return timeline.Status{
		Tenant: "acme", Timeline: "main", State: "running", TLI: 3, FlushLSN: 0x16B3748, CommitLSN: 0x16B3700,
		Source:    timeline.SourceStatus{Conninfo: "host=h password=s3cret", State: "connected", Connected: true, Since: time.Now().Add(-time.Hour), LagBytes: &lag},
		BackupLSN: 0x1400000, HorizonLSN: 0x1200000,
		Backup: &timeline.BackupStatus{
			Store: "s3://wal", Available: true, LagBytes: &unbacked, QueueSegments: &queue,
			Partial: &timeline.PartialStatus{TLI: 3, End: 0x16B3700, At: time.Now().Add(-5 * time.Minute)},
		},
		Quorum:  timeline.QuorumStatus{K: 1, N: 1, Names: []string{"1a"}, Text: `"1a"`, Synchronous: true, Qualified: true},
		Tasks:   []timeline.TaskStatus{{Name: "receive", State: "running", Reason: "source_set", Restarts: 2, LastError: "old"}},
		Manager: timeline.ManagerStatus{Phase: "wait", Iterations: 12084, NoopIterations: 12055, LastReason: "timer"},
	}
}

func odd() timeline.Status {
	s := healthy()
	s.Timeline, s.Source.LagBytes = "odd", nil
	s.Source.State, s.Source.Error = "refused", "the source is\nbehind"
	s.Quorum.Synchronous, s.Quorum.Why = false, "synchronous_standby_names is empty"
	s.Seal = &timeline.SealStatus{TLI: 3, End: 0x16B3748}
	s.Backup = &timeline.BackupStatus{Store: "s3://wal", Error: "the object store\nrefuses the credentials"}
	s.BackupLSN, s.HorizonLSN = 0, 0
	s.Diverged = []timeline.DivergedStatus{{TLI: 2, From: 1, To: 2, Path: "wal/diverged/x"}}
	return s
}

func (fakeNode) Timeline(id timeline.ID) (timeline.Status, error) {
	switch id.Name {
	case "main":
		return healthy(), nil
	case "odd":
		return odd(), nil
	case "local":
		s := healthy()
		s.Timeline, s.Backup = "local", nil
		return s, nil
	}
	return timeline.Status{}, api.Errorf(api.KindNotFound, "there is no timeline %s", id)
}

func (n fakeNode) CreateTimeline(_ context.Context, id timeline.ID, _ api.CreateOptions) (timeline.Status, error) {
	if s, err := n.Timeline(id); err == nil {
		return s, api.Errorf(api.KindExists, "timeline %s exists already", id)
	}
	return healthy(), nil
}

func (n fakeNode) SetTimeline(_ context.Context, id timeline.ID, _ api.SetOptions) (timeline.Status, error) {
	return n.Timeline(id)
}

func (fakeNode) DeleteTimeline(ctx context.Context, id timeline.ID, _ bool) error {
	if id.Name == "odd" { // it takes for ever
		<-ctx.Done()
		return fmt.Errorf("delete: %w", ctx.Err())
	}
	return nil
}

func (fakeNode) Trim(_ context.Context, _ timeline.ID, before string) (api.TrimResult, error) {
	if before != "000000010000000000000002" {
		return api.TrimResult{}, api.Errorf(api.KindInvalid, "%q is no segment's name", before)
	}
	return api.TrimResult{Segments: 3, Bytes: 1234, Before: 0x2000000}, nil
}

func (fakeNode) Seal(_ context.Context, id timeline.ID, accept bool) (api.SealResult, error) {
	if id.Name == "odd" && !accept {
		return api.SealResult{}, api.Errorf(api.KindRefused, "nodes b and c have to seal, too")
	}
	return api.SealResult{TLI: 3, End: 0x16B3748, Nodes: []string{"1a"}, Warnings: []string{"commits may be missing"}}, nil
}

func (fakeNode) Unseal(_ context.Context, _ timeline.ID, force bool) error {
	if !force {
		return api.Errorf(api.KindRefused, "the tail was handed out")
	}
	return nil
}

func (fakeNode) Check(_ context.Context, id timeline.ID) (api.CheckResult, error) {
	if id.Name == "odd" {
		return api.CheckResult{Lines: []api.CheckLine{{Name: "slot", Result: api.CheckFail, Text: "it is not there"}}}, nil
	}
	return api.CheckResult{OK: true, Lines: []api.CheckLine{{Name: "slot", Result: api.CheckOK, Text: "it is active"}}}, nil
}

func (fakeNode) Gates() []api.ClosingGate {
	return []api.ClosingGate{{
		Gate: "timeline", Tenant: "acme", Timeline: "old", Since: time.Now().Add(-time.Minute),
		Holders: []timeline.GateHolder{{Name: "wal_download", Since: time.Now().Add(-time.Hour), TraceID: "abc", Client: "192.0.2.7:40404", File: segmentOne}},
	}}
}

// TestRemarkIsWhatIsWrongFirst mends one thing after the other.
func TestRemarkIsWhatIsWrongFirst(t *testing.T) {
	s := odd()
	s.Reason = "the log is damaged"
	for _, step := range []struct {
		want string
		mend func()
	}{
		{"the log is damaged", func() { s.Reason = "" }},
		{"the source is\nbehind", func() { s.Source.Error = "" }},
		{"object storage is not available: the object store\nrefuses the credentials", func() { s.Backup.Error = "" }},
		{"object storage is not available", func() { s.Backup.Available = true }},
		{"WAL has diverged, see `show`", func() { s.Diverged = nil }},
		{"synchronous_standby_names is empty", func() { s.Quorum.Why = "" }},
		{"", func() {}},
	} {
		if got := remark(s); got != step.want {
			t.Errorf("got %q, want %q", got, step.want)
		}
		step.mend()
	}
}

func TestErrorsEndWithTheirCode(t *testing.T) {
	var out strings.Builder
	for _, tt := range []struct {
		err  error
		code int
		text string
	}{
		{nil, 0, ""},
		{fmt.Errorf("disk: %w", context.Canceled), 1, "sluice: disk: context canceled\n"},
		{errCheck, 1, ""},
		{fmt.Errorf("wrapped: %w", exitStatus(126)), 126, ""},
	} {
		out.Reset()
		if code := exitCode(tt.err, &out); code != tt.code || out.String() != tt.text {
			t.Errorf("%v: code %d, %q", tt.err, code, out.String())
		}
	}
}

// TestEveryVerbHasHelp walks through the command line as kong knows it.
func TestEveryVerbHasHelp(t *testing.T) {
	var out, errs strings.Builder
	parser, err := newParser(&out, &errs)
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range parser.Model.Leaves(false) {
		if leaf.Help == "" {
			t.Errorf("%s has no help", leaf.FullPath())
		}
		for _, f := range leaf.Flags {
			if f.Help == "" {
				t.Errorf("%s --%s has no help", leaf.FullPath(), f.Name)
			}
		}
	}
}
