package telemetry

import (
	"bytes"
	"slices"
	"sync"
)

// Bounds of what is kept of the log.
const (
	recentRecords = 2000
	recentBytes   = 1 << 20
)

// recent keeps the last records of the log, for reports. A handler writes each record with one call.
type recent struct {
	mu      sync.Mutex
	records [][]byte // guarded by mu; the oldest first
	size    int      // guarded by mu; of all of them
}

// Write implements io.Writer.
func (r *recent) Write(record []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, bytes.Clone(record[:min(len(record), recentBytes)]))
	r.size += len(r.records[len(r.records)-1])
	gone := 0
	for ; len(r.records)-gone > recentRecords || r.size > recentBytes; gone++ {
		r.size -= len(r.records[gone])
	}
	r.records = slices.Delete(r.records, 0, gone)
	return len(record), nil
}

func (r *recent) text() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Join(r.records, nil)
}

// RecentLog returns the last records of the log, as they were written.
func (t *Telemetry) RecentLog() []byte { return t.recent.text() }
