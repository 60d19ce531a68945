package telemetry

import "time"

const (
	// firstPause is how long what lasts is logged only once, and longestPause what that grows to: a disk may hang for days. Its
	// spans come each second for as long as it does.
	firstPause   = time.Second
	longestPause = time.Minute
)

// Seldom says when something that lasts, and is looked at again and again, is to be logged: at the first look, and then ever more
// seldom. The zero value has seen nothing.
type Seldom struct {
	next  time.Duration // of its age, before which it is not logged again
	pause time.Duration // until then
}

// Due is asked at each look how old the thing is, and whether it is news, which is logged in any case.
func (s *Seldom) Due(age time.Duration, news bool) bool {
	if age < s.next && !news {
		return false
	}
	s.pause = min(max(2*s.pause, firstPause), longestPause)
	s.next = age + s.pause
	return true
}
