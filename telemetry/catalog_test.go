package telemetry

import (
	"context"
	"errors"
	"flag"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/test/rig"
)

// everything has each event happen once, as a node would have it.
func everything(t *testing.T, tel *Telemetry) {
	t.Helper()
	ctx := t.Context()
	tel.Life(acme, "0190")
	m, k := tel.ManagerEvents(acme), tel.TaskEvents(acme)
	_, endSet := tel.Operation(ctx, "set", acme)
	endSet(nil)
	plan := manager.Plan{
		Tasks: []manager.Decision{{Task: manager.Receive, Action: manager.Start, Why: manager.WhySourceSet}}, ActiveChanged: true, Save: true,
	}
	reasons := timeline.WakeReasons(0).With(timeline.ReasonRequest)
	turn := m.Planned(ctx, manager.Planned{Reasons: reasons, Began: time.Now(), Plan: plan})
	taskCtx := k.Started(turn, tasks.Start{Name: manager.Receive, Attempt: 2})
	m.ActiveChanged(turn, manager.ActiveChange{Active: true})
	m.SaveFailed(turn, manager.SaveFailure{Err: errors.New("EIO"), InARow: 1})
	m.Iterated(turn, manager.Iteration{Reasons: reasons, Acted: true, Duration: time.Millisecond})
	m.Panicked(turn, manager.Panic{Err: &tasks.PanicError{Value: "boom", Stack: []byte("stack")}})

	at := pg.Position{TLI: 3, LSN: 0x16B3748}
	w, r := tel.WALEvents(acme), tel.ReplicationEvents(acme)
	r.SlotMade(replication.Slot{Name: "sluice_a"})
	r.Adopted(at)
	r.Connected(replication.Connected{Source: replication.Source{ServerVersion: 150018}, Start: at})
	w.Synced(wal.SyncInfo{Flush: at, Bytes: 8192, Duration: time.Second})
	r.Acked(replication.Ack{Position: at, Bytes: 8192, Duration: time.Second})
	w.Synced(wal.SyncInfo{Flush: at, Duration: time.Millisecond, Err: errors.New("EIO")})
	w.Poisoned(&wal.Poison{Err: errors.New("EIO"), Vouched: at})
	w.Recovered(at)
	w.SegmentComplete(3, 1)
	w.Diverged(wal.Diverged{TLI: 2})
	k.Ended(k.Started(turn, tasks.Start{Name: manager.Remove, Attempt: 1}), tasks.End{Name: manager.Remove, Outcome: tasks.Done})
	w.Removed(wal.Removal{Below: 0x1000000, Segments: 2, Bytes: 1 << 24})
	r.Followed(replication.Followed{From: 2, To: 3, Fork: 1})
	refused := &replication.RefusedError{Reason: replication.Forked, Text: "it went its own way"}
	r.Refused(refused)
	k.Ended(taskCtx, tasks.End{Name: manager.Receive, Outcome: tasks.Failed, Err: refused, Ran: time.Second})

	upload(k.Started(ctx, tasks.Start{Name: manager.Backup, Attempt: 1}), tel.BackupEvents(), errors.New("the disk is gone"))

	rounds(t, tel.BrokerEvents())
	m.OffloaderChanged(turn, manager.OffloaderChange{To: "a", Why: manager.WhyNobodyHad})

	g := tel.GateEvents()
	reqCtx, span := tel.Tracer().Start(ctx, "GET /x", trace.WithAttributes(always()))
	g.Entered(reqCtx, gate.Entry{Kind: "timeline", Name: "acme/main", Holder: "request"})
	g.Entered(reqCtx, gate.Entry{Kind: "timeline", Name: "acme/main", Holder: "request", Refused: true})
	held := GateTrace(reqCtx)
	g.Left(gate.Exit{Kind: "timeline", Name: "acme/main", Holder: "request", Since: time.Now().Add(-time.Minute), Held: time.Minute, Trace: held})
	g.Misused(gate.Misuse{Kind: "timeline", Misuse: gate.LeftTwice})
	closing := g.CloseStarted(ctx, gate.CloseStart{Kind: "timeline", Name: "acme/main"})
	g.CloseWaiting(closing, gate.CloseWait{Kind: "timeline", Name: "acme/main", Waited: time.Minute, Holders: []gate.HolderInfo{{Name: "request", Since: time.Now(), Trace: held}}})
	g.CloseEnded(closing, gate.CloseEnd{Kind: "timeline", Name: "acme/main", Waited: time.Minute})
	tel.HTTPAnswered(reqCtx, "/v1/tenants/{t}", "GET", 200, time.Millisecond)
	span.End()
	_, answered, endFetch := tel.WALFetch(timeline.WithClient(reqCtx, "192.0.2.7:40404"), acme, "000000010000000000000001")
	answered("file", nil)
	endFetch(1 << 24)
	tel.PhaseWaits(acme, "save", 7*time.Second)
	stuck, endStuck := tel.Stuck(ctx, "manager", "acme/main", "save", time.Now())
	tel.Diagnosed(stuck, "/data/diagnostics/x")
	endStuck()
	tel.StepWaits(acme, "delete", "slot", 7*time.Second)

	for _, of := range operationNames {
		for _, name := range of.names {
			_, end := tel.OperationStarted(ctx, reqCtx, of.id, name)
			tel.OperationStep(of.id, name, "mark")
			end(errors.New("failed"))
		}
		_, end := tel.ShutdownStarted(ctx, of.id, errors.New("the node stops"))
		end(nil)
	}
	stopping, end := tel.NodeShutdown(ctx, "signal")
	stage, endStage := tel.ShutdownStage(stopping, "tenants", time.Second)
	tel.StageWaits(stage, "tenants", []string{"timeline acme/main: wal_download (12s)"})
	endStage(nil)
	end(nil)
}

// families are what both endpoints answer with, as Prometheus reads it where native histograms are switched on.
func families(t *testing.T, tel *Telemetry) map[string]*dto.MetricFamily {
	t.Helper()
	all := map[string]*dto.MetricFamily{}
	for _, h := range []http.Handler{tel.Metrics(), tel.TimelineMetrics()} {
		for name, f := range decode(t, answerIn(t, h, expfmt.FmtProtoDelim)) {
			if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
				continue
			}
			if old, ok := all[name]; ok {
				f.Metric = append(f.Metric, old.Metric...)
			}
			all[name] = f
		}
	}
	return all
}

func TestCatalogueIsWhatIsGathered(t *testing.T) {
	tel, _ := start(t, Config{TimelineLimit: 10})
	src := busySource()
	src.timelines = append(src.timelines, busyTimeline(timeline.ID{Tenant: "acme", Name: "new"}))
	src.timelines[1].Synchronous = false
	tel.Watch(src)
	everything(t, tel)
	got := families(t, tel)
	for _, m := range Catalog().Metrics {
		f, ok := got[m.Name]
		if !ok {
			t.Errorf("%s is declared and not there", m.Name)
			continue
		}
		delete(got, m.Name)
		checkFamily(t, m, f)
	}
	for name := range got {
		t.Errorf("%s is there and not declared", name)
	}
}

func checkFamily(t *testing.T, m Metric, f *dto.MetricFamily) {
	t.Helper()
	if kind := strings.ToLower(f.GetType().String()); kind != string(m.Kind) {
		t.Errorf("%s is a %s, declared as a %s", m.Name, kind, m.Kind)
	}
	if (m.Kind == Counter) != strings.HasSuffix(m.Name, "_total") {
		t.Errorf("%s: counters, and they alone, end in _total", m.Name)
	}
	if m.Unit != "" && !strings.Contains(m.Name, "_"+m.Unit) {
		t.Errorf("%s does not name its unit, %s", m.Name, m.Unit)
	}
	want := slices.Sorted(slices.Values(m.Labels))
	for _, series := range f.Metric {
		var labels []string
		for _, l := range series.Label {
			labels = append(labels, l.GetName())
			if forbidden.MatchString(l.GetValue()) {
				t.Errorf("%s has the label %s=%q", m.Name, l.GetName(), l.GetValue())
			}
			if closed, ok := Catalog().Values[m.Name][l.GetName()]; ok && !slices.Contains(closed, l.GetValue()) {
				t.Errorf("%s has the label %s=%q, which is not in the closed list", m.Name, l.GetName(), l.GetValue())
			}
		}
		if slices.Sort(labels); !slices.Equal(labels, want) {
			t.Errorf("%s has the labels %v, declared are %v", m.Name, labels, want)
		}
		if h := series.Histogram; m.Kind == Histogram && (len(h.Bucket) == 0 || h.Schema == nil) {
			t.Errorf("%s is not classic and native at once", m.Name)
		}
	}
}

// forbidden matches LSNs, addresses and ids of traces.
var forbidden = regexp.MustCompile(`^[0-9A-F]+/[0-9A-F]+$|:\d+$|^[0-9a-f]{16,}$`)

func TestClosedListsAreOfDeclaredLabels(t *testing.T) {
	declared := map[string][]string{}
	for _, m := range Catalog().Metrics {
		declared[m.Name] = m.Labels
	}
	for name, of := range Catalog().Values {
		for label, values := range of {
			if !slices.Contains(declared[name], label) || len(values) == 0 {
				t.Errorf("%s has a list of %d values for %s, a label that it does not have", name, len(values), label)
			}
		}
	}
}

func TestSpansAreDeclared(t *testing.T) {
	s := rig.StartCollector(t, nil)
	tel, _ := start(t, Config{OTLPEndpoint: s.URL, SampleRatio: 0, SampleRatioSet: true})
	tel.Watch(&fakeSource{})
	everything(t, tel)
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	attributes, links := map[string]map[string]bool{}, map[string]bool{}
	for _, span := range s.Spans() {
		if attributes[span.Name] == nil {
			attributes[span.Name] = map[string]bool{}
		}
		for _, a := range span.Attributes {
			attributes[span.Name][a.Key] = true
		}
		links[span.Name] = links[span.Name] || len(span.Links) > 0
	}
	delete(attributes, "GET /x") // the request's own
	for _, declared := range Catalog().Spans {
		got, ok := attributes[declared.Name]
		if !ok {
			t.Errorf("span %s is declared and was not exported, at a ratio of 0", declared.Name)
			continue
		}
		delete(attributes, declared.Name)
		for _, implied := range []string{"tenant", "timeline", "incarnation", string(sampleKey)} {
			delete(got, implied)
		}
		if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, slices.Sorted(slices.Values(declared.Attributes))) {
			t.Errorf("span %s has the attributes %v, declared are %v", declared.Name, names, declared.Attributes)
		}
		if links[declared.Name] != (declared.Links != "") {
			t.Errorf("span %s has links: %v, declared: %q", declared.Name, links[declared.Name], declared.Links)
		}
	}
	for name := range attributes {
		t.Errorf("span %s was exported and is not declared", name)
	}
}

// update writes the document instead of comparing it; go generate does.
var update = flag.Bool("update", false, "write docs/telemetry.md")

func TestDocumentIsFresh(t *testing.T) {
	if *update {
		if err := os.WriteFile("../docs/telemetry.md", Catalog().Markdown(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("../docs/telemetry.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(Catalog().Markdown()) {
		t.Error("docs/telemetry.md is not what the catalogue says: run go generate ./telemetry")
	}
}

func TestWorkOfATaskIsNoChildOfItsStart(t *testing.T) {
	s := rig.StartCollector(t, nil)
	tel, _ := start(t, Config{OTLPEndpoint: s.URL, SampleRatio: 1})
	k := tel.TaskEvents(acme)
	parent, span := tel.Tracer().Start(t.Context(), "manager.iteration")
	ctx := k.Started(parent, tasks.Start{Name: manager.Remove, Attempt: 1})
	_, work := tel.Tracer().Start(ctx, "segment.remove")
	work.End()
	k.Ended(ctx, tasks.End{Name: manager.Remove, Outcome: tasks.Done})
	span.End()
	if err := tel.Shutdown(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	traces := map[string]string{}
	var spawn, linked string
	for _, sp := range s.Spans() {
		traces[sp.Name] = string(sp.TraceId)
		if sp.Name == "task.spawn" {
			spawn = string(sp.SpanId)
		}
		for _, l := range sp.Links {
			linked = string(l.SpanId)
		}
	}
	if traces["task.spawn"] != traces["manager.iteration"] {
		t.Error("the start is not in the iteration's trace")
	}
	if traces["segment.remove"] == traces["task.spawn"] || traces["task.end"] == traces["task.spawn"] {
		t.Error("the work, or the end, is in the trace of the start")
	}
	if linked == "" || linked != spawn {
		t.Error("the end is not linked to the start")
	}
}

func TestAcknowledgementPointsToItsSync(t *testing.T) {
	s := rig.StartCollector(t, nil)
	tel, _ := start(t, Config{OTLPEndpoint: s.URL, SampleRatio: 1})
	at := pg.Position{TLI: 1, LSN: 0x2000000}
	tel.WALEvents(acme).Synced(wal.SyncInfo{Flush: at, Bytes: 100, Duration: time.Millisecond})
	tel.ReplicationEvents(acme).Acked(replication.Ack{Position: at, Bytes: 100, Duration: 2 * time.Millisecond})
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	var exemplar string
	for _, b := range families(t, tel)["sluice_wal_ack_duration_seconds"].Metric[0].Histogram.Bucket {
		for _, l := range b.GetExemplar().GetLabel() {
			exemplar = l.GetValue()
		}
	}
	if len(s.Spans()) != 1 || s.Spans()[0].Name != "wal.fsync" {
		t.Fatalf("spans: %v", s.Spans())
	}
	if want := trace.TraceID(s.Spans()[0].TraceId).String(); exemplar != want {
		t.Errorf("the exemplar points to %q, the sync is %q", exemplar, want)
	}
}
