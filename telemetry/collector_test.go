package telemetry

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/test/rig"
)

func TestWhatIsNotKnownIsAbsent(t *testing.T) {
	tel, _ := start(t, Config{TimelineLimit: 10})
	unknown := busyTimeline(acme)
	unknown.LagKnown, unknown.QuorumKnown, unknown.CommitLSN = false, false, 0
	unknown.BackupLSN, unknown.HorizonLSN, unknown.BackupLagBytes, unknown.OldestUnbackedSince = 0, 0, nil, time.Time{}
	unknown.QueueSegments, unknown.Retained = nil, nil
	tel.Watch(&fakeSource{timelines: []TimelineStats{unknown}})
	text := scrape(t, tel.Metrics())
	for _, absent := range []string{
		"timeline_source_lag_bytes{", "timeline_synchronous{", "timeline_quorum_required{", `position="commit"`, "data_dir_free_bytes ", "shutdown_stage",
		"timeline_backup_lag_", `position="backup"`, `position="horizon"`, "backup_queue_segments", "wal_retained_bytes",
		"objectstore_", "backup_uploads_running", "backup_concurrency_limit",
	} {
		if strings.Contains(text, absent) {
			t.Errorf("%s is there", absent)
		}
	}
	if !strings.Contains(text, `position="flush"`) || !strings.Contains(text, "timeline_source_connected{") {
		t.Error("what is known is absent, too")
	}
}

func TestSeriesVanishWithTheTimeline(t *testing.T) {
	tel, _ := start(t, Config{TimelineLimit: 10})
	src := &fakeSource{timelines: []TimelineStats{busyTimeline(acme), busyTimeline(timeline.ID{Tenant: "acme", Name: "old"})}}
	src.timelines[1].State = timeline.StateStopping
	tel.Watch(src)
	tel.WALEvents(src.timelines[1].ID)
	if text := scrape(t, tel.Metrics()); !strings.Contains(text, `timeline_state{state="stopping",tenant="acme",timeline="old"} 1`) {
		t.Error("a timeline that shuts down is not there")
	}
	src.timelines = src.timelines[:1]
	if text := scrape(t, tel.Metrics()); strings.Contains(text, `timeline="old"`) {
		t.Error("a timeline that is gone is there")
	}
	if len(tel.timelines) != 0 {
		t.Errorf("events of %d timelines are kept", len(tel.timelines))
	}
}

func TestSumOverTimelinesNeverFalls(t *testing.T) {
	tel, _ := start(t, Config{})
	src := &fakeSource{timelines: []TimelineStats{busyTimeline(acme), busyTimeline(timeline.ID{Tenant: "acme", Name: "b"})}}
	tel.Watch(src)
	want := `sluice_manager_wakeups_total{reason="request",result="woke"} 2`
	for range 2 {
		if text := scrape(t, tel.Metrics()); !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, grep(text, "wakeups"))
		}
		src.timelines = src.timelines[:1]
	}
}

func TestDetailIsLimitedAndTheTroubledComeFirst(t *testing.T) {
	tel, _ := start(t, Config{TimelineLimit: 3})
	src := &fakeSource{}
	for i := range 6 {
		src.timelines = append(src.timelines, busyTimeline(timeline.ID{Tenant: "t", Name: fmt.Sprintf("n%d", i)}))
	}
	src.timelines[4].SourceConnected = false
	src.timelines[5].Manager.Active = false // idle, and well
	tel.Watch(src)
	text := scrape(t, tel.Metrics())
	if got := names(text, "sluice_timeline_info"); got != "n0 n1 n4" {
		t.Errorf("details of %s", got)
	}
	if got := names(text, "sluice_timeline_source_connected"); got != "n0 n1 n2 n3 n4 n5" {
		t.Errorf("vital series of %s", got)
	}
	if !strings.Contains(text, "sluice_telemetry_timelines_omitted 2") {
		t.Errorf("omitted: %s", grep(text, "omitted"))
	}
	if got := names(scrape(t, tel.TimelineMetrics()), "sluice_timeline_info"); got != "n0 n1 n2 n3 n4 n5" {
		t.Errorf("all details are those of %s", got)
	}
}

// names are the timelines that have a metric.
func names(text, metric string) string {
	var all []string
	for _, m := range regexp.MustCompile(metric+`\{.*timeline="(n\d)"`).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func grep(text, word string) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if strings.Contains(line, word) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

func TestPanicFailsTheScrapeOnly(t *testing.T) {
	tel, log := start(t, Config{})
	src := &fakeSource{panics: true}
	tel.Watch(src)
	w := httptest.NewRecorder()
	tel.Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusInternalServerError || !strings.Contains(log.String(), "a bug") {
		t.Errorf("status %d, log %s", w.Code, log)
	}
	src.panics = false
	if text := scrape(t, tel.Metrics()); !strings.Contains(text, `telemetry_errors_total{component="scrape"}`) {
		t.Error("the failure is not counted")
	}
}

// TestPanicWhileNumbersAreMadeFailsTheScrapeOnly: the client library makes them in goroutines of its own, and has to recover there.
func TestPanicWhileNumbersAreMadeFailsTheScrapeOnly(t *testing.T) {
	for name, bug := range map[string]func(*TimelineStats){
		"who is inside": func(s *TimelineStats) { s.Gate.Holders = func() []gate.HolderInfo { panic("a bug") } },
		"a label":       func(s *TimelineStats) { s.OperationStep = "a bug \xff" },
	} {
		tel, log := start(t, Config{})
		broken := busyTimeline(acme)
		bug(&broken)
		src := &fakeSource{timelines: []TimelineStats{broken}}
		tel.Watch(src)
		w := httptest.NewRecorder()
		tel.Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		if w.Code != http.StatusInternalServerError || !strings.Contains(log.String(), "a bug") {
			t.Errorf("%s: status %d, log %s", name, w.Code, log)
		}
		src.timelines = nil
		scrape(t, tel.Metrics())
	}
}

func TestNothingIsCollectedBeforeThereIsANode(t *testing.T) {
	tel, _ := start(t, Config{})
	if text := scrape(t, tel.Metrics()); !strings.Contains(text, "sluice_build_info{") || strings.Contains(text, "sluice_timelines{") {
		t.Error(text)
	}
}

func TestOpenMetricsHasExemplars(t *testing.T) {
	s := rig.StartCollector(t, nil)
	tel, _ := start(t, Config{OTLPEndpoint: s.URL, SampleRatio: 1})
	ctx, span := tel.Tracer().Start(t.Context(), "x")
	tel.HTTPAnswered(ctx, "/v1/node", "GET", 200, 1)
	tel.HTTPAnswered(ctx, "", "BREW", 405, 1)
	span.End()
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	req.Header.Set("Accept", "application/openmetrics-text")
	w := httptest.NewRecorder()
	tel.Metrics().ServeHTTP(w, req)
	if want := `# {trace_id="` + span.SpanContext().TraceID().String() + `"}`; !strings.Contains(w.Body.String(), want) {
		t.Errorf("no exemplar %s", want)
	}
	if !strings.Contains(w.Body.String(), `{code="405",method="other",route="none"`) {
		t.Error("a client's own method became a label")
	}
}
