package restore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Server is the [Source] that asks nodes over HTTP. The nodes keep the same timeline, and each knows what the others have: the
// first one that knows is believed.
//
//	GET /v1/tenants/T/timelines/L/wal/FILE[?copy=1][&accept_data_loss=1]
//
// Only two answers are more than "could not find out", whatever stands between us and a node. The file: status 200 with
// "Sluice-Answer: file", Content-Length, and the SHA-256 of the body in Repr-Digest (RFC 9530). That it does not exist: status
// 404 with "Sluice-Answer: absent" and a problem (RFC 9457) of the type "urn:sluice:problem:absent". A problem of the type
// "urn:sluice:problem:unsealed" says that a seal would help.
type Server struct {
	cfg    ServerConfig
	bases  []*url.URL
	client *http.Client
}

// ServerConfig says whom to ask, and about what.
type ServerConfig struct {
	URLs             []string // of nodes: "http://127.0.0.1:7070"; at least one
	Tenant, Timeline string
	Token            string // sent as a bearer token; empty: none
	// Seal seals the timeline where that is what the answer needs, with AcceptDataLoss where the query has it.
	Seal bool
	// Stall is how long a node may be silent: before it answers, and between two pieces of an answer. Zero is a minute: it
	// may have to bring the file from far away first.
	Stall time.Duration
}

// NewServer returns a Server. It fails where a URL is none.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Stall == 0 {
		cfg.Stall = time.Minute
	}
	s := &Server{cfg: cfg, client: &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: connectTimeout}).DialContext,
			TLSHandshakeTimeout:   connectTimeout,
			ResponseHeaderTimeout: cfg.Stall,
			DisableCompression:    true, // the digest is of the bytes as they are
		},
		// A node sends nobody elsewhere; what does is no node.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	for _, text := range cfg.URLs {
		base, err := url.Parse(strings.TrimSpace(text))
		if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
			return nil, fmt.Errorf("server %q: want a URL such as http://127.0.0.1:7070", text)
		}
		s.bases = append(s.bases, base)
	}
	if len(s.bases) == 0 {
		return nil, errors.New("no server is named")
	}
	return s, nil
}

const connectTimeout = 5 * time.Second

// Close gives idle connections back.
func (s *Server) Close() { s.client.CloseIdleConnections() }

// Find implements [Source].
func (s *Server) Find(ctx context.Context, q Query) Found {
	var unknown []Decision
	for _, base := range s.bases {
		found := s.findAt(ctx, base, q)
		if found.Kind != Unknown {
			return found
		}
		unknown = append(unknown, found.Decision)
	}
	d := Decision{Reason: unknown[0].Reason, Text: texts(unknown)}
	d.Retry = slices.ContainsFunc(unknown, func(d Decision) bool { return d.Retry })
	return Found{Decision: d}
}

// findAt asks one node, and seals there if that is what it takes.
func (s *Server) findAt(ctx context.Context, base *url.URL, q Query) Found {
	found := s.ask(ctx, base, q)
	if found.Reason != Unsealed || !s.cfg.Seal || q.Copy {
		return found
	}
	if err := s.seal(ctx, base, q.AcceptDataLoss); err != nil {
		return Found{Decision: Decision{Reason: Unsealed, Text: fmt.Sprintf("%s could not be sealed: %v", base.Redacted(), err)}}
	}
	return s.ask(ctx, base, q)
}

// ask makes one request.
func (s *Server) ask(ctx context.Context, base *url.URL, q Query) Found {
	query := url.Values{}
	if q.Copy {
		query.Set("copy", "1")
	}
	if q.AcceptDataLoss {
		query.Set("accept_data_loss", "1")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	resp, err := s.do(ctx, http.MethodGet, base, query, "wal", q.Name)
	if err != nil {
		cancel(nil)
		return Found{Decision: Decision{Reason: Unreachable, Text: fmt.Sprintf("%s could not be asked: %v", base.Redacted(), err), Retry: true}}
	}
	found := read(base.Redacted(), resp)
	if found.Kind != Present {
		cancel(nil)
		_ = resp.Body.Close() // read as far as it matters
		return found
	}
	found.Body.r, found.Body.close = watch(resp.Body, s.cfg.Stall, cancel)
	return found
}

// seal asks for a promise never again to acknowledge the TLI.
func (s *Server) seal(ctx context.Context, base *url.URL, acceptDataLoss bool) error {
	query := url.Values{}
	if acceptDataLoss {
		query.Set("accept_data_loss", "1")
	}
	resp, err := s.do(ctx, http.MethodPost, base, query, "seal")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read as far as it matters
	if resp.StatusCode != http.StatusOK {
		return errors.New(readProblem(resp).text(resp))
	}
	return nil
}

// do sends a request about the timeline. What the path names is escaped: it comes from a command line.
func (s *Server) do(ctx context.Context, method string, base *url.URL, query url.Values, path ...string) (*http.Response, error) {
	u := base.JoinPath("v1", "tenants", url.PathEscape(s.cfg.Tenant), "timelines", url.PathEscape(s.cfg.Timeline))
	for _, p := range path {
		u = u.JoinPath(url.PathEscape(p))
	}
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	if s.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+s.cfg.Token)
	}
	resp, err := s.client.Do(req)
	var bad *url.Error
	if errors.As(err, &bad) {
		err = bad.Err // it would name the URL again, with everything in it
	}
	return resp, err
}
