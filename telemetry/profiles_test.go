package telemetry

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestProfilesArePushed(t *testing.T) {
	pushed := make(chan *http.Request, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case pushed <- r:
		default:
		}
	}))
	defer server.Close()
	tel, _ := start(t, Config{NodeID: "a", PyroscopeURL: strings.Replace(server.URL, "//", "//user:s3cret@", 1), ProfileEvery: 50 * time.Millisecond})
	select {
	case r := <-pushed:
		user, password, _ := r.BasicAuth()
		if name := r.URL.Query().Get("name"); !strings.HasPrefix(name, "sluice") || !strings.Contains(name, "node=a") || user != "user" || password != "s3cret" {
			t.Errorf("pushed as %q by %q", name, user)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was pushed")
	}
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestShutdownIsBoundedThoughTheProfileServerHangs: the client alone would hold it for minutes.
func TestShutdownIsBoundedThoughTheProfileServerHangs(t *testing.T) {
	release, asked := make(chan struct{}), make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	}))
	defer server.Close()
	defer close(release)
	tel, log := start(t, Config{PyroscopeURL: server.URL, ProfileEvery: 50 * time.Millisecond})
	<-asked
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := tel.Shutdown(ctx); err == nil {
		t.Error("all was pushed")
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the shutdown took %v", took)
	}
	if err := tel.Shutdown(t.Context()); err != nil { // which waits for what the first has left
		t.Error(err)
	}
	if strings.Count(log.String(), "telemetry failed") > 1 {
		t.Errorf("logged too often: %s", log)
	}
}
