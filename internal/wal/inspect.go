package wal

import (
	"fmt"
	"io/fs"

	"github.com/sluicewal/sluice/internal/pg"
)

// Inspection is what a directory holds that nobody is using, a dead node's for instance. Nothing in it is changed.
type Inspection struct {
	Position  pg.Position // where [Open] would go on; zero: the directory is empty
	RecordEnd pg.LSN      // of the last complete record; zero: none is known
	Segments  []SegmentInfo
	Histories []pg.TLI // oldest first
	Diverged  []Diverged
	Foreign   []string // names of files that are no WAL

	disk    disk
	lineage lineage
}

// Inspect finds out what a directory holds, without changing it; fsys may be nil. The error is a [*DamagedError] as from [Open].
func Inspect(fsys FS, dir string, size pg.SegmentSize, v Vouched) (*Inspection, error) {
	if !size.Valid() {
		return nil, fmt.Errorf("inspect WAL in %s: invalid segment size %d", dir, size)
	}
	if fsys == nil {
		fsys = OSFS{}
	}
	d := disk{fs: fsys, dir: dir, size: size}
	i, err := d.inspect(v)
	if err != nil {
		return nil, fmt.Errorf("inspect WAL in %s: %w", dir, err)
	}
	return i, nil
}

func (d disk) inspect(v Vouched) (*Inspection, error) {
	s, g, err := d.look(v)
	if err != nil {
		return nil, err
	}
	i := &Inspection{
		Segments:  sorted(s.segments, func(SegmentInfo) bool { return true }),
		Histories: s.histories, Diverged: s.diverged, Foreign: s.foreign, disk: d, lineage: g,
	}
	if v.Position.IsZero() && len(s.segments) == 0 {
		return i, nil
	}
	if parent, unfinished := s.leaving(g.history, v); unfinished {
		return i, d.inspectSwitch(i, g, parent)
	}
	f, err := d.find(g, v, v.Clean && !g.goesBeyond(v.Position.LSN))
	if err != nil {
		return nil, err
	}
	i.Position, i.RecordEnd = pg.Position{TLI: g.history.TLI, LSN: f.end}, f.at.RecordEnd()
	return i, nil
}

// inspectSwitch tells where a switch that was cut short would end.
func (d disk) inspectSwitch(i *Inspection, g lineage, parent pg.TLI) error {
	fork, _ := g.history.End(parent)
	end, err := d.findParent(g.ancestor(parent), fork)
	if err != nil {
		return err
	}
	i.Position, i.RecordEnd = pg.Position{TLI: g.history.TLI, LSN: fork}, min(end, fork)
	return nil
}

// OpenSegment is [Log.OpenSegment].
func (i *Inspection) OpenSegment(tli pg.TLI, n pg.SegNo) (*SegmentReader, error) {
	id := segmentID{tli, n}
	info, found := i.lineage.segments[id]
	if !found {
		return nil, fmt.Errorf("open segment %s: %w", i.disk.name(id), fs.ErrNotExist)
	}
	f, err := i.disk.open(id)
	if err != nil {
		return nil, fmt.Errorf("open segment %s: %w", info.Name, err)
	}
	end := durableEnd(i.lineage.history, i.Position.LSN, id, i.disk.size)
	return &SegmentReader{
		info: info, file: f, start: i.disk.size.Start(n),
		durable: func() pg.LSN { return end }, release: func() {},
	}, nil
}

// VerifySegment is [Log.VerifySegment].
func (i *Inspection) VerifySegment(tli pg.TLI, n pg.SegNo, upto pg.LSN) error {
	return i.disk.verifySegment(i.lineage, segmentID{tli, n}, upto)
}

// History is [Log.History].
func (i *Inspection) History(tli pg.TLI) ([]byte, error) { return i.disk.history(tli) }
