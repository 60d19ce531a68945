package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/sluicewal/sluice/telemetry"
	"github.com/sluicewal/sluice/test/rig"
)

// planted stands for each secret that a node is given; nothing that it tells may have it.
const planted = "s3cretpl4nted"

// attributesOf are those of spans, by their names.
func attributesOf(spans []*tracepb.Span) map[string][]string {
	names := map[string][]string{}
	for _, s := range spans {
		attributes := names[s.Name]
		for _, a := range s.Attributes {
			if !slices.Contains(attributes, a.Key) {
				attributes = append(attributes, a.Key)
			}
		}
		names[s.Name] = attributes
	}
	return names
}

// profiles are what is pushed to a Pyroscope server.
type profiles struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu; unpacked
}

func startPyroscope(t *testing.T) (_ *profiles, address string) {
	t.Helper()
	p := &profiles{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := p.take(r); err != nil {
			t.Errorf("the node pushes what cannot be read: %v", err)
		}
	}))
	t.Cleanup(server.Close)
	return p, strings.TrimPrefix(server.URL, "http://")
}

func (p *profiles) take(r *http.Request) error {
	form, err := r.MultipartReader()
	if err != nil {
		return err
	}
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := io.ReadAll(part)
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.text.WriteString(unpacked(string(b)))
		p.mu.Unlock()
	}
}

func (p *profiles) all() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// unpacked is what is in a file that gzip has written, as profiles are; another one is returned as it is.
func unpacked(text string) string {
	gz, err := gzip.NewReader(strings.NewReader(text))
	if err != nil {
		return text
	}
	b, err := io.ReadAll(gz)
	if err != nil {
		return text
	}
	return string(b)
}

// TestWhatANodeTells: a real node with a secret in each place that has one, which works, is stuck and stops. What it tells
// (metrics, spans, log, pages, a report, diagnostics) is declared, and has no secret in it.
func TestWhatANodeTells(t *testing.T) {
	t.Parallel()
	c := rig.StartCollector(t, nil)
	p, pyroscope := startPyroscope(t)
	bundle := filepath.Join(t.TempDir(), "bundle.tar.gz")
	r := startNode(t, newDeadNode(t, "a", "").dir, fmt.Sprintf(`shutdown_timeout: 16s
broker: {url: "nats://n:%[2]s@127.0.0.1:1"}
telemetry: {otlp_endpoint: "http://user:%[2]s@%[1]s/?token=%[2]s", pyroscope_url: "http://p:%[2]s@%[3]s/?key=%[2]s", log_level: debug, flight_recorder: true, pprof: true}
timelines: [{name: acme/second, source: "host=127.0.0.1 port=1 user=x password=%[2]s"}]`, strings.TrimPrefix(c.URL, "http://"), planted, pyroscope),
		"OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer "+planted, "OTEL_RESOURCE_ATTRIBUTES=deployment.environment=test", "OTEL_EXPORTER_OTLP_COMPRESSION=none", "OTEL_METRICS_EXPORTER="+planted,
		"PGPASSWORD="+planted, "AWS_SECRET_ACCESS_KEY="+planted, "SLUICE_TOKEN="+planted)
	told := map[string]string{}
	ask := func(paths ...string) {
		for _, path := range paths {
			_, body := r.get(path)
			told["GET "+path] += body
		}
	}
	r.put("/v1/tenants/acme/timelines/third", `{"source":"postgresql://x:`+planted+`@127.0.0.1:1/?sslpassword=`+planted+`"}`)
	r.put(acmeMain, `{"source":"host=127.0.0.1 port=1 user=x password=`+planted+`"}`)
	ask("/v1/node?token="+planted, acmeMain+"/wal/"+segmentTwo+"?copy=1", acmeMain+"/wal/"+segmentTwo+"?token="+planted, acmeMain+"/check")
	r.await("a source was tried", func() bool { return strings.Contains(r.log.String(), "task failed") })
	r.hang()
	r.terminate()
	r.await("it is stuck, and has written down why", func() bool { return strings.Contains(r.log.String(), "diagnostics are written down") })
	ask(r.pages()...)
	out, err := exec.CommandContext(t.Context(), "sluice", "diagnose", "--server="+r.url, "--token="+planted, "--file="+bundle).CombinedOutput()
	must(t, errors.Join(err, readBundle(bundle, told)))
	told["diagnose"] = string(out)
	r.exits(40 * time.Second)
	told["log"] = r.log.String()
	must(t, readBelow(filepath.Join(r.dir, diagnosticsDir), told))
	told["spans"], told["profiles"] = c.Text(), p.all()
	checkSecrets(t, told)
	for _, part := range []string{"config.yaml", "log.txt", "gates.json", "goroutines.txt", "heap.pprof", "metrics.txt", "node.json", "timelines/acme.json", "diagnostics.json"} {
		if len(told["bundle "+part]) == 0 {
			t.Errorf("the report has no %s", part)
		}
	}
	if text := told["bundle errors.txt"]; !strings.HasPrefix(text, "ready.json: the node is not ready") || strings.Count(text, "\n") != 1 {
		t.Errorf("the report says that this is missing: %s", text)
	}
	if !strings.Contains(told["GET /debug/pprof/goroutine?debug=2"], "goroutine ") {
		t.Error("there is no profile of goroutines")
	}
	for what, text := range map[string]string{"pushed": told["profiles"], "in the report": unpacked(told["bundle heap.pprof"])} {
		if !strings.Contains(text, "runtime.mallocgc") { // the names of functions can be read, and so could secrets be
			t.Errorf("the profiles %s are none: %d bytes", what, len(text))
		}
	}
	if !strings.Contains(told["log"], `"variables of the environment without effect here","variables":["OTEL_METRICS_EXPORTER"]`) {
		t.Error("nobody says that metrics are not exported")
	}
	checkSpans(t, attributesOf(c.Spans()))
	checkMetrics(t, told["GET /metrics"]+told["GET /metrics/timelines"])
}

// TestObjectStoresSecretsAreNotTold: they are in its URL and in the environment, and the store does not answer.
func TestObjectStoresSecretsAreNotTold(t *testing.T) {
	t.Parallel()
	c := rig.StartCollector(t, nil)
	dir, bundle := newDeadNode(t, "a", "").dir, filepath.Join(t.TempDir(), "bundle.tar.gz")
	r := startNode(t, dir, fmt.Sprintf(`shutdown_timeout: 6s
object_store: {url: "s3://u:%[2]s@bucket?region=eu&use_path_style=true&endpoint=http://e:%[2]s@127.0.0.1:1"}
telemetry: {otlp_endpoint: %[1]q, log_level: debug, pprof: true}`, c.URL, planted),
		"AWS_ACCESS_KEY_ID=AKIA"+planted, "AWS_SECRET_ACCESS_KEY="+planted, "AWS_SESSION_TOKEN="+planted)
	r.await("object storage was asked, in vain", func() bool {
		_, body := r.get(acmeMain)
		return strings.Contains(body, `"available":false`) && strings.Contains(r.log.String(), "127.0.0.1:1")
	})
	told := map[string]string{}
	for _, path := range r.pages() {
		_, told["GET "+path] = r.get(path)
	}
	out, err := exec.CommandContext(t.Context(), "sluice", "diagnose", "--server="+r.url, "--file="+bundle).CombinedOutput()
	must(t, errors.Join(err, readBundle(bundle, told)))
	for _, args := range [][]string{{"timeline", "show", "acme/main"}, {"timeline", "list", "acme"}, {"timeline", "check", "acme/main"}} {
		text, _ := exec.CommandContext(t.Context(), "sluice", append(args, "--server="+r.url)...).CombinedOutput() // a check that fails says why
		told[strings.Join(args, " ")] = string(text)
	}
	r.terminate()
	r.exits(20 * time.Second)
	told["diagnose"], told["log"], told["spans"] = string(out), r.log.String(), c.Text()
	checkSecrets(t, told)
	for _, what := range []string{"bundle config.yaml", "GET /", "GET /v1/log", "timeline show acme/main", "spans"} {
		if told[what] == "" {
			t.Errorf("%s is empty", what)
		}
	}
}

// pages are all that can be asked of a node without changing it: what its description lists, and what that leaves out.
func (r *running) pages() []string {
	r.t.Helper()
	_, text := r.get("/openapi.json")
	var described struct {
		Paths map[string]map[string]any
	}
	must(r.t, json.Unmarshal([]byte(text), &described))
	names := strings.NewReplacer("{t}", "acme", "{l}", "main", "{file}", segmentTwo)
	pages := []string{
		"/", "/openapi.json", "/metrics", "/metrics/timelines", "/v1/config", "/v1/log", "/v1/diagnostics", "/v1/goroutines", "/v1/profiles/heap",
		"/debug/pprof/goroutine?debug=2", "/nowhere", "/v1/tenants/acme/timelines/nowhere", "/v1/tenants/-",
	}
	for path, methods := range described.Paths {
		if methods["get"] != nil {
			pages = append(pages, names.Replace(path))
		}
	}
	if len(pages) < 20 {
		r.t.Errorf("only %d pages: %v", len(pages), pages)
	}
	return pages
}

func checkSecrets(t *testing.T, told map[string]string) {
	t.Helper()
	for what, text := range told {
		text = unpacked(text)
		if i := strings.Index(text, planted); i >= 0 {
			t.Errorf("%s has a secret: …%q…", what, text[max(0, i-100):min(len(text), i+50)])
		}
	}
}

func (r *running) put(path, body string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(r.t.Context()), http.MethodPut, r.url+path, strings.NewReader(body))
	must(r.t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+planted)
	req.Close = true
	resp, err := http.DefaultTransport.RoundTrip(req)
	must(r.t, err)
	text, err := io.ReadAll(resp.Body)
	must(r.t, errors.Join(err, resp.Body.Close()))
	if resp.StatusCode >= 300 || strings.Contains(string(text), planted) {
		r.t.Fatalf("PUT %s: %d %s", path, resp.StatusCode, text)
	}
}

// readBundle adds the files of a report.
func readBundle(path string, told map[string]string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		told["bundle "+strings.TrimPrefix(h.Name, "sluice-diagnose/")] = string(b)
	}
}

// readBelow adds the files below a directory.
func readBelow(dir string, told map[string]string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		told[path] = string(b)
		return err
	})
}

// checkSpans: nothing undeclared, and what such a life cannot but tell is there.
func checkSpans(t *testing.T, names map[string][]string) {
	t.Helper()
	declared := map[string][]string{}
	for _, s := range telemetry.Catalog().Spans {
		declared[s.Name] = append(slices.Clone(s.Attributes), "tenant", "timeline", "incarnation", "sluice.sample")
	}
	for name, attributes := range names {
		if regexp.MustCompile(`^(GET|PUT|DELETE) `).MatchString(name) {
			continue // the instrumentation's own
		}
		for _, a := range attributes {
			if !slices.Contains(declared[name], a) {
				t.Errorf("the span %s has the attribute %s, which is not declared", name, a)
			}
		}
		if declared[name] == nil {
			t.Errorf("the span %s is not declared", name)
		}
	}
	for _, name := range []string{
		"GET " + walRoute, "manager.iteration", "task.spawn", "task.end", "wal.fetch", "timeline.create", "timeline.set",
		"gate.hold", "gate.close.wait", "node.shutdown", "shutdown.stage", "shutdown.stage.wait", "timeline.shutdown",
	} {
		if _, ok := names[name]; !ok {
			t.Errorf("no span %s was exported", name)
		}
	}
}

const walRoute = "/v1/tenants/{t}/timelines/{l}/wal/{file}"

// withoutOccasion are the metrics that such a life has no occasion for: nothing is streamed, and there is no object storage and
// no other node.
var withoutOccasion = []string{
	"sluice_timeline_source_lag_bytes", "sluice_timeline_backup_lag_", "sluice_backup_", "sluice_objectstore_", "sluice_broker_",
	"sluice_timeline_offloader", "sluice_wal_retained_bytes", "sluice_timeline_synchronous", "sluice_timeline_was_synchronous", "sluice_timeline_quorum_", "sluice_lifecycle_operation_age_seconds",
}

// checkMetrics: nothing undeclared, and nothing declared and missing.
func checkMetrics(t *testing.T, text string) {
	t.Helper()
	there := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (sluice_\w+) `).FindAllStringSubmatch(text, -1) {
		there[m[1]] = true
	}
	for _, m := range telemetry.Catalog().Metrics {
		occasion := !slices.ContainsFunc(withoutOccasion, func(prefix string) bool { return strings.HasPrefix(m.Name, prefix) })
		if !there[m.Name] && occasion {
			t.Errorf("%s is declared and not there", m.Name)
		}
		delete(there, m.Name)
	}
	for name := range there {
		t.Errorf("%s is there and not declared", name)
	}
}
