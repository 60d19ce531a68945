package restore

import "github.com/sluicewal/sluice/internal/pg"

// storeAlone reports whether the object store is all that answers. A node that answers has more than was uploaded, and can be
// sealed; without one nobody can promise anything about a TLI.
func (c *chooser) storeAlone() bool {
	return c.store != nil && c.store.Err == nil && len(c.answered()) == 1
}

// unsealedInStore refuses a tail where no node can be asked to seal it.
func (c *chooser) unsealedInStore(f File) Decision {
	const lossy = "If the nodes and their disks are gone for good: --accept-data-loss takes the segment that was open, too, as it was last " +
		"stored, and gives up what came later"
	if c.commit == 0 {
		return c.unknown(Unsealed, "TLI %d is not sealed in %s, which has no whole segment of it: what was acknowledged is on the nodes. %s",
			f.TLI, c.store.From, lossy)
	}
	return c.unknown(Unsealed, "TLI %d is not sealed in %s, which has whole segments up to %s: what was acknowledged above is on the nodes. "+
		"For a copy that ends there: wal-fetch --copy. %s", f.TLI, c.store.From, c.commit, lossy)
}

// orWhatIsLeft replaces "could not find out" by what the store has, where it is all that is left and the request accepts that:
// of a segment that was never uploaded whole, as much as was stored of it, and if that is nothing, the end. It is for the
// newest TLI alone. A recovery that ended on an older one would begin a TLI whose history contradicts itself.
func (c *chooser) orWhatIsLeft(f File, d Decision) Decision {
	if d.Kind != Unknown || !c.req.AcceptDataLoss || !c.storeAlone() || f.TLI != c.line.TLI || f.Start() < c.store.OldestLSN {
		return d
	}
	limit, begin := f.End(), c.firstByte(f.TLI)
	if end, sealed := c.sealed(); sealed {
		limit = min(limit, end)
	}
	switch held := min(c.store.Segments[f.TLI], limit); {
	case held > f.Start():
		return Decision{Kind: Present, From: []string{c.store.From}, Read: f, UpTo: held, Tail: c.tail(f), Loss: true}
	case begin > f.Start(): // and below its end: the child has nothing, and begins in its parent's segment
		d = c.present(f, begin)
		d.Loss = d.Kind == Present
		return d
	}
	d = c.absent("%s has nothing of it, and what it has of TLI %d ends here", c.store.From, f.TLI)
	if c.commit > f.Start() {
		d = c.absent("%s has nothing of it, though it has WAL up to %s: that is given up", c.store.From, c.commit)
	}
	d.Loss = d.Kind == Absent
	return d
}

// firstByte returns where the line enters a TLI; zero for its first.
func (c *chooser) firstByte(tli pg.TLI) pg.LSN {
	begin, _ := c.begin(tli)
	return begin
}

// notInStore explains why the store, which is all that answers, cannot give a segment that does exist.
func (c *chooser) notInStore(f File) Decision {
	if f.TLI != c.line.TLI {
		return c.unknown(NotHeld, "%s", c.whoHasNot())
	}
	const ways = "Name a node that has it, or its data directory. If they are all gone for good: --accept-data-loss ends the recovery with what " +
		"was stored of it"
	if end, sealed := c.sealed(); sealed {
		return c.unknown(NotHeld, "%s, or not up to where TLI %d was sealed, %s. %s", c.whoHasNot(), f.TLI, end, ways)
	}
	return c.unknown(NotHeld, "%s. %s", c.whoHasNot(), ways)
}
