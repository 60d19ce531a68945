package gate

import (
	"cmp"
	"slices"
	"time"
)

// keptSeats is how many seats an empty gate keeps for the next holders. Above it
// the memory of a rush is given back.
const keptSeats = 16

// seats holds the record of everyone inside. A seat is used again after its
// holder left, so that entering allocates nothing once there were as many
// holders before; a serial number tells its holders apart. The zero value is
// empty.
type seats struct {
	all    []seat
	empty  int32  // 1 + the index of the first empty seat; 0: all are taken
	taken  int    // how many are inside
	serial uint64 // the last one given; also how many have entered
}

// seat is one holder's record, or an empty place.
type seat struct {
	serial uint64 // 0: empty
	next   int32  // while empty: 1 + the index of the next empty seat; 0: none
	holder Holder
	since  time.Time
	trace  Trace
}

// take seats a newcomer.
func (s *seats) take(h Holder, now time.Time, t Trace) (index int32, serial uint64) {
	if s.empty == 0 {
		s.all = append(s.all, seat{})
		s.empty = int32(len(s.all))
	}
	index = s.empty - 1
	s.empty = s.all[index].next
	s.taken++
	s.serial++
	s.all[index] = seat{serial: s.serial, holder: h, since: now, trace: t}
	return index, s.serial
}

// at is the record of the holder with that serial, if it still sits there.
func (s *seats) at(index int32, serial uint64) (seat, bool) {
	if int(index) >= len(s.all) || s.all[index].serial != serial {
		return seat{}, false
	}
	return s.all[index], true
}

// free empties a seat and returns who sat there; false: somebody else does, or
// nobody.
func (s *seats) free(index int32, serial uint64) (seat, bool) {
	record, ok := s.at(index, serial)
	if !ok {
		return seat{}, false
	}
	s.taken--
	if s.taken == 0 && len(s.all) > keptSeats {
		s.all, s.empty = nil, 0
		return record, true
	}
	s.all[index] = seat{next: s.empty}
	s.empty = index + 1
	return record, true
}

// inside lists the records of all who are inside, in the order they came.
func (s *seats) inside() []seat {
	list := make([]seat, 0, s.taken)
	for _, one := range s.all {
		if one.serial != 0 {
			list = append(list, one)
		}
	}
	slices.SortFunc(list, func(a, b seat) int { return cmp.Compare(a.serial, b.serial) })
	return list
}
