package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sluicewal/sluice/internal/api"
	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/keeper"
	"github.com/sluicewal/sluice/internal/restore"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/telemetry"
)

// node is what the API speaks for: the keeper in the API's words. It is there
// before the keeper is, so that a node that starts, and one that stops, can be
// asked.
type node struct {
	id      string
	version string
	started time.Time
	stage   atomic.Pointer[string]
	tel     *telemetry.Telemetry
	peers   []api.PeerInfo                // those of the configuration, of which nothing is heard yet
	keeper  atomic.Pointer[keeper.Keeper] // nil while the node starts
	// requests is the gate of those that are answered; see [process.stopHTTP].
	requests *gate.Gate
	visits   *timeline.Visits // of requests: whose they are
	shutdown *stages          // nil: none is known of
}

// The stages of a node's life, beside those of its shutdown.
const (
	stageStarting = "starting"
	stageRunning  = "running"
)

func newNode(id, version string, tel *telemetry.Telemetry) *node {
	n := &node{id: id, version: version, started: time.Now(), tel: tel}
	cfg := gate.Config{
		Kind: gateHTTP, Name: "http requests", Hooks: &gate.Hooks{Events: tel.GateEvents(), Trace: tel.GateTrace(), Clock: gate.NewClock()},
	}
	n.requests = gate.New(cfg)
	n.visits = timeline.NewVisits(n.requests, cfg)
	n.enter(stageStarting)
	return n
}

// enter goes over to a stage.
func (n *node) enter(stage string) { n.stage.Store(&stage) }

// serve lets requests reach the keeper.
func (n *node) serve(k *keeper.Keeper) { n.keeper.Store(k) }

var _ api.Node = (*node)(nil)

// Info implements api.Node.
func (n *node) Info() api.NodeInfo {
	info := api.NodeInfo{ID: n.id, Version: n.version, Stage: *n.stage.Load(), Started: n.started, Peers: slices.Clone(n.peers)}
	k := n.keeper.Load()
	if k == nil {
		return info
	}
	if s, ok := k.BrokerStats(); ok {
		info.Broker = &api.BrokerInfo{Connected: s.Connected}
		if s.Err != nil && !s.Connected {
			info.Broker.Error = s.Err.Error()
		}
	}
	for _, heard := range k.Nodes() {
		i := slices.IndexFunc(info.Peers, func(p api.PeerInfo) bool { return p.ID == heard.ID })
		if i < 0 {
			i = len(info.Peers)
			info.Peers = append(info.Peers, api.PeerInfo{ID: heard.ID})
		}
		info.Peers[i].Seen, info.Peers[i].Silent = heard.Heard, heard.Silent
	}
	return info
}

// Ready implements api.Node.
func (n *node) Ready() error {
	if stage := *n.stage.Load(); stage != stageRunning {
		return api.Errorf(api.KindUnavailable, "the node is not ready: its stage is %s", stage)
	}
	return nil
}

// open returns the keeper once there is one.
func (n *node) open() (*keeper.Keeper, error) {
	k := n.keeper.Load()
	if k == nil {
		return nil, api.Errorf(api.KindUnavailable, "the node is starting: its timelines are being opened")
	}
	return k, nil
}

// problem gives a domain error the kind that a client can branch on.
func problem(err error) error {
	if err == nil {
		return nil
	}
	for _, rule := range problems {
		if errors.Is(err, rule.is) {
			return api.Errorf(rule.kind, "%w", err)
		}
	}
	if unsealable := new(timeline.UnsealableError); errors.As(err, &unsealable) {
		return api.Errorf(api.KindRefused, "%w", err)
	}
	if undecided := new(timeline.UndecidedError); errors.As(err, &undecided) {
		return api.Errorf(api.KindUnavailable, "%w", err)
	}
	return err
}

var problems = []struct {
	is   error
	kind api.Kind
}{
	{keeper.ErrNoTenant, api.KindNotFound},
	{keeper.ErrNoTimeline, api.KindNotFound},
	{keeper.ErrExists, api.KindExists},
	{keeper.ErrBadConninfo, api.KindInvalid},
	{keeper.ErrBadSegment, api.KindInvalid},
	{keeper.ErrNoStore, api.KindConflict},
	{keeper.ErrWaitedFor, api.KindRefused},
	{keeper.ErrDetached, api.KindConflict},
	{keeper.ErrSecondary, api.KindConflict},
	{backup.ErrAlive, api.KindConflict},
	{backup.ErrNotKept, api.KindConflict},
	{backup.ErrDenied, api.KindUnavailable},
	{backup.ErrCut, api.KindUnavailable},
	{backup.ErrNoBucket, api.KindUnavailable},
	{timeline.ErrEnded, api.KindConflict},
	{timeline.ErrShuttingDown, api.KindShuttingDown},
	{timeline.ErrBroken, api.KindUnavailable},
	{timeline.ErrEmpty, api.KindConflict},
	{timeline.ErrNotSealed, api.KindConflict},
	{timeline.ErrTailServed, api.KindRefused},
	{fs.ErrNotExist, api.KindNotFound},
}

// Tenants implements api.Node.
func (n *node) Tenants() []api.Tenant {
	all := []api.Tenant{}
	k := n.keeper.Load()
	if k == nil {
		return all
	}
	for _, id := range k.Tenants() {
		if info, err := k.Tenant(id); err == nil {
			all = append(all, tenantOf(info))
		}
	}
	return all
}

func tenantOf(info keeper.TenantInfo) api.Tenant {
	t := api.Tenant{Name: string(info.ID), Mode: api.Mode(info.Mode), State: "running", Timelines: info.Timelines}
	if info.Reason != nil {
		t.State, t.Reason = "stopped", info.Reason.Error()
	}
	switch {
	case info.Operation.Name != "":
		t.State = "changing"
		t.Reason = fmt.Sprintf("%s since %s, step %s", info.Operation.Name, info.Operation.Since.UTC().Format(time.RFC3339), info.Operation.Step)
	case info.Stopping:
		t.State = "stopping"
	}
	return t
}

// Tenant implements api.Node.
func (n *node) Tenant(id timeline.TenantID) (api.Tenant, error) {
	k, err := n.open()
	if err != nil {
		return api.Tenant{}, err
	}
	info, err := k.Tenant(id)
	return tenantOf(info), problem(err)
}

// CreateTenant implements api.Node.
func (n *node) CreateTenant(ctx context.Context, id timeline.TenantID) (api.Tenant, bool, error) {
	k, err := n.open()
	if err != nil {
		return api.Tenant{}, false, err
	}
	created, err := k.CreateTenant(ctx, id)
	if err != nil {
		return api.Tenant{}, false, problem(err)
	}
	info, err := k.Tenant(id)
	return tenantOf(info), created, problem(err)
}

// SetTenantMode implements api.Node.
func (n *node) SetTenantMode(ctx context.Context, id timeline.TenantID, mode api.Mode, force bool) (api.Tenant, error) {
	k, err := n.open()
	if err != nil {
		return api.Tenant{}, err
	}
	if err := k.SetMode(ctx, id, timeline.Mode(mode), force); err != nil {
		return api.Tenant{}, problem(err)
	}
	return n.Tenant(id)
}

// DeleteTenant implements api.Node.
func (n *node) DeleteTenant(ctx context.Context, id timeline.TenantID, keepObjects bool) error {
	k, err := n.open()
	if err != nil {
		return err
	}
	return problem(k.DeleteTenant(ctx, id, keepObjects))
}

// Timelines implements api.Node.
func (n *node) Timelines(tenant timeline.TenantID) ([]timeline.Status, error) {
	k, err := n.open()
	if err != nil {
		return nil, err
	}
	if _, err := k.Tenant(tenant); err != nil {
		return nil, problem(err)
	}
	all := []timeline.Status{}
	for _, m := range k.Members() {
		if m.ID().Tenant == tenant {
			all = append(all, m.Status())
		}
	}
	return all, nil
}

// Timeline implements api.Node.
func (n *node) Timeline(id timeline.ID) (timeline.Status, error) {
	k, err := n.open()
	if err != nil {
		return timeline.Status{}, err
	}
	m, err := k.Member(id)
	if err != nil {
		return timeline.Status{}, problem(err)
	}
	return m.Status(), nil
}

// CreateTimeline implements api.Node. Where no object storage is configured,
// creating is the operator's word that the timeline is new.
func (n *node) CreateTimeline(ctx context.Context, id timeline.ID, opts api.CreateOptions) (timeline.Status, error) {
	k, err := n.open()
	if err != nil {
		return timeline.Status{}, err
	}
	if opts.Incarnation != "" {
		err = k.AttachTimeline(ctx, id, opts.Incarnation, opts.Source)
	} else {
		err = k.CreateTimeline(ctx, id, opts.Source, opts.New)
	}
	if err != nil {
		return timeline.Status{}, problem(err)
	}
	return n.Timeline(id)
}

// SetTimeline implements api.Node.
func (n *node) SetTimeline(ctx context.Context, id timeline.ID, opts api.SetOptions) (timeline.Status, error) {
	k, err := n.open()
	if err != nil {
		return timeline.Status{}, err
	}
	ctx, end := n.tel.Operation(ctx, "set", id)
	err = k.SetTimeline(ctx, id, opts.Source, opts.AcceptDataLoss)
	end(err)
	if err != nil {
		return timeline.Status{}, problem(err)
	}
	return n.Timeline(id)
}

// DeleteTimeline implements api.Node.
func (n *node) DeleteTimeline(ctx context.Context, id timeline.ID, keepObjects bool) error {
	k, err := n.open()
	if err != nil {
		return err
	}
	return problem(k.DeleteTimeline(ctx, id, keepObjects))
}

// Seal implements api.Node.
func (n *node) Seal(ctx context.Context, id timeline.ID, acceptDataLoss bool) (api.SealResult, error) {
	k, err := n.open()
	if err != nil {
		return api.SealResult{}, err
	}
	ctx, end := n.tel.Operation(ctx, "seal", id)
	res, err := k.Seal(ctx, id, acceptDataLoss)
	end(err)
	if err != nil {
		return api.SealResult{}, problem(err)
	}
	out := api.SealResult{TLI: res.TLI, End: res.End, Nodes: []string{n.id}, Warnings: []string{}}
	if res.Warning != "" {
		out.Warnings = append(out.Warnings, res.Warning)
	}
	return out, nil
}

// Unseal implements api.Node.
func (n *node) Unseal(ctx context.Context, id timeline.ID, force bool) error {
	k, err := n.open()
	if err != nil {
		return err
	}
	ctx, end := n.tel.Operation(ctx, "unseal", id)
	_, err = k.Unseal(ctx, id, force)
	end(err)
	return problem(err)
}

// Trim implements api.Node.
func (n *node) Trim(ctx context.Context, id timeline.ID, before string) (api.TrimResult, error) {
	k, err := n.open()
	if err != nil {
		return api.TrimResult{}, err
	}
	ctx, end := n.tel.Operation(ctx, "trim", id)
	res, err := k.Trim(ctx, id, before)
	end(err)
	return api.TrimResult{Segments: res.Segments, Bytes: res.Bytes, Before: res.Before}, problem(err)
}

// Check implements api.Node.
func (n *node) Check(ctx context.Context, id timeline.ID) (api.CheckResult, error) {
	k, err := n.open()
	if err != nil {
		return api.CheckResult{}, err
	}
	findings, err := k.Check(ctx, id)
	if err != nil {
		return api.CheckResult{}, problem(err)
	}
	res := api.CheckResult{OK: keeper.Failed(findings) == nil}
	for _, f := range findings {
		res.Lines = append(res.Lines, api.CheckLine{Name: f.Name, Result: api.CheckStatus(f.Verdict), Text: f.Text})
	}
	return res, nil
}

// OpenWAL implements api.Node.
func (n *node) OpenWAL(ctx context.Context, id timeline.ID, file string, opts api.WALOptions) (api.WAL, error) {
	k, err := n.open()
	if err != nil {
		return api.WAL{}, err
	}
	f, err := k.OpenWAL(ctx, id, keeper.WALRequest{File: file, Copy: opts.Copy, AcceptDataLoss: opts.AcceptDataLoss})
	if err != nil {
		return api.WAL{}, problem(err)
	}
	switch {
	case f.Kind == restore.Present:
		return api.WAL{Answer: api.AnswerFile, Text: f.Text, Size: f.Body.Size, Digest: f.Body.Digest, Body: f, Gone: f.Gone}, nil
	case f.Kind == restore.Absent:
		return api.WAL{Answer: api.AnswerAbsent, Text: f.Text}, f.Close()
	case f.Reason == restore.Unsealed:
		return api.WAL{}, errors.Join(api.Errorf(api.KindUnsealed, "%s", f.Text), f.Close())
	}
	return api.WAL{Answer: api.AnswerUnknown, Text: f.Text}, f.Close()
}
