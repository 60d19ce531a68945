package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluicewal/sluice/internal/timeline"
)

// matched finds the route before anything else, so that all that follows knows its pattern. A path that
// http.ServeMux would redirect to a cleaner one matches nothing: this is no web site.
func (s *Server) matched(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == path.Clean(r.URL.Path) {
			_, r.Pattern = s.mux.Handler(r)
		}
		next.ServeHTTP(w, r)
	})
}

// dispatch serves the route, and answers what has none with a problem; http.ServeMux would answer in
// plain text.
func (s *Server) dispatch(w http.ResponseWriter, r *http.Request) {
	if r.Pattern != "" {
		s.mux.ServeHTTP(w, r)
		return
	}
	answer := discarded{header: http.Header{}}
	s.mux.ServeHTTP(&answer, r)
	allow := answer.header.Get("Allow")
	if answer.status != http.StatusMethodNotAllowed || allow == "" {
		writeProblem(w, Errorf(KindNotFound, "there is no such path"))
		return
	}
	w.Header().Set("Allow", allow)
	writeProblem(w, Errorf(KindMethod, "this path takes %s", allow))
}

// discarded is a response that keeps only its status and header.
type discarded struct {
	header http.Header
	status int
}

func (d *discarded) Header() http.Header         { return d.header }
func (d *discarded) Write(p []byte) (int, error) { return len(p), nil }
func (d *discarded) WriteHeader(status int)      { d.status = status }

// recovered turns a panic into an answer and a log record. The stack goes to the log only.
func (s *Server) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch p := recover(); {
			case p == nil:
			case p == http.ErrAbortHandler: //nolint:errorlint // net/http compares it so
				panic(p)
			case isWriteError(p):
				// huma panics when the client is gone in the middle of an answer.
				s.log.LogAttrs(r.Context(), slog.LevelDebug, "client gone while answering", slog.String("route", routeOf(r)), slog.Any("error", p))
			default:
				s.log.LogAttrs(r.Context(), slog.LevelError, "panic while answering", slog.String("route", routeOf(r)),
					slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
				writeProblem(w, Errorf(KindInternal, "an internal error, see the node's log"))
			}
		}()
		next.ServeHTTP(w, r)
	})
}

func isWriteError(p any) bool {
	err, ok := p.(error)
	var netErr net.Error
	return ok && (errors.As(err, &netErr) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET))
}

// addressed marks a request's context as work for its client, and for its tenant and timeline where the path has valid names.
func (s *Server) addressed(hc huma.Context, next func(huma.Context)) {
	hc = huma.WithContext(hc, timeline.WithClient(hc.Context(), hc.RemoteAddr()))
	tenant, err := timeline.ParseTenantID(hc.Param("t"))
	if s.cfg.Events.Addressed == nil || err != nil {
		next(hc)
		return
	}
	id, _ := timeline.NewID(string(tenant), hc.Param("l")) // empty where there is no valid name
	next(huma.WithContext(hc, s.cfg.Events.Addressed(hc.Context(), string(tenant), id.Name)))
}

// admitted lets requests in that may have to wait for something, for as long as they are answered.
func (s *Server) admitted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.cfg.Admit == nil || !mayWait(r) {
			next.ServeHTTP(w, r)
			return
		}
		leave, err := s.cfg.Admit(timeline.WithClient(r.Context(), r.RemoteAddr), r.Pattern)
		if err != nil {
			w.Header().Set(HeaderAnswer, string(AnswerUnknown)) // whoever asks for a file must not take it for its absence
			writeProblem(w, err)
			return
		}
		defer leave()
		next.ServeHTTP(w, r)
	})
}

// mayWait leaves out the requests that only look: they touch no storage, and must be answered while the node stops.
func mayWait(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return r.Pattern != ""
	}
	switch routeOf(r) {
	case timelineRoute + "/wal/{file}", timelineRoute + "/check":
		return true
	}
	return false
}

// accounted bounds how long a client may take to read, and tells how each request was answered.
func (s *Server) accounted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		pw := &patientWriter{ResponseWriter: w, stall: s.cfg.Stall, status: http.StatusOK}
		// The context ends when the client goes or the node stops; a client that reads still gets its
		// answer, and one that has not sent its request whole is not waited for.
		stop := context.AfterFunc(r.Context(), func() {
			pw.cut(time.Second)
			_ = http.NewResponseController(w).SetReadDeadline(time.Now())
		})
		defer stop()
		next.ServeHTTP(pw, r)
		if s.cfg.Events.Answered != nil {
			s.cfg.Events.Answered(r.Context(), routeOf(r), r.Method, pw.status, time.Since(start))
		}
	})
}

// A patientWriter gives the client some time for each write, and none once it was cut.
type patientWriter struct {
	http.ResponseWriter
	stall  time.Duration
	status int

	mu    sync.Mutex
	limit time.Time // after it no write succeeds; zero: none. Guarded by mu
}

// Unwrap lets http.ResponseController find the connection.
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *patientWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *patientWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.setDeadlineLocked(time.Now().Add(w.stall))
	w.mu.Unlock()
	return w.ResponseWriter.Write(p)
}

// cut ends all writing within grace, also a write that is blocked now.
func (w *patientWriter) cut(grace time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	limit := time.Now().Add(grace)
	if w.limit.IsZero() || limit.Before(w.limit) {
		w.limit = limit
	}
	w.setDeadlineLocked(w.limit)
}

func (w *patientWriter) setDeadlineLocked(t time.Time) {
	if !w.limit.IsZero() && w.limit.Before(t) {
		t = w.limit
	}
	// Without a connection below, as in a test's recorder, there is nobody to wait for.
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(t)
}
