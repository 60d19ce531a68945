package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/restore"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
)

// place answers for one timeline on one node, running or dead.
type place struct {
	name    string
	control *timeline.Control
	held    held
}

// held is WAL on disk: a log that is open, or a directory that nobody uses.
type held struct {
	position    pg.Position // raw end of what is durable
	recordEnd   pg.LSN      // the last complete record's, of what is durable
	commit      pg.LSN      // of which so much is on enough nodes
	segments    []wal.SegmentInfo
	openSegment func(pg.TLI, pg.SegNo) (*wal.SegmentReader, error)
	history     func(pg.TLI) ([]byte, error)
}

// heldBy tells what an open log holds, of which so much is committed.
func heldBy(l *wal.Log, commit pg.LSN) held {
	s := l.Stats()
	return held{
		position: s.Flush, recordEnd: s.CommitEnd, commit: min(s.CommitEnd, commit), segments: l.Segments(),
		openSegment: l.OpenSegment, history: l.History,
	}
}

// Offline is a timeline in the data directory of a node that does not run.
// Nothing is changed.
type Offline struct {
	restore.Place
	Control  timeline.Control
	Position pg.Position // raw end
	// RecordEnd is the end of the last complete record; 0 if there is none.
	RecordEnd pg.LSN
}

// OpenOffline looks into a data directory. It is ErrNoTimeline when the
// directory has no such timeline, and wraps the reason when it is damaged.
func OpenOffline(fsys wal.FS, dataDir string, id timeline.ID) (*Offline, error) {
	c, err := timeline.LoadControl(fsys, timeline.Dir(dataDir, id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("timeline %s in %s: %w", id, dataDir, ErrNoTimeline)
	}
	if err != nil {
		return nil, err
	}
	o := &Offline{Control: c}
	h := held{}
	if c.SystemID != 0 {
		i, err := wal.Inspect(fsys, timeline.WALDir(dataDir, id), c.SegmentSize, c.Vouched())
		if err != nil {
			return nil, err
		}
		h = held{
			position: i.Position, recordEnd: i.RecordEnd, commit: c.CommitOf(i.Position.TLI, i.RecordEnd), segments: i.Segments,
			openSegment: i.OpenSegment, history: i.History,
		}
	}
	o.Position, o.RecordEnd = h.position, h.recordEnd
	o.Place = place{name: filepath.Clean(dataDir), control: &o.Control, held: h}
	return o, nil
}

// Answer implements restore.Place.
func (p place) Answer(_ context.Context, f restore.File) restore.Answer {
	a := restore.Answer{From: p.name}
	if p.control.SystemID == 0 {
		return a
	}
	if err := p.fill(&a, f); err != nil {
		return restore.Answer{From: p.name, Err: err}
	}
	return a
}

func (p place) fill(a *restore.Answer, f restore.File) error {
	var err error
	if a.History, err = p.newest(); err != nil {
		return err
	}
	a.SystemID, a.CommitLSN = p.control.SystemID, p.held.commit
	a.Qualified = p.control.QualifiedAt(p.held.position)
	a.StartLSN, a.OldestLSN = p.control.Start.LSN, oldest(p.held.segments, p.held.position.LSN, p.control.SegmentSize)
	a.Seals = map[pg.TLI]pg.LSN{}
	for _, s := range p.control.Seals {
		a.Seals[s.TLI] = s.End
	}
	if f.History {
		a.HasHistory, err = p.hasHistory(f.TLI)
		return err
	}
	a.Segments, err = p.durable(f.SegNo)
	return err
}

// newest returns the history of the newest TLI.
func (p place) newest() (pg.History, error) {
	tli := p.held.position.TLI
	if tli <= 1 {
		return pg.History{TLI: tli}, nil
	}
	raw, err := p.held.history(tli)
	if err != nil {
		return pg.History{}, err
	}
	return pg.ParseHistory(tli, raw)
}

func (p place) hasHistory(tli pg.TLI) (bool, error) {
	if p.held.history == nil {
		return false, nil
	}
	_, err := p.held.history(tli)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// oldest returns the first LSN that is still held, of WAL that ends at end.
func oldest(segments []wal.SegmentInfo, end pg.LSN, size pg.SegmentSize) pg.LSN {
	first := size.StartOf(end)
	for _, s := range segments {
		first = min(first, size.Start(s.SegNo))
	}
	return first
}

// durable returns how far each TLI's file of a segment can be read.
func (p place) durable(n pg.SegNo) (map[pg.TLI]pg.LSN, error) {
	ends := map[pg.TLI]pg.LSN{}
	for _, s := range p.held.segments {
		if s.SegNo != n {
			continue
		}
		r, err := p.held.openSegment(s.TLI, n)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since it was listed
		}
		if err != nil {
			return nil, err
		}
		ends[s.TLI] = r.Durable()
		if s.TLI == p.held.position.TLI {
			// A switch record ends with its segment, though the zeros behind it may never have come.
			ends[s.TLI] = max(ends[s.TLI], min(p.held.recordEnd, p.control.SegmentSize.Start(n+1)))
		}
		if err := r.Close(); err != nil {
			return nil, err
		}
	}
	return ends, nil
}

// OpenSegment implements restore.Place.
func (p place) OpenSegment(_ context.Context, tli pg.TLI, n pg.SegNo) (restore.Segment, error) {
	if p.held.openSegment == nil {
		return nil, fs.ErrNotExist
	}
	r, err := p.held.openSegment(tli, n)
	if err != nil {
		return nil, err
	}
	return segment{r}, nil
}

// History implements restore.Place.
func (p place) History(_ context.Context, tli pg.TLI) ([]byte, error) {
	if p.held.history == nil {
		return nil, fs.ErrNotExist
	}
	return p.held.history(tli)
}

// segment is a reader of package wal in restore's words.
type segment struct{ *wal.SegmentReader }

// End implements restore.Segment.
func (s segment) End() pg.LSN { return s.Durable() }

// RequiredQuorum tells how many nodes have to agree on what does not exist.
func RequiredQuorum(c timeline.Control, newest pg.TLI) restore.Quorum {
	q := c.QuorumOf(newest)
	if q.Unbounded {
		return restore.Quorum{}
	}
	return restore.Quorum{Required: q.Required}
}
