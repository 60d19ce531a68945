package pg

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Fork is the end of a TLI in a history: the next TLI begins at LSN.
type Fork struct {
	TLI    TLI
	LSN    LSN    // the first byte that is no longer TLI's
	Reason string // PostgreSQL's words for people; may be empty
}

// History is the way that leads to a TLI: which ones it passed, and where it left each.
type History struct {
	TLI   TLI    // the newest; it has no end yet
	Forks []Fork // oldest first, TLIs increasing; empty for TLI 1
}

// ParseHistory reads the history file of tli as strictly as readTimeLineHistory does (src/backend/access/transam/timeline.c):
// blank lines and lines that begin with # are skipped, each other line is a TLI, a switch point and a reason, TLIs
// increase, and all are below tli. TLI 1 has no file; its history is ParseHistory(1, nil).
//
// Switch points need not increase. A recovery that follows TLI 2 and stops below the point where TLI 2 began
// writes a history in which TLI 2 ends before it begins.
func ParseHistory(tli TLI, b []byte) (History, error) {
	h := History{TLI: tli}
	if tli == 0 {
		return History{}, fmt.Errorf("invalid history: there is no TLI 0")
	}
	last := TLI(0)
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		fork, err := parseFork(line)
		if err != nil {
			return History{}, fmt.Errorf("invalid history of TLI %d: line %q: %w", tli, line, err)
		}
		if fork.TLI <= last {
			return History{}, fmt.Errorf("invalid history of TLI %d: line %q: TLIs must increase", tli, line)
		}
		last = fork.TLI
		h.Forks = append(h.Forks, fork)
	}
	if last >= tli {
		return History{}, fmt.Errorf("invalid history of TLI %d: it passes TLI %d, which is not older", tli, last)
	}
	return h, nil
}

// parseFork reads "TLI <space> LSN <rest>". The rest is for people; PostgreSQL ignores it.
func parseFork(line string) (Fork, error) {
	number, rest := cutSpace(line)
	tli, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return Fork{}, fmt.Errorf("expected a numeric TLI, found %q", number)
	}
	point, reason := cutSpace(rest)
	lsn, err := ParseLSN(point)
	if err != nil {
		return Fork{}, fmt.Errorf("expected a switch point: %w", err)
	}
	return Fork{TLI: TLI(tli), LSN: lsn, Reason: reason}, nil
}

// cutSpace returns the first field of s and what stands after the space that ends it.
func cutSpace(s string) (field, rest string) {
	i := strings.IndexAny(s, " \t\v\f\r")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimSpace(s[i:])
}

// End returns where the history leaves t: the first LSN whose byte a server with this history does not have from t. False
// if t is the history's own TLI, which has no end yet, or is not in it at all.
//
// That is the lowest of the switch points from t on, not always t's own: see [ParseHistory].
func (h History) End(t TLI) (LSN, bool) {
	i := slices.IndexFunc(h.Forks, func(f Fork) bool { return f.TLI == t })
	if i < 0 {
		return 0, false
	}
	end := h.Forks[i].LSN
	for _, later := range h.Forks[i+1:] {
		end = min(end, later.LSN)
	}
	return end, true
}

// Contains reports whether a server with this history has all bytes that p's TLI has below p: TLI is in the history, and
// the history does not leave it below p. For the history's own TLI that says nothing about how far the server is.
func (h History) Contains(p Position) bool {
	if p.TLI == h.TLI {
		return true
	}
	end, found := h.End(p.TLI)
	return found && p.LSN <= end
}

// Parent returns where the history's own TLI left the one before it; false if there is none.
func (h History) Parent() (Fork, bool) {
	if len(h.Forks) == 0 {
		return Fork{}, false
	}
	return h.Forks[len(h.Forks)-1], true
}

// At returns the TLI that holds the byte at lsn (tliOfPointInHistory in timeline.c): of those that begin at or below it,
// the newest.
func (h History) At(lsn LSN) TLI {
	tli := h.TLI
	for _, fork := range slices.Backward(h.Forks) {
		if fork.LSN <= lsn {
			return tli
		}
		tli = fork.TLI
	}
	return tli
}
