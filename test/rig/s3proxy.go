package rig

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

// S3Fault is how a request goes wrong.
type S3Fault int

// The faults.
const (
	NoFault     S3Fault = iota
	Unavailable         // 503 SlowDown
	ResetIn             // the connection is reset inside the request's body
	ResetOut            // the connection is reset inside the answer's body
	Stalled             // no answer comes
	Lie                 // 200, and nothing was stored
	Revoked             // 403 InvalidAccessKeyId
	Conflict            // 409: another conditional request is under way, come again
	Exists              // 412: it is there
	Missing             // 404
)

// S3Proxy stands before an S3 server and fails as S3 fails.
type S3Proxy struct {
	Address string
	forward *httputil.ReverseProxy
	closed  chan struct{}

	mu    sync.Mutex
	fault func(*http.Request) S3Fault // nil: none; guarded by mu
	seen  []string                    // methods of the requests that failed; guarded by mu
}

// StartS3Proxy starts one before the server with an address, without faults.
func StartS3Proxy(t testing.TB, upstream string) *S3Proxy {
	t.Helper()
	transport := &http.Transport{}
	p := &S3Proxy{closed: make(chan struct{}), forward: &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: upstream})
			r.Out.Host = r.In.Host // it is signed
		},
	}}
	server := httptest.NewServer(p)
	p.Address = server.Listener.Addr().String()
	t.Cleanup(func() {
		close(p.closed)
		server.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// Fail sets what goes wrong from now on.
func (p *S3Proxy) Fail(f func(*http.Request) S3Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.seen = f, nil
}

// Failed returns how many requests went wrong.
func (p *S3Proxy) Failed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.seen)
}

func (p *S3Proxy) decide(r *http.Request) S3Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault == nil {
		return NoFault
	}
	f := p.fault(r)
	if f != NoFault {
		p.seen = append(p.seen, r.Method)
	}
	return f
}

// ServeHTTP implements http.Handler.
func (p *S3Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch p.decide(r) {
	case NoFault:
		p.forward.ServeHTTP(w, r)
	case Unavailable:
		refuse(w, r, http.StatusServiceUnavailable, "SlowDown")
	case Revoked:
		refuse(w, r, http.StatusForbidden, "InvalidAccessKeyId")
	case Conflict:
		refuse(w, r, http.StatusConflict, "ConditionalRequestConflict")
	case Exists:
		refuse(w, r, http.StatusPreconditionFailed, "PreconditionFailed")
	case Missing:
		refuse(w, r, http.StatusNotFound, "NoSuchKey")
	case Lie:
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"0123456789abcdef0123456789abcdef"`)
	case ResetIn:
		_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
		reset(w)
	case ResetOut:
		p.forward.ServeHTTP(&cutter{ResponseWriter: w}, r)
	case Stalled:
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

// On makes a fault of the requests with a method for keys that contain a part.
func On(method, part string, f S3Fault) func(*http.Request) S3Fault {
	return func(r *http.Request) S3Fault {
		if r.Method == method && strings.Contains(r.URL.Path, part) {
			return f
		}
		return NoFault
	}
}

// Times limits a fault to the first n requests that it is for.
func Times(n int, f func(*http.Request) S3Fault) func(*http.Request) S3Fault {
	return func(r *http.Request) S3Fault {
		if n == 0 {
			return NoFault
		}
		got := f(r)
		if got != NoFault {
			n--
		}
		return got
	}
}
