package gate

// keptCrowd is how many a crowd may have had for its memory to be kept when all
// have left.
const keptCrowd = 64

// crowd holds the records of those who found no seat, by the tokens of their
// passes. The zero value is empty.
type crowd struct {
	records map[token]record
	most    int   // how many there were at once since records was made
	last    token // the last one given
}

// take lets a newcomer in.
func (c *crowd) take(rec record) token {
	if c.records == nil {
		c.records, c.most = map[token]record{}, 0
	}
	c.last = (c.last + onePass) | inCrowd<<numberShift | taken
	c.records[c.last] = rec
	c.most = max(c.most, len(c.records))
	return c.last
}

// free lets a holder go and returns its record; false: it is not there.
func (c *crowd) free(t token) (record, bool) {
	rec, ok := c.records[t]
	if !ok {
		return record{}, false
	}
	delete(c.records, t)
	if len(c.records) == 0 && c.most > keptCrowd {
		c.records = nil // a map does not shrink
	}
	return rec, true
}
