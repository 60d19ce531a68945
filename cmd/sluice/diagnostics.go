package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"time"
)

const (
	// diagnosticsDir is below the data directory.
	diagnosticsDir = "diagnostics"
	// keptDiagnostics is how many files stay there, the newest.
	keptDiagnostics = 20
)

// diagnostics are files for whoever asks afterwards what a node was doing.
type diagnostics struct{ dir string }

// goroutines writes down what every goroutine does, those with the same stack and labels together.
func (d diagnostics) goroutines(why string) (path string, err error) {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return "", fmt.Errorf("write the goroutine profile: %w", err)
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return "", fmt.Errorf("make the directory for diagnostics: %w", err)
	}
	if err := d.makeRoom(); err != nil {
		return "", err
	}
	path = filepath.Join(d.dir, fmt.Sprintf("%s-goroutines-%s.txt", time.Now().UTC().Format("20060102T150405.000Z"), why))
	if err := os.WriteFile(path, profile.Bytes(), 0o600); err != nil {
		return "", fmt.Errorf("write diagnostics: %w", err)
	}
	return path, nil
}

// makeRoom removes the oldest files, whose names begin with their time.
func (d diagnostics) makeRoom() error {
	files, err := os.ReadDir(d.dir)
	if err != nil {
		return fmt.Errorf("list diagnostics: %w", err)
	}
	var names []string
	for _, f := range files {
		if strings.Contains(f.Name(), "-goroutines-") {
			names = append(names, f.Name())
		}
	}
	slices.Sort(names)
	for len(names) >= keptDiagnostics {
		if err := os.Remove(filepath.Join(d.dir, names[0])); err != nil {
			return fmt.Errorf("remove old diagnostics: %w", err)
		}
		names = names[1:]
	}
	return nil
}
