package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicewal/sluice/internal/api"
)

const (
	// diagnosticsDir is below the data directory.
	diagnosticsDir = "diagnostics"
	// keptDiagnostics is how many are kept there, and keptDiagnosticsBytes how much, the newest.
	keptDiagnostics      = 20
	keptDiagnosticsBytes = 128 << 20
	// profileBytes bounds one file.
	profileBytes = 32 << 20
	// flightSeconds is how far back a flight recording goes, about.
	flightSeconds = 10
)

// diagnostics are directories for whoever asks afterwards what a node was doing: each one has what every goroutine did, who was
// inside the gates that were closing, and, where that is switched on, a recording of the last seconds.
type diagnostics struct {
	dir    string
	gates  func() []api.ClosingGate // nil: none are known of
	flight *trace.FlightRecorder    // nil: it is not switched on

	mu sync.Mutex // one is written at a time; whoever comes meanwhile does not wait, for the disk may be what hangs
}

// errDiagnosing is the end of what would have to wait for the disk.
var errDiagnosing = errors.New("diagnostics are being written at this moment")

// recordFlight keeps the last seconds of what the scheduler does. It costs a wake-up of a goroutine about as much again.
func recordFlight() (*trace.FlightRecorder, error) {
	r := trace.NewFlightRecorder(trace.FlightRecorderConfig{MinAge: flightSeconds * time.Second, MaxBytes: 4 << 20})
	if err := r.Start(); err != nil {
		return nil, fmt.Errorf("telemetry.flight_recorder: %w", err)
	}
	return r, nil
}

// write writes all of it down. What cannot be had is in the error, and does not keep the rest out.
func (d *diagnostics) write(why string) (path string, err error) {
	if !d.mu.TryLock() {
		return "", errDiagnosing
	}
	defer d.mu.Unlock()
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return "", fmt.Errorf("make the directory for diagnostics: %w", err)
	}
	if err := d.makeRoom(); err != nil {
		return "", err
	}
	path = filepath.Join(d.dir, time.Now().UTC().Format("20060102T150405.000000Z")+"-"+why)
	if err := os.Mkdir(path, 0o700); err != nil {
		return "", fmt.Errorf("write diagnostics: %w", err)
	}
	errs := []error{
		d.file(path, "goroutines.txt", func(w io.Writer) error { return pprof.Lookup("goroutine").WriteTo(w, 1) }),
		d.file(path, "gates.json", d.writeGates),
	}
	if d.flight != nil {
		errs = append(errs, d.file(path, "flight.trace", func(w io.Writer) error { _, err := d.flight.WriteTo(w); return err }))
	}
	return path, errors.Join(errs...)
}

func (d *diagnostics) writeGates(w io.Writer) error {
	if d.gates == nil {
		return nil
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(d.gates())
}

func (d *diagnostics) file(dir, name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write diagnostics: %w", err)
	}
	if err := errors.Join(write(&bounded{w: f, left: profileBytes}), f.Close()); err != nil {
		return fmt.Errorf("write diagnostics %s: %w", name, err)
	}
	return nil
}

// bounded drops what is more than it may be.
type bounded struct {
	w    io.Writer
	left int
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	n, err := b.w.Write(p[:min(len(p), b.left)])
	b.left -= n
	if err != nil {
		return n, err
	}
	return len(p), nil
}

// makeRoom removes the oldest, whose names begin with their time.
func (d *diagnostics) makeRoom() error {
	entries, err := os.ReadDir(d.dir) // by name
	if err != nil {
		return fmt.Errorf("list diagnostics: %w", err)
	}
	kept, size := 0, int64(0)
	for _, e := range slices.Backward(entries) {
		if !strings.Contains(e.Name(), "Z-") {
			continue // not ours
		}
		path := filepath.Join(d.dir, e.Name())
		size += sizeOf(path)
		if kept++; kept < keptDiagnostics && size <= keptDiagnosticsBytes {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove old diagnostics: %w", err)
		}
	}
	return nil
}

// sizeOf adds up the files below a path; what cannot be read is nothing.
func sizeOf(path string) (size int64) {
	_ = filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // see above
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	return size
}

// newest are the files of the newest diagnostics, by their paths below the directory; without flight recordings, which are large.
func (d *diagnostics) newest() (map[string][]byte, error) {
	if !d.mu.TryLock() {
		return nil, errDiagnosing
	}
	defer d.mu.Unlock()
	entries, err := os.ReadDir(d.dir)
	if errors.Is(err, fs.ErrNotExist) || len(entries) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list diagnostics: %w", err)
	}
	last := entries[len(entries)-1].Name()
	files := map[string][]byte{}
	for _, name := range []string{"goroutines.txt", "gates.json"} {
		text, err := os.ReadFile(filepath.Join(d.dir, last, name))
		if err != nil {
			return nil, fmt.Errorf("read diagnostics: %w", err)
		}
		files[last+"/"+name] = text
	}
	return files, nil
}

// stop ends the recording.
func (d *diagnostics) stop() {
	if d.flight != nil {
		d.flight.Stop()
	}
}
