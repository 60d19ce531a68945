package rig

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

func TestLogScannerFindsWhatNoFaultExplains(t *testing.T) {
	lines := []string{
		`{"level":"INFO","msg":"segment complete"}`,
		`{"level":"WARN","msg":"source lost","error":"connection refused"}`,
		`{"level":"ERROR","msg":"disk is broken"}`,
		`panic: runtime error`,
	}
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte(join(lines)), 0o600); err != nil {
		t.Fatal(err)
	}
	allowed := []Allowed{{regexp.MustCompile(`source lost: connection refused`), "the source was killed"}}
	got, err := Unexpected(file, allowed)
	if err != nil {
		t.Fatal(err)
	}
	if want := lines[2:]; !slices.Equal(got, want) {
		t.Errorf("unexpected lines: %q, want %q", got, want)
	}
}

func join(lines []string) (text string) {
	for _, l := range lines {
		text += l + "\n"
	}
	return text
}
