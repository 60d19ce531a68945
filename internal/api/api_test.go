package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/api"
	"github.com/sluicewal/sluice/internal/timeline"
)

const main = "/v1/tenants/acme/timelines/main"

// an answer is what a test looks at.
type answer struct {
	status int
	header http.Header
	body   string
	kind   api.Kind // of a problem
}

func ask(t *testing.T, method, url, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req) // follows no redirect
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(b)}
	if a.status >= 400 && method != http.MethodHead {
		var p struct{ Type, Title, Detail string }
		if err := json.Unmarshal(b, &p); err != nil || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: status %d, %s, is no problem: %s", method, url, a.status, resp.Header.Get("Content-Type"), b)
		}
		if p.Type == "" || p.Title == "" || p.Detail == "" {
			t.Errorf("%s %s: the problem lacks something: %s", method, url, b)
		}
		a.kind = api.KindFromURI(p.Type)
	}
	if strings.Contains(a.body+fmt.Sprint(a.header), secret) {
		t.Errorf("%s %s: the answer holds a secret: %s %s", method, url, a.header, a.body)
	}
	return a
}

func TestRequestsAndTheirAnswers(t *testing.T) {
	url, _ := serve(t, &fakeNode{}, api.Config{Metrics: http.NotFoundHandler()})
	source := `{"source":"host=h password=` + secret + `"}`
	tests := []struct {
		request, body string
		status        int
		kind          api.Kind
	}{
		{"GET /healthz", "", 200, ""},
		{"GET /readyz", "", 200, ""},
		{"GET /v1/node", "", 200, ""},
		{"GET /v1/gates", "", 200, ""},
		{"GET /v1/tenants", "", 200, ""},
		{"PUT /v1/tenants/new", "", 201, ""},
		{"PUT /v1/tenants/old", "", 200, ""},
		{"GET /v1/tenants/acme", "", 200, ""},
		{"DELETE /v1/tenants/acme", "", 204, ""},
		{"PUT /v1/tenants/acme/mode", `{"mode":"attached"}`, 200, ""},
		{"PUT /v1/tenants/acme/mode", `{"mode":"secondary"}`, 200, ""},
		{"PUT /v1/tenants/acme/mode", `{"mode":"detached"}`, 409, api.KindRefused},
		{"PUT /v1/tenants/acme/mode", `{"mode":"sideways"}`, 422, api.KindInvalid},
		{"GET /v1/tenants/acme/timelines", "", 200, ""},
		{"PUT " + main, source, 201, ""},
		{"PUT " + main + "?new=1", source, 201, ""},
		{"GET " + main, "", 200, ""},
		{"DELETE " + main + "?keep_objects=true&timeout=30s", "", 204, ""},
		{"POST " + main + "/seal?accept_data_loss=1", "", 200, ""},
		{"DELETE " + main + "/seal?force=1", "", 204, ""},
		{"GET " + main + "/check", "", 200, ""},
		{"POST " + main + "/trim?before=nonsense", "", 400, api.KindInvalid},

		// Names.
		{"GET /v1/tenants/Acme", "", 400, api.KindInvalid},
		{"GET /v1/tenants/a%2Fb", "", 400, api.KindInvalid},
		{"PUT /v1/tenants/%2e%2e", "", 404, api.KindNotFound},
		{"PUT /v1/tenants/../x", "", 404, api.KindNotFound},
		{"PUT /v1/tenants//x", "", 404, api.KindNotFound},
		{"PUT /v1/tenants/" + strings.Repeat("a", 64), "", 400, api.KindInvalid},
		{"GET /v1/tenants/acme/timelines/-x", "", 400, api.KindInvalid},

		// Bodies.
		{"PUT " + main, "", 400, api.KindInvalid},
		{"PUT " + main, `{"source":"host=h password=` + secret, 400, api.KindInvalid},
		{"PUT " + main, `{"source":"` + secret + `"}`, 400, api.KindInvalid},
		{"PUT " + main, `{"source":"host=h application_name=x password=` + secret + `"}`, 400, api.KindInvalid},
		{"PUT " + main, `{"source":["` + secret + `"]}`, 422, api.KindInvalid},
		{"PUT " + main, `{"source":"host=h","password":"` + secret + `"}`, 422, api.KindInvalid},
		{"PUT " + main, `"` + secret + `"`, 422, api.KindInvalid},
		{"PUT " + main, `{"source":"` + strings.Repeat("x", 1<<20) + `"}`, 413, api.KindTooLarge},

		// Queries: one that is misspelt is not ignored.
		{"POST " + main + "/seal?accept_dataloss=1", "", 422, api.KindInvalid},
		{"POST " + main + "/seal?accept_data_loss=perhaps", "", 422, api.KindInvalid},
		{"DELETE " + main + "?timeout=soon", "", 400, api.KindInvalid},

		// Routes.
		{"GET /", "", 200, ""},
		{"GET /nowhere", "", 404, api.KindNotFound},
		{"GET /healthz/", "", 404, api.KindNotFound},
		{"POST /healthz", "", 405, api.KindMethod},
		{"PATCH " + main, "{}", 405, api.KindMethod},
		{"DELETE /v1/tenants", "", 405, api.KindMethod},
	}
	for _, tt := range tests {
		method, path, _ := strings.Cut(tt.request, " ")
		got := ask(t, method, url+path, tt.body)
		if got.status != tt.status || got.kind != tt.kind {
			t.Errorf("%s %.80s: %d %q, want %d %q: %s", tt.request, tt.body, got.status, got.kind, tt.status, tt.kind, got.body)
		}
		if got.status == http.StatusMethodNotAllowed && got.header.Get("Allow") == "" {
			t.Errorf("%s: no Allow header", tt.request)
		}
	}
}

func TestErrorsOfTheNodeKeepTheirKind(t *testing.T) {
	tests := []struct {
		err    error
		status int
		kind   api.Kind
		retry  bool
	}{
		{api.Errorf(api.KindNotFound, "no timeline acme/main"), 404, api.KindNotFound, false},
		{api.Errorf(api.KindConflict, "it is sealed"), 409, api.KindConflict, false},
		{api.Errorf(api.KindRefused, "the tail was handed out"), 409, api.KindRefused, false},
		{fmt.Errorf("wrapped: %w", api.Errorf(api.KindUnavailable, "broken")), 503, api.KindUnavailable, true},
		{timeline.ErrShuttingDown, 503, api.KindShuttingDown, true},
		{fmt.Errorf("open: %w", timeline.ErrBroken), 503, api.KindUnavailable, true},
		{errors.New("disk on fire"), 500, api.KindInternal, false},
	}
	for _, tt := range tests {
		url, log := serve(t, &fakeNode{err: tt.err}, api.Config{})
		got := ask(t, "GET", url+main, "")
		if got.status != tt.status || got.kind != tt.kind {
			t.Errorf("%v: %d %q, want %d %q", tt.err, got.status, got.kind, tt.status, tt.kind)
		}
		if (got.header.Get("Retry-After") != "") != tt.retry {
			t.Errorf("%v: Retry-After %q", tt.err, got.header.Get("Retry-After"))
		}
		if logged := strings.Contains(log.String(), "level=ERROR"); logged != (tt.status == 500) {
			t.Errorf("%v: logged: %s", tt.err, log)
		}
	}
}

func TestNotReadyIsSaidWhy(t *testing.T) {
	url, _ := serve(t, &fakeNode{ready: errors.New("the node is stopping")}, api.Config{})
	if got := ask(t, "GET", url+"/readyz", ""); got.status != 503 || !strings.Contains(got.body, "the node is stopping") {
		t.Errorf("readyz: %d %s", got.status, got.body)
	}
	if got := ask(t, "GET", url+"/healthz", ""); got.status != 200 {
		t.Errorf("healthz: %d", got.status)
	}
}

func TestPutCreatesOrSets(t *testing.T) {
	var calls []string
	exists := true
	n := &fakeNode{}
	n.create = func(timeline.ID, api.CreateOptions) (timeline.Status, error) {
		calls = append(calls, "create")
		if exists {
			return timeline.Status{}, api.Errorf(api.KindExists, "there is one")
		}
		return timeline.Status{}, nil
	}
	n.set = func(_ timeline.ID, o api.SetOptions) (timeline.Status, error) {
		calls = append(calls, fmt.Sprintf("set %v", o.AcceptDataLoss))
		if !exists {
			return timeline.Status{}, api.Errorf(api.KindNotFound, "there is none")
		}
		return timeline.Status{}, nil
	}
	url, _ := serve(t, n, api.Config{})
	tests := []struct {
		exists           bool
		query, condition string
		status           int
		calls            string
	}{
		{true, "?accept_data_loss=1", "", 200, "create,set true"},
		{false, "", "", 201, "create"},
		{true, "", "If-None-Match", 409, "create"},
		{false, "", "If-None-Match", 201, "create"},
		{true, "", "If-Match", 200, "set false"},
		{false, "", "If-Match", 404, "set false"},
	}
	for _, tt := range tests {
		calls, exists = nil, tt.exists
		var header []string
		if tt.condition != "" {
			header = []string{tt.condition, "*"}
		}
		got := ask(t, "PUT", url+main+tt.query, `{"source":"host=h"}`, header...)
		if got.status != tt.status || strings.Join(calls, ",") != tt.calls {
			t.Errorf("%+v: status %d, calls %v", tt, got.status, calls)
		}
	}
}

func TestTimeoutBoundsTheWaitOnly(t *testing.T) {
	n := &fakeNode{delete: func(ctx context.Context) error {
		<-ctx.Done()
		return fmt.Errorf("wait for the deletion: %w", ctx.Err())
	}}
	url, _ := serve(t, n, api.Config{})
	got := ask(t, "DELETE", url+main+"?timeout=10ms", "")
	if got.status != http.StatusAccepted || !strings.Contains(got.body, "goes on") {
		t.Errorf("status %d: %s", got.status, got.body)
	}
}

func TestStatusHasNoNullLists(t *testing.T) {
	url, _ := serve(t, &fakeNode{timelines: make([]timeline.Status, 1)}, api.Config{})
	for _, path := range []string{main, "/v1/tenants/acme/timelines", "/v1/gates", "/v1/tenants", "/v1/node", main + "/check"} {
		got := ask(t, "GET", url+path, "")
		for _, absent := range []string{`"seal":null`, `"backup":null`, `"operation":null`, `"offloader":null`, `"lag_bytes":null`} {
			got.body = strings.ReplaceAll(got.body, absent, "")
		}
		if strings.Contains(got.body, "null") {
			t.Errorf("%s: %s", path, got.body)
		}
	}
}

// TestStatusHasTheContractsFields holds the names of CONTRACT.md against the JSON.
func TestStatusHasTheContractsFields(t *testing.T) {
	now := time.Now()
	lag := int64(1)
	b, err := json.Marshal(timeline.Status{
		Seal: &timeline.SealStatus{}, Operation: &timeline.OperationStatus{}, Offloader: &timeline.OffloaderStatus{},
		Tasks: []timeline.TaskStatus{{Since: now}}, Gate: timeline.GateStatus{Holders: []timeline.GateHolder{{}}},
		Manager: timeline.ManagerStatus{PhaseSince: now}, Source: timeline.SourceStatus{LagBytes: &lag}, Quorum: timeline.QuorumStatus{ReadAt: now},
		Backup: &timeline.BackupStatus{Partial: &timeline.PartialStatus{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(`tenant timeline incarnation state reason active system_identifier tli seal.tli seal.end
		quorum.k quorum.n quorum.names quorum.read_at quorum.synchronous quorum.qualified quorum.joining diverged
		start_lsn write_lsn flush_lsn commit_lsn backup_lsn horizon_lsn
		backup.store backup.available backup.error backup.lag_bytes backup.partial.tli backup.partial.end backup.partial.at backup.queue_segments
		source.connected source.state source.error source.lag_bytes operation.name operation.step operation.since
		offloader.node offloader.since offloader.reason
		tasks.0.name tasks.0.state tasks.0.reason tasks.0.since tasks.0.restarts tasks.0.last_error
		gate.state gate.holders.0.name gate.holders.0.since gate.holders.0.trace_id
		manager.phase manager.phase_since manager.iterations manager.noop_iterations manager.last_reason peers`) {
		if !has(got, strings.Split(path, ".")) {
			t.Errorf("there is no %s in %s", path, b)
		}
	}
	if got["flush_lsn"] != "0/0" {
		t.Errorf("an LSN is written %v", got["flush_lsn"])
	}
}

func has(v any, path []string) bool {
	if len(path) == 0 {
		return true
	}
	switch v := v.(type) {
	case map[string]any:
		next, ok := v[path[0]]
		return ok && has(next, path[1:])
	case []any:
		return len(v) > 0 && has(v[0], path[1:])
	}
	return false
}

func TestDescriptionHasEveryRoute(t *testing.T) {
	url, _ := serve(t, &fakeNode{}, api.Config{})
	got := ask(t, "GET", url+"/openapi.json", "")
	var doc struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(got.body), &doc); err != nil {
		t.Fatal(err)
	}
	for route, methods := range map[string]string{
		"/healthz": "get", "/readyz": "get", "/v1/node": "get", "/v1/gates": "get", "/v1/tenants": "get",
		"/v1/tenants/{t}": "get put delete", "/v1/tenants/{t}/mode": "put", "/v1/tenants/{t}/timelines": "get",
		"/v1/tenants/{t}/timelines/{l}":            "get put delete",
		"/v1/tenants/{t}/timelines/{l}/wal/{file}": "get",
		"/v1/tenants/{t}/timelines/{l}/seal":       "post delete",
		"/v1/tenants/{t}/timelines/{l}/check":      "get",
		"/v1/tenants/{t}/timelines/{l}/trim":       "post",
	} {
		for method := range strings.FieldsSeq(methods) {
			if doc.Paths[route][method] == nil {
				t.Errorf("%s %s is not described", method, route)
			}
		}
	}
}

func TestPanicIsAnsweredAndLogged(t *testing.T) {
	n := &fakeNode{wal: func(string, api.WALOptions) (api.WAL, error) { panic("boom") }}
	url, log := serve(t, n, api.Config{})
	got := ask(t, "GET", url+main+"/wal/000000010000000000000001", "")
	if got.status != 500 || got.kind != api.KindInternal || strings.Contains(got.body, "boom") {
		t.Errorf("status %d: %s", got.status, got.body)
	}
	if got.header.Get(api.HeaderAnswer) != string(api.AnswerUnknown) {
		t.Errorf("a panic is taken for the answer %q", got.header.Get(api.HeaderAnswer))
	}
	if !strings.Contains(log.String(), "boom") || !strings.Contains(log.String(), "fake_test.go") && !strings.Contains(log.String(), "api_test.go") {
		t.Errorf("log: %s", log)
	}
}

func TestOtherOriginsMayNotWrite(t *testing.T) {
	url, _ := serve(t, &fakeNode{}, api.Config{})
	got := ask(t, "DELETE", url+main, "", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
	if got.status != 403 || got.kind != api.KindForbidden {
		t.Errorf("status %d %q", got.status, got.kind)
	}
}

func TestEveryAnswerIsAccounted(t *testing.T) {
	type account struct {
		route, method string
		status        int
	}
	accounts := make(chan account, 1)
	url, _ := serve(t, &fakeNode{}, api.Config{Events: api.Events{
		Answered: func(_ context.Context, route, method string, status int, took time.Duration) {
			if took <= 0 {
				t.Error("it took no time")
			}
			accounts <- account{route, method, status}
		},
	}})
	for request, want := range map[string]account{
		"GET " + main:         {"/v1/tenants/{t}/timelines/{l}", "GET", 200},
		"GET /v1/tenants/A":   {"/v1/tenants/{t}", "GET", 400},
		"GET /":               {"/", "GET", 200},
		"GET /nowhere":        {"", "GET", 404},
		"DELETE /v1/tenants":  {"", "DELETE", 405},
		"DELETE /v1/tenants/": {"", "DELETE", 404},
	} {
		method, path, _ := strings.Cut(request, " ")
		ask(t, method, url+path, "")
		if got := <-accounts; got != want {
			t.Errorf("%s is accounted as %v, want %v", request, got, want)
		}
	}
}

func TestRequestsKnowWhatTheyAreAbout(t *testing.T) {
	about := make(chan string, 1)
	url, log := serve(t, &fakeNode{err: errors.New("disk on fire")}, api.Config{Events: api.Events{
		Addressed: func(ctx context.Context, tenant, timeline string) context.Context {
			about <- tenant + "/" + timeline
			return ctx
		},
	}})
	for path, want := range map[string]string{main: "acme/main", "/v1/tenants/acme": "acme/", "/v1/tenants/acme/timelines/-": "acme/"} {
		ask(t, "GET", url+path, "")
		if got := <-about; got != want {
			t.Errorf("%s is about %q, want %q", path, got, want)
		}
	}
	ask(t, "GET", url+"/v1/tenants/-", "")
	ask(t, "GET", url+"/v1/node", "")
	if len(about) != 0 {
		t.Errorf("a request about nothing: %s, %s", <-about, log)
	}
}

func TestConsoleEscapesAndLoadsNothing(t *testing.T) {
	lag := int64(3 << 20)
	n := &fakeNode{
		tenants: []api.Tenant{{Name: "acme", Mode: api.ModeAttached, State: "running"}, {Name: "empty"}},
		timelines: []timeline.Status{{
			Timeline: "main", State: "running", TLI: 3, FlushLSN: 0x16B3748,
			Source: timeline.SourceStatus{State: "refused", Error: "<script>alert(1)</script>", LagBytes: &lag, Conninfo: "password=" + secret},
			Seal:   &timeline.SealStatus{TLI: 3, End: 0x16B3748}, Tasks: []timeline.TaskStatus{{Name: "receive", State: "waiting"}},
			Diverged: []timeline.DivergedStatus{{TLI: 2, Path: "wal/diverged/x"}},
		}},
		gates: []api.ClosingGate{{Gate: "timeline", Tenant: "acme", Timeline: "old", Since: time.Now().Add(-time.Hour), Holders: []timeline.GateHolder{{Name: "receive"}}}},
	}
	url, _ := serve(t, n, api.Config{})
	got := ask(t, "GET", url+"/", "")
	for _, want := range []string{"Sluice node a", "0/16B3748", "3.0 MiB", "sealed", "refused", "&lt;script&gt;", "receive", "wal/diverged/x", "acme/old"} {
		if !strings.Contains(got.body, want) {
			t.Errorf("the console does not show %q", want)
		}
	}
	for _, banned := range []string{"<script", "http://", "https://", "src=", "ZgotmplZ"} {
		if strings.Contains(got.body, banned) {
			t.Errorf("the console holds %q", banned)
		}
	}
	if !strings.Contains(got.header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Error("no policy")
	}
}

func TestMetricsHandlersAreServed(t *testing.T) {
	named := func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })
	}
	h := api.New(&fakeNode{}, api.Config{Metrics: named("node"), TimelineMetrics: named("timelines")}).Handler()
	for path, want := range map[string]string{"/metrics": "node", "/metrics/timelines": "timelines"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Body.String() != want {
			t.Errorf("%s answers %q", path, w.Body)
		}
	}
}
