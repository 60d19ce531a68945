package telemetry

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"golang.org/x/sys/unix"

	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/test/rig"
)

// answerIn returns what a scrape in one of the forms answers.
func answerIn(t *testing.T, h http.Handler, form expfmt.Format) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, scrapeIn(form))
	if got := w.Header().Get("Content-Type"); w.Code != http.StatusOK || !strings.HasPrefix(got, string(form)) {
		t.Fatalf("asked for %s, got %d %s", form, w.Code, got)
	}
	return w
}

func scrapeIn(form expfmt.Format) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", string(form))
	return r
}

// decode reads an answer as client_golang's users do.
func decode(t *testing.T, w *httptest.ResponseRecorder) map[string]*dto.MetricFamily {
	t.Helper()
	all := map[string]*dto.MetricFamily{}
	d := expfmt.NewDecoder(w.Body, expfmt.ResponseFormat(w.Header()))
	for {
		f := &dto.MetricFamily{}
		err := d.Decode(f)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if all[f.GetName()] != nil {
			t.Errorf("%s is there twice", f.GetName())
		}
		all[f.GetName()] = f
	}
}

// parsed is what Prometheus finds in an answer.
type parsed struct {
	series    map[string]float64 // by their names and labels
	types     map[string]string
	help      map[string]string
	exemplars int
	native    int // histograms
}

// parse reads an answer as Prometheus does.
func parse(t *testing.T, w *httptest.ResponseRecorder) parsed {
	t.Helper()
	p, err := textparse.New(w.Body.Bytes(), w.Header().Get("Content-Type"), labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		t.Fatal(err)
	}
	all := parsed{series: map[string]float64{}, types: map[string]string{}, help: map[string]string{}}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all.take(t, p, entry)
	}
}

func (all *parsed) take(t *testing.T, p textparse.Parser, entry textparse.Entry) {
	t.Helper()
	switch entry {
	case textparse.EntryHelp:
		name, help := p.Help()
		all.help[strings.TrimSuffix(string(name), "_total")] = string(help)
	case textparse.EntryType:
		name, kind := p.Type()
		all.types[strings.TrimSuffix(string(name), "_total")] = string(kind)
	case textparse.EntryHistogram:
		all.native++
	case textparse.EntrySeries:
		var l labels.Labels
		p.Labels(&l)
		_, _, v := p.Series()
		if _, twice := all.series[l.String()]; twice {
			t.Errorf("%s is there twice", l)
		}
		all.series[l.String()] = v
	}
	var e exemplar.Exemplar
	if (entry == textparse.EntrySeries || entry == textparse.EntryHistogram) && p.Exemplar(&e) {
		all.exemplars++
	}
}

// TestEveryFormSaysTheSame: whatever Prometheus asks for, it finds the same series of the same timelines; names that have to be
// escaped included, although no node would take them.
func TestEveryFormSaysTheSame(t *testing.T) {
	s := rig.StartCollector(t, nil)
	tel, _ := start(t, Config{OTLPEndpoint: s.URL, SampleRatio: 1, TimelineLimit: 10})
	src := busySource()
	src.timelines = append(src.timelines, busyTimeline(timeline.ID{Tenant: `a"b\c`, Name: "d\nü"}))
	src.timelines[1].OldestUnbackedSince = time.Now().Add(-90 * time.Minute)
	src.timelines[1].FlushLSN = 1<<63 + 1<<20
	tel.Watch(src)
	everything(t, tel)
	var first parsed
	for _, form := range forms {
		got := parse(t, answerIn(t, tel.Metrics(), form))
		timelines := maps.Clone(got.series)
		maps.DeleteFunc(timelines, func(name string, _ float64) bool { return !strings.HasPrefix(name, `{__name__="sluice_timeline_`) })
		for name, v := range timelines {
			if strings.Contains(name, "backup_lag_seconds") {
				timelines[name] = float64(int(time.Duration(v) * time.Second / time.Hour)) // time goes on
			}
		}
		got.series = timelines
		if first.series == nil {
			first = got
			checkSome(t, got)
		}
		if !maps.Equal(got.series, first.series) || !maps.Equal(got.types, first.types) || !maps.Equal(got.help, first.help) {
			t.Errorf("%s says other than %s:\n%v\n%v", form, forms[0], got, first)
		}
		if (got.native > 0) != (form == expfmt.FmtProtoDelim) {
			t.Errorf("%s has %d native histograms", form, got.native)
		}
		if (got.exemplars > 0) != (form != expfmt.FmtText) {
			t.Errorf("%s has %d exemplars", form, got.exemplars)
		}
	}
}

// checkSome looks for what a form, whichever, could be wrong about.
func checkSome(t *testing.T, got parsed) {
	t.Helper()
	for name, want := range map[string]float64{
		`{__name__="sluice_timeline_state", state="running", tenant="acme", timeline="main"}`:                             1,
		`{__name__="sluice_timeline_flush_lsn_bytes", tenant="acme", timeline="main"}`:                                    0x16B3748,
		`{__name__="sluice_timeline_flush_lsn_bytes", tenant="a\"b\\c", timeline="d\nü"}`:                                 1<<63 + 1<<20,
		`{__name__="sluice_timeline_backup_lag_seconds", tenant="a\"b\\c", timeline="d\nü"}`:                              1,
		`{__name__="sluice_timeline_iterations_total", outcome="acted", tenant="acme", timeline="main"}`:                  3,
		`{__name__="sluice_timeline_offloader", tenant="acme", timeline="main"}`:                                          0,
		`{__name__="sluice_timeline_info", incarnation="0190", mode="attached", tenant="acme", timeline="main", tli="3"}`: 1,
		`{__name__="sluice_timeline_lsn_bytes", position="horizon", tenant="acme", timeline="main"}`:                      0x1200000,
		`{__name__="sluice_timeline_tasks_running", task="settings", tenant="acme", timeline="main"}`:                     0,
	} {
		if v, there := got.series[name]; !there || v != want {
			t.Errorf("%s is %v (%v), want %v", name, v, there, want)
		}
	}
	if got.types["sluice_timeline_iterations"] != "counter" || got.types["sluice_timeline_state"] != "gauge" {
		t.Errorf("types: %v", got.types)
	}
}

// TestPrometheusToolAcceptsTheMetrics, and its advice about names is followed.
func TestPrometheusToolAcceptsTheMetrics(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("there is no promtool")
	}
	tel, _ := start(t, Config{TimelineLimit: 10})
	tel.Watch(busySource())
	everything(t, tel)
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(scrape(t, tel.Metrics()))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestAnswersAreCompressedOnlyWhenAsked(t *testing.T) {
	tel, _ := start(t, Config{TimelineLimit: 10})
	tel.Watch(busySource())
	server := httptest.NewServer(tel.TimelineMetrics())
	defer server.Close()
	get := func(encoding string) (got string, body []byte) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept-Encoding", encoding)
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err = io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Header.Get("Content-Encoding"), body
	}
	_, plain := get("identity")
	got, small := get("gzip")
	gz, err := gzip.NewReader(bytes.NewReader(small))
	if err != nil || got != "gzip" {
		t.Fatalf("asked for gzip, got %q: %v", got, err)
	}
	unpacked, err := io.ReadAll(gz)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(plain), "# HELP") || len(unpacked) == 0 || len(small) >= len(unpacked) {
		t.Errorf("plain: %d bytes, compressed %d of %d", len(plain), len(small), len(unpacked))
	}
}

// TestPartOfAnAnswerIsNoAnswer: what goes wrong in the middle fails the scrape.
func TestPartOfAnAnswerIsNoAnswer(t *testing.T) {
	tel, log := start(t, Config{TimelineLimit: 10})
	src := busySource()
	tel.Watch(src)
	l, err := lookAt(src, 10)
	if err != nil {
		t.Fatal(err)
	}
	l.detailed = append(l.detailed, nil) // a bug
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		tel.scrapes.answer(w, l, nil, expfmt.FmtText)
	}))
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("it passes for a whole answer: %s", text)
	}
	if !strings.Contains(log.String(), "write metrics: panic") {
		t.Errorf("log: %s", log)
	}
}

// BenchmarkScrape of 10,000 timelines, some of them in detail (a node's own limit is 1,000), in each form, and compressed, as
// Prometheus asks for it.
func BenchmarkScrape(b *testing.B) {
	for _, detailed := range []int{1000, 10_000} {
		for name, form := range map[string]expfmt.Format{"openmetrics": expfmt.FmtOpenMetrics_1_0_0, "protobuf": expfmt.FmtProtoDelim} {
			for _, encoding := range []string{"gzip", "identity"} {
				b.Run(fmt.Sprintf("detailed=%d/%s/%s", detailed, name, encoding), func(b *testing.B) { benchmarkScrape(b, detailed, form, encoding) })
			}
		}
	}
}

func benchmarkScrape(b *testing.B, detailed int, form expfmt.Format, encoding string) {
	tel, err := Start(b.Context(), Config{TimelineLimit: detailed, LogOutput: io.Discard, Getenv: func(string) string { return "" }})
	if err != nil {
		b.Fatal(err)
	}
	src := &fakeSource{}
	for i := range 10000 {
		s := busyTimeline(timeline.ID{Tenant: timeline.TenantID(fmt.Sprintf("t%d", i%100)), Name: fmt.Sprintf("n%d", i)})
		s.Gate.ClosingSince = time.Time{}
		src.timelines = append(src.timelines, s)
	}
	tel.Watch(src)
	r := scrapeIn(form)
	r.Header.Set("Accept-Encoding", encoding)
	h, w := tel.Metrics(), &counted{}
	before := processorTime(b)
	for b.Loop() {
		w = &counted{header: http.Header{}}
		h.ServeHTTP(w, r)
	}
	b.ReportMetric(float64(processorTime(b)-before)/float64(b.N)/1e6, "cpu-ms/op") // of a machine that is shared, the time says little
	b.ReportMetric(float64(w.bytes)/1e6, "MB/op")
}

func processorTime(b *testing.B) int64 {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// counted is an answer whose bytes are counted and not kept.
type counted struct {
	header http.Header
	bytes  int
}

func (c *counted) Header() http.Header         { return c.header }
func (c *counted) WriteHeader(int)             {}
func (c *counted) Write(p []byte) (int, error) { c.bytes += len(p); return len(p), nil }
