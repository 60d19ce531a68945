package wal

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sluicewal/sluice/internal/pg"
)

// loaded is a directory that is ready to be appended to.
type loaded struct {
	history pg.History
	point   point
	walker  *pg.Walker // at point.end
	open    File       // the segment that holds point.end, if it has bytes below it; else nil
	survey  *survey    // of the files as they are now
}

// load makes a directory ready. It goes through the same steps after a clean close, a crash, a failed sync and a change of
// TLI: finish what was interrupted, find the end, and write anew what is not trusted. A crash or an error at any point
// leaves a directory for which the next load comes to the same end or, where v is exact no more, to one above it.
//
// If exact, the end is v's, and all below it is known to be durable. If also v is clean, the open segment's file is trusted.
func (d disk) load(v Vouched, exact bool) (*loaded, error) {
	s, g, err := d.look(v)
	if err != nil {
		return nil, err
	}
	if parent, unfinished := s.leaving(g.history, v); unfinished {
		fork, err := d.finishSwitch(s, g, parent, v)
		if err != nil {
			return nil, fmt.Errorf("switch to TLI %d: %w", g.history.TLI, err)
		}
		v, exact = Vouched{Position: fork, RecordEnd: fork.LSN, Clean: true}, true
		if s, g, err = d.look(v); err != nil {
			return nil, err
		}
	}
	if v.Position.IsZero() && len(s.segments) == 0 {
		return &loaded{survey: s}, d.removeTemps(s)
	}
	if exact && v.Clean {
		exact = !g.goesBeyond(v.Position.LSN)
	}
	f, err := d.find(g, v, exact)
	if err != nil {
		return nil, err
	}
	return d.ready(s, g, f, exact && v.Clean)
}

// look reads the names, and the newest history.
func (d disk) look(v Vouched) (*survey, lineage, error) {
	s, err := d.survey()
	if err != nil {
		return nil, lineage{}, err
	}
	h, err := d.readHistory(s, s.newest(v.Position.TLI))
	if err != nil {
		return nil, lineage{}, err
	}
	if tli := v.Position.TLI; tli != 0 && tli != h.TLI {
		if _, passed := h.End(tli); !passed {
			return nil, lineage{}, d.conflict(h, v)
		}
	}
	return s, lineage{segments: s.segments, history: h, size: d.size}, nil
}

// goesBeyond reports whether there are segments that begin at lsn or above.
func (g lineage) goesBeyond(lsn pg.LSN) bool {
	for id := range g.segments {
		if id.tli == g.history.TLI && g.size.Start(id.n) >= lsn {
			return true
		}
	}
	return false
}

// ready settles the files and opens the last one.
func (d disk) ready(s *survey, g lineage, f found, trusted bool) (*loaded, error) {
	if err := d.removeTemps(s); err != nil {
		return nil, err
	}
	if err := d.settle(g, f, trusted); err != nil {
		return nil, err
	}
	if !trusted {
		// A process that was killed may have given a segment its names and not synced them.
		if err := d.fs.SyncDir(d.dir); err != nil {
			return nil, fmt.Errorf("sync the segments' names: %w", err)
		}
	}
	l := &loaded{history: g.history, walker: f.from}
	l.point = point{end: f.end, recordEnd: f.from.RecordEnd(), lastRecord: f.from.LastRecord()}
	var err error
	if l.survey, err = d.survey(); err != nil {
		return nil, err
	}
	if d.size.Offset(f.end) != 0 {
		id := segmentID{g.history.TLI, d.size.SegNo(f.end)}
		if l.open, err = d.fs.OpenRW(d.path(d.partialName(id))); err != nil {
			return nil, fmt.Errorf("open the last segment: %w", err)
		}
	}
	return l, nil
}

// settle makes the files agree with what was found: whole segments have their final names, the last one ends at f.end with zeros
// behind it, nothing lies beyond. f.from goes along to f.end. What is not trusted is copied.
func (d disk) settle(g lineage, f found, trusted bool) error {
	for n := f.first; d.size.Start(n) < f.end; n++ {
		info, found := g.file(n)
		if !found {
			return fmt.Errorf("segment %s: %w", d.name(segmentID{g.history.TLI, n}), errGone)
		}
		if err := d.settleSegment(g, info, min(f.end, d.size.Start(n+1)), f.from, trusted); err != nil {
			return err
		}
	}
	return d.removeFrom(g, f.end)
}

var errGone = errors.New("it went away while the directory was read")

func (d disk) settleSegment(g lineage, info SegmentInfo, upto pg.LSN, w *pg.Walker, trusted bool) error {
	whole := d.size.Offset(upto) == 0
	sound := info.SizeBytes == int64(d.size) && info.Partial != whole
	if sound && (whole || trusted) {
		return d.walkTo(info, w, upto)
	}
	return d.copySegment(info, segmentID{g.history.TLI, info.SegNo}, upto, w)
}

// walkTo goes through a file that was seen to be valid.
func (d disk) walkTo(info SegmentInfo, w *pg.Walker, upto pg.LSN) error {
	if err := d.walkFile(info, w, upto); err != nil {
		return err
	}
	if w.Position() != upto {
		return fmt.Errorf("segment %s: %w", info.Name, errGone)
	}
	return nil
}

// leaving returns the TLI that a switch was leaving when it was cut short: the newest history is there, and nothing of its TLI.
func (s *survey) leaving(h pg.History, v Vouched) (pg.TLI, bool) {
	if v.Position.TLI == h.TLI || len(s.of(h.TLI)) > 0 {
		return 0, false
	}
	for _, fork := range slices.Backward(h.Forks) {
		if len(s.of(fork.TLI)) > 0 || v.Position.TLI == fork.TLI {
			return fork.TLI, true
		}
	}
	return 0, false
}
