package restore

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sluicewal/sluice/internal/pg"
)

// survey is what the answers say together about the timeline, whatever the file.
type survey struct {
	// line is the way to the newest TLI that anybody has followed; its TLI is zero if nobody has any WAL. Every answer's
	// own history is a part of it.
	line pg.History
	// commit is the highest commit LSN on the line; all below is on enough nodes, whoever says so.
	commit pg.LSN
	seals  map[pg.TLI]pg.LSN // decided ends

	cluster Answer // somebody who knows the system identifier
}

// newSurvey fails where answers contradict each other: then nobody can tell which commits are the timeline's.
func newSurvey(answers []Answer) (survey, error) {
	s := survey{seals: map[pg.TLI]pg.LSN{}}
	newest := Answer{}
	for _, a := range answers {
		if a.History.TLI > newest.History.TLI {
			newest = a
		}
		if err := errors.Join(s.addCluster(a), s.addSeals(a)); err != nil {
			return survey{}, err
		}
	}
	s.line = newest.History
	for _, a := range answers {
		if !isPartOf(a.History, s.line) {
			return survey{}, fmt.Errorf("%s has followed TLI %d, which is not on the way to TLI %d of %s (or forks elsewhere): "+
				"two servers were promoted, and only one of them can be the timeline's; leave out the wrong one",
				a.From, a.History.TLI, s.line.TLI, newest.From)
		}
		s.commit = max(s.commit, s.commitOf(a))
	}
	return s, nil
}

func (s *survey) addCluster(a Answer) error {
	switch {
	case a.SystemID == 0:
		return nil
	case s.cluster.SystemID != 0 && s.cluster.SystemID != a.SystemID:
		return fmt.Errorf("%s keeps the cluster %d, and %s the cluster %d: one of them is another timeline",
			a.From, a.SystemID, s.cluster.From, s.cluster.SystemID)
	}
	s.cluster = a
	return nil
}

func (s *survey) addSeals(a Answer) error {
	for _, tli := range slices.Sorted(maps.Keys(a.Seals)) {
		if a.Seals[tli] == 0 {
			return fmt.Errorf("%s says that TLI %d was sealed at 0/0, where nothing can have ended: its words are damaged", a.From, tli)
		}
		end, known := s.seals[tli]
		if known && end != a.Seals[tli] {
			return fmt.Errorf("%s says that TLI %d was sealed at %s, and another place says %s: an end is decided once, so one of "+
				"them belongs to another timeline", a.From, tli, a.Seals[tli], end)
		}
		s.seals[tli] = a.Seals[tli]
	}
	return nil
}

// commitOf returns a place's commit LSN as far as it lies on the line.
func (s *survey) commitOf(a Answer) pg.LSN {
	if end, left := s.line.End(a.History.TLI); left {
		return min(a.CommitLSN, end)
	}
	return a.CommitLSN
}

// isPartOf reports whether a server on line passed exactly the forks of h.
func isPartOf(h, line pg.History) bool {
	passed := line.Forks
	if h.TLI != line.TLI {
		i := slices.IndexFunc(passed, func(f pg.Fork) bool { return f.TLI == h.TLI })
		if i < 0 {
			return h.TLI == 0 // nothing followed yet contradicts nothing
		}
		passed = passed[:i]
	}
	return slices.EqualFunc(passed, h.Forks, func(a, b pg.Fork) bool { return a.TLI == b.TLI && a.LSN == b.LSN })
}

// onLine reports whether the way to the newest TLI passes tli.
func (s *survey) onLine(tli pg.TLI) bool {
	_, left := s.line.End(tli)
	return left || tli == s.line.TLI
}

// begin returns where the line enters tli, and from which TLI; zeros for its first.
func (s *survey) begin(tli pg.TLI) (pg.LSN, pg.TLI) {
	before := s.line.Forks
	if i := slices.IndexFunc(before, func(f pg.Fork) bool { return f.TLI == tli }); i >= 0 {
		before = before[:i]
	}
	if len(before) == 0 {
		return 0, 0
	}
	fork := before[len(before)-1]
	return fork.LSN, fork.TLI
}

// newestAt returns the TLI whose segment PostgreSQL asks for first at this number (XLogFileReadAnyTLI in xlogrecovery.c): the
// newest that begins there or below.
func (s *survey) newestAt(f File) pg.TLI {
	tli := s.line.TLI
	for _, fork := range slices.Backward(s.line.Forks) {
		if f.Size.SegNo(fork.LSN) <= f.SegNo {
			return tli
		}
		tli = fork.TLI
	}
	return tli
}

// sealed returns the end of the newest TLI, if it is sealed. It is never below the point where the TLI begins: a child that was
// sealed before its first byte ends there.
func (s *survey) sealed() (pg.LSN, bool) {
	end, ok := s.seals[s.line.TLI]
	begin, _ := s.begin(s.line.TLI)
	return max(end, begin), ok
}

// safe returns the LSN below which the bytes of tli, on the line, can no longer change while the newest TLI lives on.
func (s *survey) safe(tli pg.TLI) pg.LSN { return max(s.commit, s.seals[tli]) }

// end returns where a TLI that the line has left ends. Above the fork it may go on to where it was sealed, if somebody
// accepted the loss.
func (s *survey) end(tli pg.TLI) pg.LSN {
	fork, _ := s.line.End(tli)
	return max(fork, s.seals[tli])
}
