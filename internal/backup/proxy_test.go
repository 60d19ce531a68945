package backup_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// fault is how a request goes wrong.
type fault int

const (
	none        fault = iota
	unavailable       // 503 SlowDown
	resetIn           // the connection is reset inside the request's body
	resetOut          // the connection is reset inside the answer's body
	stalled           // no answer comes
	lie               // 200, and nothing was stored
	revoked           // 403 InvalidAccessKeyId
	conflict          // 409: another conditional request is under way, come again
)

// proxy stands before an S3 server and fails as S3 fails.
type proxy struct {
	address string
	forward *httputil.ReverseProxy
	closed  chan struct{}

	mu    sync.Mutex
	fault func(*http.Request) fault // nil: none; guarded by mu
	seen  []string                  // methods of the requests that failed; guarded by mu
}

func startProxy(t *testing.T, upstream string) *proxy {
	t.Helper()
	transport := &http.Transport{}
	p := &proxy{closed: make(chan struct{}), forward: &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: upstream})
			r.Out.Host = r.In.Host // it is signed
		},
	}}
	server := httptest.NewServer(p)
	p.address = server.Listener.Addr().String()
	t.Cleanup(func() {
		close(p.closed)
		server.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// fail sets what goes wrong from now on.
func (p *proxy) fail(f func(*http.Request) fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.seen = f, nil
}

// failed returns how many requests went wrong.
func (p *proxy) failed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.seen)
}

func (p *proxy) decide(r *http.Request) fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault == nil {
		return none
	}
	f := p.fault(r)
	if f != none {
		p.seen = append(p.seen, r.Method)
	}
	return f
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch p.decide(r) {
	case none:
		p.forward.ServeHTTP(w, r)
	case unavailable:
		refuse(w, r, http.StatusServiceUnavailable, "SlowDown")
	case revoked:
		refuse(w, r, http.StatusForbidden, "InvalidAccessKeyId")
	case conflict:
		refuse(w, r, http.StatusConflict, "ConditionalRequestConflict")
	case lie:
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"0123456789abcdef0123456789abcdef"`)
	case resetIn:
		_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
		reset(w)
	case resetOut:
		p.forward.ServeHTTP(&cutter{ResponseWriter: w}, r)
	case stalled:
		<-p.closed
	}
}

func refuse(w http.ResponseWriter, r *http.Request, status int, code string) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>from the proxy</Message></Error>`, code)
}

// reset ends the connection with RST.
func reset(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

// cutter lets the first half of an answer's first piece through.
type cutter struct{ http.ResponseWriter }

func (c *cutter) Write(b []byte) (int, error) {
	_, _ = c.ResponseWriter.Write(b[:len(b)/2])
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// on makes a fault of the requests with a method for keys that contain a part.
func on(method, part string, f fault) func(*http.Request) fault {
	return func(r *http.Request) fault {
		if r.Method == method && strings.Contains(r.URL.Path, part) {
			return f
		}
		return none
	}
}

// times limits a fault to the first n requests that it is for.
func times(n int, f func(*http.Request) fault) func(*http.Request) fault {
	return func(r *http.Request) fault {
		if n == 0 {
			return none
		}
		got := f(r)
		if got != none {
			n--
		}
		return got
	}
}
