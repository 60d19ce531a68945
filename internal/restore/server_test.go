package restore_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicewal/sluice/internal/restore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const segmentName = "000000010000000000000002"

// reply is what a server sends.
type reply struct {
	status int
	header map[string]string
	body   string
}

func (r reply) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	for name, value := range r.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(r.status)
	_, _ = io.WriteString(w, r.body)
}

func file(body string) reply {
	sum := sha256.Sum256([]byte(body))
	return reply{http.StatusOK, map[string]string{
		"Sluice-Answer": "file", "Content-Length": strconv.Itoa(len(body)),
		"Repr-Digest": "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":",
	}, body}
}

func problem(status int, answer, kind string) reply {
	return reply{status, map[string]string{"Sluice-Answer": answer, "Content-Type": "application/problem+json"},
		fmt.Sprintf(`{"type":"urn:sluice:problem:%s","title":"a title","status":%d,"detail":"the detail"}`, kind, status)}
}

// without returns the reply less one header.
func (r reply) without(name string) reply {
	header := map[string]string{}
	for n, value := range r.header {
		if n != name {
			header[n] = value
		}
	}
	r.header = header
	return r
}

func (r reply) with(name, value string) reply {
	r = r.without(name)
	r.header[name] = value
	return r
}

// serve answers with h and returns the server's URL.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// nobody is an address where nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return "http://" + l.Addr().String()
}

func server(t *testing.T, cfg restore.ServerConfig, urls ...string) *restore.Server {
	t.Helper()
	cfg.URLs, cfg.Tenant, cfg.Timeline = urls, "acme", "main"
	s, err := restore.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestOnlyAnAnswerCountsAsOne: a proxy, a login page, another service and an older Sluice have 200s and 404s of their own.
func TestOnlyAnAnswerCountsAsOne(t *testing.T) {
	absent := problem(http.StatusNotFound, "absent", "absent")
	tests := map[string]struct {
		reply  reply
		kind   restore.Kind
		reason restore.Reason
		retry  bool
	}{
		"the file":                     {file("bytes"), restore.Present, "", false},
		"it does not exist":            {absent, restore.Absent, "", false},
		"nobody knows":                 {problem(503, "unknown", "unknown"), restore.Unknown, restore.NotHeld, true},
		"a seal would help":            {problem(503, "unknown", "unsealed"), restore.Unknown, restore.Unsealed, false},
		"no such timeline":             {problem(404, "unknown", "not-found"), restore.Unknown, restore.Refused, false},
		"a bad token":                  {problem(401, "unknown", "unauthorized"), restore.Unknown, restore.Refused, false},
		"too many requests":            {reply{status: 429}, restore.Unknown, restore.NotHeld, true},
		"a bare 404":                   {reply{status: 404, body: "404 page not found"}, restore.Unknown, restore.Refused, false},
		"a 404 that says it is absent": {reply{404, map[string]string{"Sluice-Answer": "absent"}, "no problem"}, restore.Unknown, restore.Refused, false},
		"a problem without the header": {absent.without("Sluice-Answer"), restore.Unknown, restore.Refused, false},
		"a problem that is no JSON":    {absent.with("Content-Type", "text/plain"), restore.Unknown, restore.Refused, false},
		"absent with another status":   {problem(200, "absent", "absent"), restore.Unknown, restore.Refused, false},
		"a login page":                 {reply{status: 200, body: "<html>"}, restore.Unknown, restore.Refused, false},
		"a redirect":                   {reply{302, map[string]string{"Location": "/login"}, ""}, restore.Unknown, restore.Refused, false},
		"a proxy that lost its node":   {reply{status: 502, body: "bad gateway"}, restore.Unknown, restore.NotHeld, true},
		"a file without a digest":      {file("bytes").without("Repr-Digest"), restore.Unknown, restore.Damaged, true},
		"a file with half a digest":    {file("bytes").with("Repr-Digest", "sha-256=:AAAA:"), restore.Unknown, restore.Damaged, true},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			found := server(t, restore.ServerConfig{}, serve(t, c.reply)).Find(t.Context(), restore.Query{Name: segmentName})
			if found.Kind != c.kind || found.Reason != c.reason || found.Retry != c.retry {
				t.Errorf("%v (%s), retry %t: %s; want %v (%s), retry %t", found.Kind, found.Reason, found.Retry, found.Text, c.kind, c.reason, c.retry)
			}
			if (found.Body != nil) != (found.Kind == restore.Present) {
				t.Fatal("there is a body, and no file, or the other way around")
			}
			if found.Body != nil {
				content(t, found)
			} else if found.Text == "" {
				t.Error("it does not say why")
			}
		})
	}
}

func TestRequestIsWhatTheContractSays(t *testing.T) {
	var got []string
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Authorization"))
		if len(got) == 1 {
			problem(503, "unknown", "unsealed").ServeHTTP(w, r)
			return
		}
		file("{}").ServeHTTP(w, r)
	}))
	s := server(t, restore.ServerConfig{Token: "secret", Seal: true}, url+"/")
	content(t, s.Find(t.Context(), restore.Query{Name: segmentName, AcceptDataLoss: true}))
	content(t, s.Find(t.Context(), restore.Query{Name: "00000002.history", Copy: true}))
	want := []string{
		"GET /v1/tenants/acme/timelines/main/wal/" + segmentName + "?accept_data_loss=1 Bearer secret",
		"POST /v1/tenants/acme/timelines/main/seal?accept_data_loss=1 Bearer secret",
		"GET /v1/tenants/acme/timelines/main/wal/" + segmentName + "?accept_data_loss=1 Bearer secret",
		"GET /v1/tenants/acme/timelines/main/wal/00000002.history?copy=1 Bearer secret",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("requests:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestSealThatIsRefusedIsSaid(t *testing.T) {
	posts := 0
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			posts++
			problem(http.StatusConflict, "", "refused").ServeHTTP(w, r)
			return
		}
		problem(503, "unknown", "unsealed").ServeHTTP(w, r)
	}))
	s := server(t, restore.ServerConfig{Seal: true}, url)
	found := s.Find(t.Context(), restore.Query{Name: segmentName})
	if found.Reason != restore.Unsealed || found.Retry || !strings.Contains(found.Text, "the detail") || posts != 1 {
		t.Errorf("%v (%s) after %d seals: %s", found.Kind, found.Reason, posts, found.Text)
	}
	if s.Find(t.Context(), restore.Query{Name: segmentName, Copy: true}); posts != 1 {
		t.Error("a copy has sealed the timeline")
	}
}

// TestFirstServerThatKnowsIsBelieved, whether it has the file or knows that it does not exist.
func TestFirstServerThatKnowsIsBelieved(t *testing.T) {
	away, joining := nobody(t), serve(t, problem(503, "unknown", "unknown"))
	for kind, r := range map[restore.Kind]reply{restore.Present: file("bytes"), restore.Absent: problem(404, "absent", "absent")} {
		found := server(t, restore.ServerConfig{}, away, joining, serve(t, r)).Find(t.Context(), restore.Query{Name: segmentName})
		if found.Kind != kind {
			t.Errorf("%v: %s; want %v", found.Kind, found.Text, kind)
		}
		if found.Body != nil {
			content(t, found)
		}
	}
	found := server(t, restore.ServerConfig{}, away, joining).Find(t.Context(), restore.Query{Name: segmentName})
	if found.Kind != restore.Unknown || !found.Retry || !strings.Contains(found.Text, away) || !strings.Contains(found.Text, joining) {
		t.Errorf("%v: %q; want both servers named", found.Kind, found.Text)
	}
}

func TestServerThatFallsSilentIsCutOff(t *testing.T) {
	gone := make(chan struct{})
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		file("some bytes").with("Content-Length", "1000").ServeHTTP(w, r)
		_ = http.NewResponseController(w).Flush()
		<-gone
	}))
	defer close(gone)
	found := server(t, restore.ServerConfig{Stall: 100 * time.Millisecond}, url).Find(t.Context(), restore.Query{Name: segmentName})
	if found.Kind != restore.Present {
		t.Fatal(found.Text)
	}
	_, err := io.Copy(io.Discard, found.Body)
	if err == nil || !strings.Contains(err.Error(), "nothing came for") {
		t.Errorf("reading ended with %v", err)
	}
	if err := found.Body.Close(); err != nil {
		t.Error(err)
	}
}

func TestServerURLs(t *testing.T) {
	for _, bad := range []string{"", "node-a", "127.0.0.1:7070", "ftp://node-a", "http://", ":"} {
		if _, err := restore.NewServer(restore.ServerConfig{URLs: []string{bad}}); err == nil {
			t.Errorf("%q was taken for a URL", bad)
		}
	}
	if _, err := restore.NewServer(restore.ServerConfig{}); err == nil {
		t.Error("nobody can be asked, and that is fine?")
	}
}

// FuzzReply holds any reply to: never "it does not exist" but with the header, the status and the problem.
func FuzzReply(f *testing.F) {
	f.Add(404, "absent", "application/problem+json", `{"type":"urn:sluice:problem:absent"}`, "")
	f.Add(200, "file", "", "bytes", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:")
	f.Add(503, "unknown", "application/problem+json; charset=utf-8", `{"type":3}`, "sha-256")
	f.Fuzz(func(t *testing.T, status int, answer, media, body, digest string) {
		resp := &http.Response{
			StatusCode: 100 + (status%500+500)%500, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)),
			Header: http.Header{"Sluice-Answer": {answer}, "Content-Type": {media}, "Repr-Digest": {digest}},
		}
		found := restore.Read("a node", resp)
		if found.Kind == restore.Absent && (resp.StatusCode != 404 || answer != "absent" || !strings.Contains(body, "absent")) {
			t.Errorf("%+v with body %q is taken for absent", resp, body)
		}
		if found.Kind == restore.Present && (found.Body == nil || resp.StatusCode != 200) {
			t.Errorf("%+v is taken for a file", resp)
		}
	})
}

// sourceFunc is a source.
type sourceFunc func() restore.Found

func (f sourceFunc) Find(context.Context, restore.Query) restore.Found { return f() }

func says(kind restore.Kind, text string) sourceFunc {
	return func() restore.Found { return restore.Found{Decision: restore.Decision{Kind: kind, Text: text}} }
}
