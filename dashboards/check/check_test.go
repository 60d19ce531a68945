package check

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluicewal/sluice/telemetry"
)

// A node that has every series of the catalogue, scraped by a real Prometheus that keeps histograms in either form: each panel of
// which something must always be seen has data, and the recording rules have as well.
func TestEveryPanelHasDataInBothFormsOfHistograms(t *testing.T) {
	path, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is not installed")
	}
	for form, flags := range map[string][]string{"classic": nil, "native": {"--enable-feature=native-histograms"}} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			url := startPrometheus(t, path, startNode(t), flags)
			cfg := Config{URL: url, Range: 5 * time.Second, RateInterval: 5 * time.Second}
			waitFor(t, func(ctx context.Context) []string { return problems(ctx, t, cfg) })
			waitFor(t, func(ctx context.Context) []string { return missingRecords(ctx, cfg) })
			classic, err := (&checker{cfg: cfg.withDefaults(), now: time.Now()}).ask(t.Context(), "sluice_wal_fsync_duration_seconds_bucket")
			if err != nil || classic != (form == "classic") {
				t.Errorf("this Prometheus has buckets: %v, %v", classic, err)
			}
		})
	}
}

// problems are the findings that are not allowed.
func problems(ctx context.Context, t *testing.T, cfg Config) (list []string) {
	t.Helper()
	found, err := Run(ctx, cfg)
	if err != nil {
		return []string{err.Error()}
	}
	for _, f := range found {
		if !f.Allowed {
			list = append(list, f.String())
		}
	}
	return list
}

// missingRecords are the recording rules that have no value.
func missingRecords(ctx context.Context, cfg Config) (list []string) {
	text, err := os.ReadFile("../alerts.yaml")
	if err != nil {
		return []string{err.Error()}
	}
	c := &checker{cfg: cfg.withDefaults(), now: time.Now()}
	for _, m := range regexp.MustCompile(`- record: (\S+)`).FindAllStringSubmatch(string(text), -1) {
		if some, err := c.ask(ctx, m[1]); err != nil || !some {
			list = append(list, fmt.Sprintf("%s: %v, %v", m[1], some, err))
		}
	}
	return list
}

// waitFor waits until nothing is left of what get returns.
func waitFor(t *testing.T, get func(context.Context) []string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		left := get(t.Context())
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d are left:\n%s", len(left), strings.Join(left, "\n"))
		}
		select {
		case <-time.After(300 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
}

func TestFindingsTellEmptyFromFailing(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.FormValue("query")
		switch {
		case strings.Contains(query, "sluice_gate_closing_seconds"):
			fmt.Fprint(w, `{"status":"success","data":{"result":[]}}`)
		case strings.Contains(query, "sluice_tenants"):
			fmt.Fprint(w, `{"status":"success","data":{"result":[{"values":[[1,"NaN"]]}]}}`)
		case strings.Contains(query, "go_goroutines"):
			w.WriteHeader(http.StatusUnprocessableEntity)
			fmt.Fprint(w, `{"status":"error","error":"too many series"}`)
		case strings.Contains(query, "$"):
			t.Errorf("a variable was not filled in: %s", query)
		default:
			fmt.Fprint(w, `{"status":"success","data":{"result":[{"values":[[1,"0"]]}]}}`)
		}
	}))
	defer srv.Close()
	found, err := Run(t.Context(), Config{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range found {
		lines = append(lines, fmt.Sprintf("%s allowed=%v", f, f.Allowed))
	}
	for _, want := range []string{
		"Sluice / Gates and shutdowns: Which gates are closing?: no data allowed=true",
		"Sluice / Fleet: What do nodes do with tenants?: no data allowed=false",
		"Sluice / Process: How many goroutines?: too many series allowed=false",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("%q is not among the findings:\n%s", want, strings.Join(lines, "\n"))
		}
	}
	if _, err := Run(t.Context(), Config{URL: "http://127.0.0.1:1"}); err == nil {
		t.Error("no Prometheus, and no error")
	}
}

// startNode serves every metric of the catalogue, with every value of the closed lists.
func startNode(t *testing.T) (address string) {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	c := telemetry.Catalog()
	var turns []func() // what happens before each scrape
	for _, m := range c.Metrics {
		turns = append(turns, register(r, m, combinations(m, c.Values[m.Name])))
	}
	metrics := promhttp.HandlerFor(r, promhttp.HandlerOpts{EnableOpenMetrics: true})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		for _, turn := range turns {
			turn()
		}
		metrics.ServeHTTP(w, req)
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// register makes all series of a metric; the function lets something happen.
func register(r *prometheus.Registry, m telemetry.Metric, series [][]string) func() {
	switch m.Kind {
	case telemetry.Counter:
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: m.Name, Help: m.Help}, m.Labels)
		r.MustRegister(v)
		return func() { each(series, func(l ...string) { v.WithLabelValues(l...).Inc() }) }
	case telemetry.Histogram:
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: m.Name, Help: m.Help, Buckets: prometheus.DefBuckets, NativeHistogramBucketFactor: 1.1}, m.Labels)
		r.MustRegister(v)
		return func() { each(series, func(l ...string) { v.WithLabelValues(l...).Observe(0.02) }) }
	default:
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: m.Name, Help: m.Help}, m.Labels)
		r.MustRegister(v)
		return func() { each(series, func(l ...string) { v.WithLabelValues(l...).Set(1) }) }
	}
}

func each(series [][]string, f func(...string)) {
	for _, l := range series {
		f(l...)
	}
}

// combinations are the values of a metric's labels, in all combinations of those whose lists are closed.
func combinations(m telemetry.Metric, closed map[string][]string) [][]string {
	open := map[string]string{"tenant": "acme", "timeline": "main", "code": "200", "method": "GET", "route": "/v1/tenants/{t}/timelines/{l}/wal/{file}"}
	all := [][]string{nil}
	for _, label := range m.Labels {
		values := closed[label]
		if values == nil {
			values = []string{"x"}
			if v, ok := open[label]; ok {
				values = []string{v}
			}
		}
		var next [][]string
		for _, have := range all {
			for _, v := range values {
				next = append(next, append(slices.Clone(have), v))
			}
		}
		all = next
	}
	return all
}

// startPrometheus scrapes a node, evaluates the rules, and is gone with the test.
func startPrometheus(t *testing.T, path, target string, flags []string) (url string) {
	t.Helper()
	dir := t.TempDir()
	rules, err := filepath.Abs("../alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("global: {scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 500ms}\nrule_files: [%q]\nscrape_configs: [{job_name: sluice, static_configs: [{targets: [%q]}]}]\n", rules, target)
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append(flags, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it keeps nothing that matters
		_ = cmd.Wait()
	})
	var log []string
	listening := regexp.MustCompile(`msg="Listening on".* address=(127\.0\.0\.1:\d+)`)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		log = append(log, lines.Text())
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			go func() { // ends with the process
				for lines.Scan() {
					_ = lines.Text()
				}
			}()
			return "http://" + m[1]
		}
	}
	t.Fatalf("prometheus does not listen:\n%s", strings.Join(log, "\n"))
	return ""
}
