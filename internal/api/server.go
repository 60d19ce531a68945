package api

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
)

// maxBody bounds the body of a request, in bytes: the longest is a connection string.
const maxBody = 64 << 10

// Config is what a Server can be told besides its node. Every field may be zero.
type Config struct {
	Log    *slog.Logger // default: slog.Default()
	Events Events

	// Metrics serves /metrics and TimelineMetrics /metrics/timelines; nil: not found.
	Metrics, TimelineMetrics http.Handler

	// Admit is asked before a request is answered, and what it returns is called afterwards; an error refuses it. Requests that
	// only ask how the node is, and wait for nothing, are not counted: they are answered to the end. nil: all may come in.
	Admit func(ctx context.Context, route string) (leave func(), err error)

	// Report is what only a report of a node has.
	Report Report
	// Pprof serves /debug/pprof/.
	Pprof bool

	// Stall is how long a client may take to read each piece of an answer; default 30 s.
	Stall time.Duration
}

// Report is what a node tells for a report, without secrets. Every field may be nil.
type Report struct {
	Config func() ([]byte, error) // as YAML
	Log    func() []byte          // the last records
	// Diagnostics are the files of those that were written last.
	Diagnostics func() (map[string][]byte, error)
}

// Events tells what happens in a Server. Every field may be nil.
type Events struct {
	// Addressed is called before a request about a tenant and, unless it is empty, a timeline is
	// handled; what it returns is the request's context from there on.
	Addressed func(ctx context.Context, tenant, timeline string) context.Context
	// Answered is called once for each request, when its answer was written. Route is the pattern that
	// matched, such as "/v1/tenants/{t}", and empty when none did; ctx has the request's span.
	Answered func(ctx context.Context, route, method string, status int, took time.Duration)
	// WALAnswered is called for each request for a WAL file.
	WALAnswered func(ctx context.Context, answer Answer)
}

// A Server answers HTTP requests for one node.
type Server struct {
	node    Node
	cfg     Config
	log     *slog.Logger
	mux     *http.ServeMux
	console *console
	handler http.Handler
}

// New makes a Server. It starts nothing; give Handler to an http.Server.
func New(node Node, cfg Config) *Server {
	if cfg.Stall == 0 {
		cfg.Stall = 30 * time.Second
	}
	s := &Server{node: node, cfg: cfg, log: cfg.Log, mux: http.NewServeMux(), console: newConsole()}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.routes()
	s.handler = s.chain()
	return s
}

// Handler returns the whole of it.
func (s *Server) Handler() http.Handler { return s.handler }

func (s *Server) routes() {
	api := humago.New(s.mux, humaConfig(s.node.Info().Version))
	api.UseMiddleware(s.addressed)
	s.systemRoutes(api)
	s.tenantRoutes(api)
	s.timelineRoutes(api)
	s.sealRoutes(api)
	s.walRoutes(api)
	s.plainRoutes(api)
}

// humaConfig leaves out what huma adds by itself: links to schemas, and a documentation page that loads
// its script from elsewhere.
func humaConfig(version string) huma.Config {
	cfg := huma.DefaultConfig("Sluice", version)
	cfg.DocsPath, cfg.SchemasPath, cfg.OpenAPIPath = "", "", ""
	cfg.CreateHooks = nil
	cfg.RejectUnknownQueryParameters = true // a misspelt accept_data_loss must not be ignored
	cfg.Transformers = []huma.Transformer{describeProblem}
	return cfg
}

// plainRoutes are those that huma does not describe. They come last: the description is finished then.
func (s *Server) plainRoutes(api huma.API) {
	description, err := json.Marshal(api.OpenAPI())
	if err != nil {
		panic(fmt.Sprintf("api: describe the routes: %v", err)) // our own types cannot be described
	}
	s.mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(description) // the client's loss
	})
	s.mux.HandleFunc("GET /{$}", s.serveConsole)
	s.reportRoutes()
	for pattern, h := range map[string]http.Handler{
		"GET /metrics": s.cfg.Metrics, "GET /metrics/timelines": s.cfg.TimelineMetrics,
	} {
		if h != nil {
			s.mux.Handle(pattern, h)
		}
	}
}

// chain is what a request passes, from the outside in.
func (s *Server) chain() http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, Errorf(KindForbidden, "a web page of another origin sent this request; browsers may not do that"))
	}))
	h := crossOrigin.Handler(http.HandlerFunc(s.dispatch))
	h = s.recovered(h)
	h = s.admitted(h)
	h = s.accounted(h)
	h = otelhttp.NewHandler(h, "http",
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Method + " " + routeOf(r) }),
		otelhttp.WithFilter(isTraced))
	return s.matched(h)
}

// isTraced leaves out what is asked every few seconds by machines.
func isTraced(r *http.Request) bool {
	switch r.URL.Path {
	case "/healthz", "/readyz", "/metrics", "/metrics/timelines":
		return false
	}
	return true
}

// routeOf returns the pattern that matched without its method, and "" when none did.
func routeOf(r *http.Request) string {
	_, route, _ := strings.Cut(r.Pattern, " ")
	return strings.TrimSuffix(route, "{$}")
}

// operation describes a route. Names in paths are checked by the handlers, who say what a name may be.
func operation(method, path, id, summary string) huma.Operation {
	return huma.Operation{
		Method: method, Path: path, OperationID: id, Summary: summary, MaxBodyBytes: maxBody,
		Errors: []int{http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable},
	}
}

// reply wraps a body as huma wants it.
type reply[T any] struct{ Body T }
