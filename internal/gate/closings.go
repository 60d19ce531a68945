package gate

import "sync"

// Closings are those of many gates that are closing, so that nobody has to look at
// the open ones, which may be thousands. Whoever enters or leaves has nothing to do
// with them. The zero value is ready to be used.
type Closings struct {
	mu sync.Mutex
	// gates have a Close that has not succeeded yet; guarded by mu. One that was given
	// up stays until somebody asks.
	gates map[*Gate]struct{}
}

// All lists them, in no order.
func (c *Closings) All() []*Gate {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*Gate
	for g := range c.gates {
		if g.inside().isClosed() { // the last one has left after the Close was given up
			delete(c.gates, g)
			continue
		}
		all = append(all, g)
	}
	return all
}

func (c *Closings) add(g *Gate) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gates == nil {
		c.gates = map[*Gate]struct{}{}
	}
	c.gates[g] = struct{}{}
}

func (c *Closings) remove(g *Gate) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.gates, g)
}
