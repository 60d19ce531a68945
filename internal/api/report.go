package api

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
	runtimepprof "runtime/pprof"
)

// reportRoutes are what a report is made of, beside what a user asks for anyway.
func (s *Server) reportRoutes() {
	s.mux.HandleFunc("GET /v1/goroutines", s.serveGoroutines)
	s.mux.HandleFunc("GET /v1/config", s.serveConfig)
	s.mux.HandleFunc("GET /v1/log", s.serveLog)
	s.mux.HandleFunc("GET /v1/diagnostics", s.serveDiagnostics)
	s.mux.HandleFunc("GET /v1/profiles/{name}", s.serveProfile)
	if s.cfg.Pprof {
		s.mux.HandleFunc("GET /debug/pprof/{name}", pprof.Index) // by its name; a page that lists them would need a path that ends in a slash
		s.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		s.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
		s.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	}
}

// serveGoroutines tells what every goroutine waits for, those with the same stack and labels together. It
// holds the world up for milliseconds; the form with every goroutine would do so for a second.
func (s *Server) serveGoroutines(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_ = runtimepprof.Lookup("goroutine").WriteTo(w, 1) // the client's loss
}

// serveConfig shows the configuration that counts, without secrets.
func (s *Server) serveConfig(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Report.Config == nil {
		writeProblem(w, Errorf(KindNotFound, "this node does not tell its configuration"))
		return
	}
	text, err := s.cfg.Report.Config()
	if err != nil {
		writeProblem(w, s.fail(r.Context(), err))
		return
	}
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(text) // the client's loss
}

// serveLog shows the last records of the log.
func (s *Server) serveLog(w http.ResponseWriter, _ *http.Request) {
	if s.cfg.Report.Log == nil {
		writeProblem(w, Errorf(KindNotFound, "this node does not tell its log"))
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(s.cfg.Report.Log()) // the client's loss
}

// serveDiagnostics shows what was written down when something was stuck last: texts by name.
func (s *Server) serveDiagnostics(w http.ResponseWriter, r *http.Request) {
	texts := map[string]string{}
	if s.cfg.Report.Diagnostics != nil {
		files, err := s.cfg.Report.Diagnostics()
		if err != nil {
			writeProblem(w, s.fail(r.Context(), err))
			return
		}
		for name, text := range files {
			texts[name] = string(text)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(texts) // the client's loss
}

// serveProfile serves a profile that costs nothing to take. Mutex and block are empty unless somebody has switched them on.
func (s *Server) serveProfile(w http.ResponseWriter, r *http.Request) {
	switch name := r.PathValue("name"); name {
	case "heap", "mutex", "block":
		w.Header().Set("Content-Type", "application/octet-stream")
		_ = runtimepprof.Lookup(name).WriteTo(w, 0) // the client's loss
	default:
		writeProblem(w, Errorf(KindNotFound, "there is no such profile: heap, mutex and block are there"))
	}
}
