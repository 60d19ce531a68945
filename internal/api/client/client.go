// Package client speaks to a node's HTTP interface, for the command line.
//
// An answer that is a problem comes back as an *api.Error with its kind, so that a caller branches on
// the same errors as inside the node. A [Client] may be used by many goroutines at once.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluicewal/sluice/internal/api"
)

// maxAnswer bounds what is read of an answer, in bytes: the status of some 100,000 timelines.
const maxAnswer = 256 << 20

// A Client asks the first of its servers that can be reached.
type Client struct {
	servers []*url.URL
	token   string
	http    *http.Client
}

// New makes a Client for one or more servers, such as "http://127.0.0.1:7070". The token may be empty.
func New(servers []string, token string) (*Client, error) {
	c := &Client{token: token, http: &http.Client{Transport: &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		// What follows may take long: a seal, a deletion. It ends with the caller's context.
	}}}
	for _, s := range servers {
		u, err := url.Parse(strings.TrimRight(strings.TrimSpace(s), "/"))
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return nil, fmt.Errorf("server %q: want a URL such as http://127.0.0.1:7070", s)
		}
		c.servers = append(c.servers, u)
	}
	if len(c.servers) == 0 {
		return nil, errors.New("no server is named")
	}
	return c, nil
}

// Close gives its idle connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// A Request is what a Client sends. Body, when it is not nil, goes as JSON.
type Request struct {
	Method string
	Path   string // from /v1 on, escaped
	Query  url.Values
	Header http.Header
	Body   any
}

// Do sends a request and decodes the answer into out, unless it is nil or there is nothing to decode.
// It returns the status. The next server is asked only when one could not be reached at all, so that
// nothing is done twice.
func (c *Client) Do(ctx context.Context, r Request, out any) (status int, err error) {
	var unreachable error
	for _, server := range c.servers {
		status, err = c.do(ctx, server, r, out)
		if !neverSent(err) {
			return status, err
		}
		unreachable = errors.Join(unreachable, err)
	}
	return 0, unreachable
}

// neverSent reports whether no connection was made.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func (c *Client) do(ctx context.Context, server *url.URL, r Request, out any) (int, error) {
	req, err := c.request(ctx, server, r)
	if err != nil {
		return 0, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, explain(server, err)
	}
	defer func() { _ = resp.Body.Close() }() // read only
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, fmt.Errorf("read the answer of %s: %w", server, err)
	}
	if resp.StatusCode >= 400 {
		return resp.StatusCode, problem(server, resp.StatusCode, answer)
	}
	if out == nil || len(answer) == 0 {
		return resp.StatusCode, nil
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = answer
		return resp.StatusCode, nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return resp.StatusCode, fmt.Errorf("%s does not answer as a Sluice node does: %w", server, err)
	}
	return resp.StatusCode, nil
}

func (c *Client) request(ctx context.Context, server *url.URL, r Request) (*http.Request, error) {
	var body io.Reader
	if r.Body != nil {
		b, err := json.Marshal(r.Body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	target := server.String() + r.Path
	if len(r.Query) > 0 {
		target += "?" + r.Query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, target, body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	for key, values := range r.Header {
		req.Header[key] = values
	}
	if r.Body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, nil
}

// explain says what a person can do about a failed exchange.
func explain(server *url.URL, err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	if neverSent(err) {
		return fmt.Errorf("no node at %s: %w; is `sluice serve` running there? --server or SLUICE_SERVER names another", server, err)
	}
	return fmt.Errorf("ask %s: %w", server, err)
}

// problem makes an error of an answer with a status of 400 or above.
func problem(server *url.URL, status int, answer []byte) error {
	var p huma.ErrorModel
	if err := json.Unmarshal(answer, &p); err != nil || p.Status == 0 {
		return api.Errorf(api.KindInternal, "%s answers %d %s, and not as a Sluice node does", server, status, http.StatusText(status))
	}
	text := p.Detail
	for _, d := range p.Errors {
		text += "; " + strings.TrimPrefix(d.Location+": ", ": ") + d.Message
	}
	return api.Errorf(api.KindFromURI(p.Type), "%s", text)
}
