package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/api"
	"github.com/sluicewal/sluice/internal/timeline"
)

const segment = main + "/wal/000000010000000000000001"

func TestWALHasThreeAnswers(t *testing.T) {
	content := bytes.Repeat([]byte("wal "), 1<<18)
	tests := []struct {
		name   string
		wal    api.WAL
		err    error
		status int
		answer api.Answer
		kind   api.Kind
	}{
		{"a file", fileOf(content), nil, 200, api.AnswerFile, ""},
		{"absent", api.WAL{Answer: api.AnswerAbsent, Text: "the archive ends here"}, nil, 404, api.AnswerAbsent, api.KindAbsent},
		{"unknown", api.WAL{Answer: api.AnswerUnknown, Text: "node b does not answer"}, nil, 503, api.AnswerUnknown, api.KindUnknown},
		{"nothing decided", api.WAL{Text: "?"}, nil, 503, api.AnswerUnknown, api.KindUnknown},
		{"no such timeline", api.WAL{}, api.Errorf(api.KindNotFound, "no timeline acme/main"), 503, api.AnswerUnknown, api.KindUnknown},
		{"a failure", api.WAL{}, errors.New("EIO"), 500, api.AnswerUnknown, api.KindInternal},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var counted api.Answer
			n := &fakeNode{wal: func(string, api.WALOptions) (api.WAL, error) { return tt.wal, tt.err }}
			url, _ := serve(t, n, api.Config{Events: api.Events{WALAnswered: func(_ context.Context, a api.Answer) { counted = a }}})
			got := ask(t, "GET", url+segment, "")
			if got.status != tt.status || got.kind != tt.kind {
				t.Errorf("status %d %q, want %d %q: %.200s", got.status, got.kind, tt.status, tt.kind, got.body)
			}
			if values := got.header.Values(api.HeaderAnswer); len(values) != 1 || values[0] != string(tt.answer) {
				t.Errorf("%s: %q, want %q", api.HeaderAnswer, values, tt.answer)
			}
			if want := tt.wal.Answer; counted != want && (want != "" || counted != api.AnswerUnknown) && tt.err == nil {
				t.Errorf("counted as %q", counted)
			}
		})
	}
}

// TestRequestIsAdmittedWithItsClient: a node that stops says whom it still answers.
func TestRequestIsAdmittedWithItsClient(t *testing.T) {
	var client, route string
	url, _ := serve(t, &fakeNode{wal: func(string, api.WALOptions) (api.WAL, error) { return fileOf([]byte("wal")), nil }}, api.Config{
		Admit: func(ctx context.Context, of string) (func(), error) {
			client, route = timeline.ClientOf(ctx), of
			return func() {}, nil
		},
	})
	if got := ask(t, "GET", url+segment, ""); got.status != http.StatusOK || !strings.HasPrefix(client, "127.0.0.1:") || !strings.Contains(route, "/wal/") {
		t.Errorf("status %d, admitted was %q of %q", got.status, route, client)
	}
}

func TestWALFileIsSentWholeWithItsDigest(t *testing.T) {
	content := bytes.Repeat([]byte("wal "), 1<<18)
	var asked api.WALOptions
	n := &fakeNode{wal: func(_ string, o api.WALOptions) (api.WAL, error) {
		asked = o
		w := fileOf(content)
		w.Text = "node b was not asked\n(accept_data_loss)"
		return w, nil
	}}
	url, _ := serve(t, n, api.Config{})
	got := ask(t, "GET", url+segment+"?copy=1&accept_data_loss=1", "")
	sum := sha256.Sum256(content)
	if got.body != string(content) || got.header.Get("Content-Length") != "1048576" ||
		got.header.Get(api.HeaderDigest) != "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":" {
		t.Errorf("%d bytes, %v", len(got.body), got.header)
	}
	if got.header.Get(api.HeaderNote) != "node b was not asked (accept_data_loss)" {
		t.Errorf("note %q", got.header.Get(api.HeaderNote))
	}
	if !asked.Copy || !asked.AcceptDataLoss {
		t.Errorf("asked with %+v", asked)
	}
	if host, _, err := net.SplitHostPort(n.client); err != nil || host != "127.0.0.1" {
		t.Errorf("the node was told the client %q", n.client)
	}
	if head := ask(t, "HEAD", url+segment, ""); head.status != 200 || head.header.Get("Content-Length") != "1048576" {
		t.Errorf("HEAD: %d %v", head.status, head.header)
	}
}

func TestWrongNamesNeverReachTheNode(t *testing.T) {
	n := &fakeNode{wal: func(file string, _ api.WALOptions) (api.WAL, error) {
		t.Errorf("the node was asked for %q", file)
		return api.WAL{Answer: api.AnswerAbsent}, nil
	}}
	url, _ := serve(t, n, api.Config{})
	for _, path := range []string{
		main + "/wal/..%2fcontrol", main + "/wal/control", main + "/wal/00000001%00", main + "/wal/0000000100000000000000aa/x",
		main + "/wal/" + strings.Repeat("0", 100), "/v1/tenants/X/timelines/main/wal/000000010000000000000001",
		segment + "?copi=1",
	} {
		got := ask(t, "GET", url+path, "")
		if got.status < 400 || got.header.Get(api.HeaderAnswer) == string(api.AnswerAbsent) || got.kind == api.KindAbsent {
			t.Errorf("%s: %d %q %q", path, got.status, got.kind, got.header.Get(api.HeaderAnswer))
		}
	}
}

// endless is a body that never ends, and says when it was closed.
type endless struct{ closed chan struct{} }

func (e endless) Read(p []byte) (int, error) { return len(p), nil }
func (e endless) Close() error               { close(e.closed); return nil }

// neverRead asks for a segment and reads nothing of the answer.
func neverRead(t *testing.T, url string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, "GET "+segment+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
}

// endlessNode hands out endless files and tells when one was opened.
func endlessNode(gone <-chan struct{}) (n *fakeNode, opened, closed chan struct{}) {
	opened, closed = make(chan struct{}), make(chan struct{})
	n = &fakeNode{wal: func(string, api.WALOptions) (api.WAL, error) {
		close(opened)
		return api.WAL{Answer: api.AnswerFile, Size: 1 << 40, Body: endless{closed}, Gone: gone}, nil
	}}
	return n, opened, closed
}

func within(t *testing.T, d time.Duration, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(d):
		t.Fatalf("%s: not within %v", what, d)
	}
}

func TestClientThatNeverReadsIsCutWhenTheTimelineGoes(t *testing.T) {
	gone := make(chan struct{})
	n, opened, closed := endlessNode(gone)
	url, log := serve(t, n, api.Config{})
	neverRead(t, url)
	within(t, 10*time.Second, opened, "open")
	close(gone)
	within(t, time.Second, closed, "the file is closed")
	if strings.Contains(log.String(), "level=ERROR") || strings.Contains(log.String(), "level=WARN") {
		t.Errorf("a client's fault is logged: %s", log)
	}
}

func TestClientThatNeverReadsIsCutAfterTheStall(t *testing.T) {
	n, _, closed := endlessNode(nil)
	url, _ := serve(t, n, api.Config{Stall: 50 * time.Millisecond})
	neverRead(t, url)
	within(t, 10*time.Second, closed, "the file is closed")
}

func TestClientThatNeverReadsIsCutWhenTheNodeStops(t *testing.T) {
	n, opened, closed := endlessNode(nil)
	ctx, stop := context.WithCancel(t.Context())
	server := http.Server{
		Handler:           api.New(n, api.Config{}).Handler(),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: time.Second,
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l)
	}()
	neverRead(t, "http://"+l.Addr().String())
	within(t, 10*time.Second, opened, "open")
	stop()
	within(t, 3*time.Second, closed, "the file is closed")
	if err := server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	<-served
}

func TestFileThatEndsEarlyIsNoWholeAnswer(t *testing.T) {
	n := &fakeNode{wal: func(string, api.WALOptions) (api.WAL, error) {
		w := fileOf([]byte("short"))
		w.Size = 1 << 20
		return w, nil
	}}
	url, _ := serve(t, n, api.Config{})
	resp, err := http.Get(url + segment)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the client reads %v", err)
	}
}
