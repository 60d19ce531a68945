package gate

// keptCrowd is how many a crowd may have had for its memory to be kept when all
// have left.
const keptCrowd = 64

// crowd holds the traces of those who found no seat, by the tokens of their
// passes. The zero value is empty.
type crowd struct {
	traces map[token]Trace
	most   int    // how many there were at once since traces was made
	given  uint64 // how many passes were given out so far
}

// take lets a newcomer in.
func (c *crowd) take(who token, trace *Trace) token {
	if c.traces == nil {
		c.traces, c.most = map[token]Trace{}, 0
	}
	c.given++
	t := token(c.given)<<passesShift | who
	c.traces[t] = Trace{}
	if trace != nil {
		c.traces[t] = *trace
	}
	c.most = max(c.most, len(c.traces))
	return t
}

// free lets a holder go and returns its trace; false: it is not there.
func (c *crowd) free(t token) (Trace, bool) {
	trace, ok := c.traces[t]
	if !ok {
		return Trace{}, false
	}
	delete(c.traces, t)
	if len(c.traces) == 0 && c.most > keptCrowd {
		c.traces = nil // a map does not shrink
	}
	return trace, true
}
