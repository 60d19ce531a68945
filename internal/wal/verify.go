package wal

import (
	"errors"
	"fmt"
	"maps"

	"github.com/sluicewal/sluice/internal/pg"
)

// VerifySegment reads a segment and checks all records in it that lie below upto, which is not above what is durable. It
// looks at the segments around it for the records that go over its borders. The error wraps a [*pg.RecordError] where the
// segment is damaged; fs.ErrNotExist if there is none.
func (l *Log) VerifySegment(tli pg.TLI, n pg.SegNo, upto pg.LSN) error {
	l.mu.Lock()
	g := lineage{segments: maps.Clone(l.files), history: l.tip.Load().history, size: l.size}
	l.mu.Unlock()
	return l.verifySegment(g, segmentID{tli, n}, upto)
}

func (d disk) verifySegment(g lineage, id segmentID, upto pg.LSN) error {
	// The file is asked for by its own TLI: in the lineage that ends with it, it is what holds the segment.
	g = g.ancestor(id.tli)
	if g.history.TLI != id.tli {
		g.history = pg.History{TLI: id.tli}
	}
	if err := d.verifyWalk(g, id.n, upto); err != nil {
		return fmt.Errorf("verify segment %s: %w", d.name(id), err)
	}
	return nil
}

func (d disk) verifyWalk(g lineage, n pg.SegNo, upto pg.LSN) error {
	f, err := d.open(segmentID{g.history.TLI, n})
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	start, limit := d.size.Start(n), min(upto, d.size.Start(n+1))
	if limit <= start {
		return nil
	}
	w, err := d.approach(g, n)
	if err != nil || w.Position() != start {
		w.Reset(start, 0) // what is before is damaged or gone; that is not this segment's fault
	}
	if err := d.walk(g, w, limit); err != nil {
		return err
	}
	if w.Position() != limit {
		return &pg.RecordError{LSN: w.Position(), Reason: "the file ends here"}
	}
	return d.verifyRest(g, w, limit, upto)
}

// verifyRest goes on to the end of the record that is in progress at the segment's end, as far as it is there: its checksum
// covers bytes of both.
func (d disk) verifyRest(g lineage, w *pg.Walker, limit, upto pg.LSN) error {
	for w.InRecord() && w.RecordEnd() <= limit && w.Position() < upto {
		at := w.Position()
		err := d.walk(g, w, min(upto, at+chunkBytes))
		var bad *pg.RecordError
		if errors.As(err, &bad) && bad.LSN >= limit {
			return nil // the next segment's fault
		}
		if err != nil && !isNotExist(err) {
			return err
		}
		if w.Position() == at {
			return nil
		}
	}
	return nil
}
