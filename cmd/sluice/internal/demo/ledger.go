package demo

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync"
)

// row names one row; what it holds follows from its name.
type row struct{ session, n int }

// payload is what must be found in the row.
func (r row) payload() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d/%d", r.session, r.n))
	return hex.EncodeToString(sum[:])
}

// ledger knows, outside of the database, what was acknowledged.
type ledger struct {
	mu    sync.Mutex
	acked map[row]struct{} // guarded by mu
}

func newLedger() *ledger { return &ledger{acked: make(map[row]struct{})} }

// acknowledge notes that PostgreSQL promised to keep a row.
func (l *ledger) acknowledge(r row) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[r] = struct{}{}
}

func (l *ledger) acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// tally compares what was acknowledged with what is there.
type tally struct {
	acknowledged int
	intact       int // acknowledged, and there as they were committed
	damaged      int // acknowledged and there, but with another payload
	extra        int // there, though the acknowledgement never came: the kill cut it off
}

// lost is how many acknowledged rows are not there as they were committed.
func (t tally) lost() int { return t.acknowledged - t.intact }

// count compares the ledger with the rows found, and their payloads.
func (l *ledger) count(found map[row]string) tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := tally{acknowledged: len(l.acked)}
	for r, payload := range found {
		_, acked := l.acked[r]
		switch {
		case !acked:
			t.extra++
		case payload == r.payload():
			t.intact++
		default:
			t.damaged++
		}
	}
	return t
}

// parseRows reads the rows of the table.
func parseRows(rows [][]string) (map[row]string, error) {
	found := make(map[row]string, len(rows))
	for _, columns := range rows {
		session, err := strconv.Atoi(columns[0])
		if err != nil {
			return nil, fmt.Errorf("read the table: %w", err)
		}
		n, err := strconv.Atoi(columns[1])
		if err != nil {
			return nil, fmt.Errorf("read the table: %w", err)
		}
		found[row{session: session, n: n}] = columns[2]
	}
	return found, nil
}
