package restore

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluicewal/sluice/internal/pg"
)

// absent says that a file does not exist, if enough places that can know say so; otherwise nobody knows.
func (c *chooser) absent(format string, args ...any) Decision {
	why := fmt.Sprintf(format, args...)
	agree := filter(c.nodes, func(a Answer) bool { return a.Err == nil && a.Qualified })
	missing := c.missing(len(agree))
	if len(missing) == 0 {
		return Decision{Kind: Absent, Text: why}
	}
	if c.store != nil && c.store.Err == nil {
		agree = append(agree, *c.store)
	}
	if len(agree) == 0 { // a node that was sealed while it was joining has the last word there is
		agree = filter(c.nodes, func(a Answer) bool { _, sealed := a.Seals[c.line.TLI]; return a.Err == nil && sealed })
	}
	if len(agree) > 0 && (c.req.Copy || c.req.AcceptDataLoss) {
		return Decision{Kind: Absent, Text: fmt.Sprintf("%s; that is the word of %s alone", why, list(names(agree)))}
	}
	missing = append(missing, c.whoIsSilent()...)
	if len(c.nodes) == 0 {
		return c.unconfirmed(why)
	}
	return c.unknown(NotEnough, "%s, it seems, but that is not certain: %s. With --accept-data-loss the word of one qualified node, "+
		"or of the object store, is enough", why, strings.Join(missing, "; "))
}

// unconfirmed is all that the store can say by itself: a node may have followed a promotion, or a seal, that never got there.
func (c *chooser) unconfirmed(why string) Decision {
	d := c.unknown(NotEnough, "%s, it seems, but %s alone cannot be certain: the nodes may know more. For a copy of a timeline that lives on: "+
		"wal-fetch --copy. If the nodes and their disks are gone for good: --accept-data-loss, which takes its word", why, c.store.From)
	d.Agrees = true
	return d
}

// missing says what "it does not exist" still needs, where so many qualified nodes say so.
func (c *chooser) missing(agree int) []string {
	var m []string
	switch need := c.quorum.Required; {
	case need <= 0:
		m = append(m, "nobody knows how many nodes would have to say so, because synchronous_standby_names is or was \"*\"")
	case agree < need:
		m = append(m, fmt.Sprintf("%d qualified nodes have to say so, and %d did", need, agree))
	}
	if c.store != nil && c.store.Err != nil {
		m = append(m, c.store.From+" has to say so")
	}
	return m
}

// notHeld explains why a segment that does exist cannot be had.
func (c *chooser) notHeld(f File) Decision {
	answered := c.answered()
	start := lowest(answered, func(a Answer) pg.LSN { return a.StartLSN })
	oldest := lowest(answered, func(a Answer) pg.LSN { return a.OldestLSN })
	switch silent := c.silent(); {
	case len(silent) > 0:
		return c.unknown(NotHeld, "%s", c.whoHasNot())
	case f.Start() < start:
		return c.unknown(BelowStart, "the WAL that is kept of %s begins at %s: take a newer base backup", c.req.Timeline, start)
	case f.Start() < oldest:
		return c.unknown(Removed, "it was removed, what is left of %s begins at %s: take a newer base backup", c.req.Timeline, oldest)
	case c.storeAlone():
		return c.notInStore(f)
	}
	return c.unknown(NotHeld, "%s", c.whoHasNot())
}

// lowest returns the lowest LSN that anybody knows; zero if nobody does.
func lowest(answers []Answer, lsn func(Answer) pg.LSN) pg.LSN {
	var low pg.LSN
	for _, a := range answers {
		if at := lsn(a); at != 0 && (low == 0 || at < low) {
			low = at
		}
	}
	return low
}

// whoHasNot names those who answered and do not have it, and those who did not answer.
func (c *chooser) whoHasNot() string {
	said := c.whoIsSilent()
	if answered := names(c.answered()); len(answered) > 0 {
		said = slices.Insert(said, 0, "it is not on "+list(answered))
	}
	if len(said) == 0 {
		return "there is nobody to ask"
	}
	return strings.Join(said, "; ")
}

func (c *chooser) whoIsSilent() []string {
	var said []string
	for _, a := range c.silent() {
		said = append(said, fmt.Sprintf("%s could not be asked: %v", a.From, a.Err))
	}
	return said
}
