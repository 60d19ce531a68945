package gate

import (
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// Counts are the entries of many gates, of those that are closed too. An entry
// that is let in costs nothing more: its seat counts it anyway. The zero value is
// ready to be used.
type Counts struct {
	refused atomic.Uint64

	mu    sync.Mutex
	rooms map[*room]struct{} // guarded by mu; of the gates that are not closed
	past  uint64             // guarded by mu; entries of those that are
}

// Entered is how many entries were let in. It only grows.
func (c *Counts) Entered() uint64 {
	c.mu.Lock()
	n, rooms := c.past, slices.Collect(maps.Keys(c.rooms))
	c.mu.Unlock()
	for _, r := range rooms { // one that closes meanwhile is not in past
		n += r.entered()
	}
	return n
}

// Refused is how many were not.
func (c *Counts) Refused() uint64 { return c.refused.Load() }

func (c *Counts) add(r *room) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rooms == nil {
		c.rooms = map[*room]struct{}{}
	}
	c.rooms[r] = struct{}{}
}

// end takes over what was counted in a room that nobody enters any more.
func (c *Counts) end(r *room, entered uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.rooms, r)
	c.past += entered
}

// entered is how many entries a room has let in.
func (r *room) entered() uint64 {
	r.lock()
	defer r.mu.Unlock()
	return r.enteredLocked()
}

func (r *room) enteredLocked() uint64 {
	if r.isClosed() {
		return r.last
	}
	all := r.crowd.given
	for i := range r.seats {
		n, seen := r.seats[i].given(r.pause)
		for seen.is(busy) {
			r.pause.spinBusy(&r.seats[i])
			runtime.Gosched()
			n, seen = r.seats[i].given(r.pause)
		}
		all += n
	}
	return all
}

// refuse counts an entry that is refused.
func (r *room) refuse() {
	r.refused.Add(1)
	if r.counts != nil {
		r.counts.refused.Add(1)
	}
}
