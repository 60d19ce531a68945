package client_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sluicewal/sluice/internal/api"
	"github.com/sluicewal/sluice/internal/api/client"
	"github.com/sluicewal/sluice/internal/timeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newClient(t *testing.T, servers ...string) *client.Client {
	t.Helper()
	c, err := client.New(servers, "token")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func TestRequestIsWhatTheContractSays(t *testing.T) {
	var got string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Method + " " + r.URL.RequestURI() + " " + r.Header.Get("If-None-Match") + " " + r.Header.Get("Authorization")
		w.WriteHeader(http.StatusAccepted)
	})
	c := newClient(t, url+"/")
	id := timeline.ID{Tenant: "acme", Name: "main"}
	ctx := t.Context()
	tests := []struct {
		do   func() error
		want string
	}{
		{func() error {
			_, err := c.CreateTimeline(ctx, id, api.CreateOptions{Source: "x", New: true})
			return err
		},
			"PUT /v1/tenants/acme/timelines/main?new=1 * Bearer token"},
		{func() error {
			_, err := c.CreateTimeline(ctx, id, api.CreateOptions{Source: "x", Incarnation: "u"})
			return err
		},
			"PUT /v1/tenants/acme/timelines/main?incarnation=u * Bearer token"},
		{func() error { _, err := c.Seal(ctx, id, true); return err },
			"POST /v1/tenants/acme/timelines/main/seal?accept_data_loss=1  Bearer token"},
		{func() error { return c.Unseal(ctx, id, false) },
			"DELETE /v1/tenants/acme/timelines/main/seal  Bearer token"},
		{func() error {
			done, err := c.Delete(ctx, client.TimelinePath(id), true, "30s")
			if done {
				t.Error("202 is taken for done")
			}
			return err
		}, "DELETE /v1/tenants/acme/timelines/main?keep_objects=1&timeout=30s  Bearer token"},
		{func() error { _, _, err := c.SetTenantMode(ctx, "acme", api.ModeDetached, true, "30s"); return err },
			"PUT /v1/tenants/acme/mode?force=1&timeout=30s  Bearer token"},
	}
	for _, tt := range tests {
		if err := tt.do(); err != nil || got != tt.want {
			t.Errorf("%v, %q, want %q", err, got, tt.want)
		}
	}
}

func TestNextServerIsAskedOnlyWhenOneCannotBeReached(t *testing.T) {
	asked := 0
	answers := serve(t, func(w http.ResponseWriter, _ *http.Request) { asked++; _, _ = w.Write([]byte(`{"id":"b"}`)) })
	info, err := newClient(t, closedPort(t), answers).Node(t.Context())
	if err != nil || info.ID != "b" {
		t.Errorf("%+v, %v", info, err)
	}
	hangsUp := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if _, err := newClient(t, hangsUp, answers).Node(t.Context()); err == nil || asked != 1 {
		t.Errorf("%v, and the second server was asked %d times: a request may have been done twice", err, asked)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	_, err := newClient(t, closedPort(t)).Node(t.Context())
	if err == nil || !strings.Contains(err.Error(), "sluice serve") {
		t.Errorf("nobody listens: %v", err)
	}
	foreign := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) })
	_, err = newClient(t, foreign).Node(t.Context())
	if api.KindOf(err) != api.KindInternal || !strings.Contains(err.Error(), "not as a Sluice node") {
		t.Errorf("a foreign server: %v", err)
	}
	html := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) })
	if _, err = newClient(t, html).Node(t.Context()); err == nil || !strings.Contains(err.Error(), "not answer as a Sluice node") {
		t.Errorf("a foreign page: %v", err)
	}
	problem := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
		_, _ = w.Write([]byte(`{"type":"urn:sluice:problem:refused","status":409,"detail":"the tail was handed out","errors":[{"location":"query.x","message":"m"}]}`))
	})
	_, err = newClient(t, problem).Node(t.Context())
	if api.KindOf(err) != api.KindRefused || err.Error() != "the tail was handed out; query.x: m" {
		t.Errorf("a problem: %q %v", api.KindOf(err), err)
	}
}

func TestServersAreChecked(t *testing.T) {
	for _, servers := range [][]string{nil, {""}, {"localhost:7070"}, {"ftp://x"}, {"http://"}} {
		if _, err := client.New(servers, ""); err == nil {
			t.Errorf("%q is accepted", servers)
		}
	}
}

func TestCancellationEndsTheWait(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	if _, err := newClient(t, url).Node(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
