package wal

import (
	"errors"
	"fmt"

	"github.com/sluicewal/sluice/internal/pg"
)

// Vouched is what is known from elsewhere about what a directory holds: the control file's words. The zero value: nothing.
type Vouched struct {
	// Position was made durable by a finished sync, or, of a log that holds nothing yet, is where it begins.
	Position pg.Position
	// RecordEnd is the end of the last complete record below Position; zero: not known, so that all of Position is
	// insisted on. What lies above it is half a record, which a source may take back: its absence is no damage.
	RecordEnd pg.LSN
	// Start is where the log began. With it, a directory that lost its files is not taken for a new one; zero: not known.
	Start pg.LSN
	// Clean says that the log was closed at Position without an error, and not opened since.
	Clean bool
}

// needs returns how far the WAL must be valid, and how far it should be, by these words alone.
func (v Vouched) needs(tli pg.TLI) (need, want pg.LSN) {
	if v.Position.TLI != tli {
		return 0, 0
	}
	if v.RecordEnd == 0 || v.RecordEnd > v.Position.LSN {
		return v.Position.LSN, v.Position.LSN
	}
	return v.RecordEnd, v.Position.LSN
}

// found is where a TLI's WAL ends on disk. Finding it changes nothing.
type found struct {
	end   pg.LSN
	first pg.SegNo   // segments from here on may have to be settled
	from  *pg.Walker // at the start of first
	at    *pg.Walker // knows the record end at end; it may have gone further
}

// find looks for the end of the lineage's newest TLI. What is below the start of the first segment that is not complete, below
// the fork that the TLI begins at, and below what is vouched for was made durable: if the records do not reach so
// far, that is a *DamagedError. From there on the end is the last record's, unless exact: then it is what was vouched for. Zeros
// are no sign of an end: pg_switch_wal leaves them too.
func (d disk) find(g lineage, v Vouched, exact bool) (found, error) {
	need, want := d.bounds(g, v, exact)
	f := found{first: d.size.SegNo(need)}
	if err := d.checkStart(g, v, need); err != nil {
		return f, err
	}
	var err error
	f.from, err = d.approach(g, f.first)
	if err := d.mustReach(g, need, f.from, d.size.Start(f.first), err); err != nil {
		return f, err
	}
	f.at = f.from.Clone()
	if err := d.mustReach(g, need, f.at, need, d.walk(g, f.at, need)); err != nil {
		return f, err
	}
	f.end = need
	return f, d.findOn(g, &f, want, exact)
}

// findOn looks beyond what must be there.
func (d disk) findOn(g lineage, f *found, want pg.LSN, exact bool) error {
	w := f.at.Clone()
	err := d.walk(g, w, want)
	if err != nil && !isRecordError(err) {
		return err
	}
	if err == nil && w.Position() == want {
		f.end, f.at = want, w.Clone()
	}
	if err == nil && !exact {
		if err := d.walk(g, w, forever); err != nil && !isRecordError(err) {
			return err
		}
	}
	if end := w.RecordEnd(); end > f.end && (!exact || f.end < want) {
		f.end, f.at = end, w
	}
	return nil
}

// bounds returns how far the WAL of the lineage's newest TLI must be valid, and how far it should be. A final name means that
// the segment was synced first; but if exact, the name itself may be what could not be synced.
func (d disk) bounds(g lineage, v Vouched, exact bool) (need, want pg.LSN) {
	tli := g.history.TLI
	need, want = v.needs(tli)
	own := sorted(g.segments, func(i SegmentInfo) bool { return i.TLI == tli })
	fork, forked := g.history.Parent()
	later := len(own) > 0 && d.size.Start(own[0].SegNo) > fork.LSN // the log began above the fork
	below := v.Position.TLI == tli && v.Position.LSN < fork.LSN    // or on this TLI, in the segment with the fork
	if forked && !later && !below {
		need = max(need, fork.LSN)
	}
	for _, i := range own {
		if !i.Partial && !exact {
			need = max(need, d.size.Start(i.SegNo+1))
		}
	}
	if need == 0 && len(own) > 0 {
		need = d.size.Start(own[0].SegNo) // nothing says where the log began, but that it did
	}
	return need, max(need, want)
}

// checkStart finds what no walk can: files that are gone where there is none to walk, and a hole above what is vouched for.
func (d disk) checkStart(g lineage, v Vouched, need pg.LSN) error {
	n := d.size.SegNo(need)
	lowest := g.lowest(n)
	gone := lowest == n && !g.has(n) && v.Start != 0 && need > v.Start
	hole := v.Position.LSN != 0 && d.size.SegNo(v.Position.LSN) < lowest
	if gone || hole {
		return d.damaged(g, need, min(v.Position.LSN, need), nil)
	}
	return nil
}

// mustReach turns what a walk came to into an error, unless it came to lsn.
func (d disk) mustReach(g lineage, need pg.LSN, w *pg.Walker, lsn pg.LSN, err error) error {
	if err != nil && !isRecordError(err) {
		return err
	}
	if err == nil && w.Position() == lsn {
		return nil
	}
	return d.damaged(g, need, w.Position(), err)
}

func (d disk) damaged(g lineage, need, valid pg.LSN, err error) error {
	var bad *pg.RecordError
	if errors.As(err, &bad) {
		valid = bad.LSN
	}
	return &DamagedError{
		Dir: d.dir, Err: err,
		Valid:   pg.Position{TLI: g.history.At(valid), LSN: valid},
		Vouched: pg.Position{TLI: g.history.TLI, LSN: need},
	}
}

func isRecordError(err error) bool {
	var bad *pg.RecordError
	return errors.As(err, &bad)
}

// conflict is the error for a directory whose newest history does not pass the TLI that was vouched for.
func (d disk) conflict(h pg.History, v Vouched) error {
	return &DamagedError{
		Dir: d.dir, Valid: pg.Position{TLI: h.TLI}, Vouched: v.Position,
		Err: fmt.Errorf("%s does not contain TLI %d", pg.HistoryName(h.TLI), v.Position.TLI),
	}
}
