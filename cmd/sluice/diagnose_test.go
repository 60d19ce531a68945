package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/api/client"
)

// TestReportComesWithoutWhatHangs: a node whose disk hangs has no answer to some of the questions, and is asked all.
func TestReportComesWithoutWhatHangs(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/diagnostics" {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "[]")
	}))
	defer s.Close()
	cl, err := client.New([]string{s.URL}, "")
	must(t, err)
	b, err := collectBundle(t.Context(), cl, time.Now(), 500*time.Millisecond)
	must(t, err)
	told, path := map[string]string{}, filepath.Join(t.TempDir(), "bundle.tar.gz")
	must(t, os.WriteFile(path, b, 0o600))
	must(t, readBundle(path, told))
	if text := told["bundle errors.txt"]; !strings.HasPrefix(text, "diagnostics.json: ") || strings.Count(text, "\n") != 1 {
		t.Errorf("it says that this is missing: %s", text)
	}
	if told["bundle goroutines.txt"] == "" {
		t.Error("and what comes after it is missing")
	}
}
