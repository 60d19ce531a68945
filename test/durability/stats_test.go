package durability

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// stats is what a run tells at its end.
type stats struct {
	cycles   int
	tli      int
	verdict  verdict // the last one
	settled  int
	stalls   int
	atBorder int // forks on a segment's border
	inRecord int // forks below the end of what was received: that lies inside of a record
	times    []time.Duration
	segment  pg.SegmentSize
}

func (s *stats) judged(v verdict) {
	s.verdict = v
	s.settled += v.Settled
}

func (s *stats) forked(fork, received pg.LSN) {
	if s.segment.Offset(fork) == 0 {
		s.atBorder++
	}
	if received > fork {
		s.inRecord++
	}
}

func (s *stats) recovered(d time.Duration) { s.times = append(s.times, d) }

// median is the middle recovery time; 0 without any.
func (s *stats) median() time.Duration {
	if len(s.times) == 0 {
		return 0
	}
	slices.Sort(s.times)
	return s.times[len(s.times)/2].Round(time.Millisecond)
}

func (s *stats) String() string {
	v := s.verdict
	return fmt.Sprintf("cycles %d, acknowledged rows %d, lost %d, corrupt %d, torn %d, phantoms %d, stalls %d, TLI %d, "+
		"unknown rows settled %d, forks on a border %d, forks inside a record %d, median recovery %v",
		s.cycles, v.Acked+v.Deleted, len(v.Lost), len(v.Corrupt), len(v.Torn), len(v.Phantoms)+len(v.Vanished), s.stalls, s.tli,
		s.settled, s.atBorder, s.inRecord, s.median())
}
