package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestDashboardsAreWrittenOver(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "place")
	for range 2 {
		var out, errs bytes.Buffer
		if code := run(t.Context(), []string{"dashboards", dir}, &out, &errs); code != exitDone {
			t.Fatalf("exit status %d: %s", code, &errs)
		}
		for _, name := range []string{"fleet.json", "alerts.yaml", "runbooks/SluiceDown.md"} {
			path := filepath.Join(dir, filepath.FromSlash(name))
			if text, err := os.ReadFile(path); err != nil || len(text) < 1000 {
				t.Errorf("%s has %d bytes, %v", name, len(text), err)
			}
			if err := os.WriteFile(path, nil, 0o600); err != nil { // an older one is there
				t.Fatal(err)
			}
		}
	}
}
