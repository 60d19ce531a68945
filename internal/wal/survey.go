package wal

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// disk is one directory of WAL files. Its methods hold no state and take no lock.
type disk struct {
	fs   FS
	dir  string
	size pg.SegmentSize
}

func (d disk) path(name string) string { return filepath.Join(d.dir, name) }

// segmentID says which segment of which TLI; there may be one for each of two TLIs where they part.
type segmentID struct {
	tli pg.TLI
	n   pg.SegNo
}

func (d disk) name(id segmentID) string        { return pg.SegmentName(id.tli, id.n, d.size) }
func (d disk) partialName(id segmentID) string { return d.name(id) + pg.PartialSuffix }

// SegmentInfo describes a segment's file.
type SegmentInfo struct {
	Name      string // of the file, with ".partial" if it has that
	TLI       pg.TLI
	SegNo     pg.SegNo
	Partial   bool // not complete, or of a TLI that ended in it
	SizeBytes int64
	Whole     time.Time // since when the segment is; of one that an earlier process wrote, when its file was last written to
}

func (s SegmentInfo) id() segmentID { return segmentID{s.TLI, s.SegNo} }

// survey is what the names in a directory say, and the sizes.
type survey struct {
	segments  map[segmentID]SegmentInfo
	histories []pg.TLI // oldest first
	temps     []string // left by a crash
	foreign   []string // nothing that we made: left alone
	diverged  []Diverged
}

func (d disk) survey() (*survey, error) {
	infos, err := d.fs.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("read WAL directory: %w", err)
	}
	s := &survey{segments: map[segmentID]SegmentInfo{}}
	for _, i := range infos {
		if i.IsDir() && i.Name() == divergedDir {
			if s.diverged, err = d.listDiverged(); err != nil {
				return nil, err
			}
			continue
		}
		d.sort(s, i)
	}
	return s, nil
}

// sort puts one file where its name says. Files come sorted by name: a complete segment before a partial one of the same
// number, which we never leave side by side.
func (d disk) sort(s *survey, i fs.FileInfo) {
	name := i.Name()
	if !i.Mode().IsRegular() {
		s.foreign = append(s.foreign, name)
		return
	}
	if strings.HasSuffix(name, tempSuffix) {
		s.temps = append(s.temps, name)
		return
	}
	if tli, err := pg.ParseHistoryName(name); err == nil {
		s.histories = append(s.histories, tli)
		return
	}
	plain, partial := strings.CutSuffix(name, pg.PartialSuffix)
	tli, n, err := pg.ParseSegmentName(plain, d.size)
	id := segmentID{tli, n}
	if _, taken := s.segments[id]; err != nil || taken {
		s.foreign = append(s.foreign, name)
		return
	}
	s.segments[id] = SegmentInfo{Name: name, TLI: tli, SegNo: n, Partial: partial, SizeBytes: i.Size(), Whole: i.ModTime()}
}

// newest returns the highest TLI that the directory or the control file knows; zero: none.
func (s *survey) newest(vouched pg.TLI) pg.TLI {
	newest := vouched
	for id := range s.segments {
		newest = max(newest, id.tli)
	}
	for _, tli := range s.histories {
		newest = max(newest, tli)
	}
	return newest
}

// of returns the segments of one TLI, lowest first.
func (s *survey) of(tli pg.TLI) []SegmentInfo {
	return sorted(s.segments, func(i SegmentInfo) bool { return i.TLI == tli })
}

// sorted returns the segments that match, by number and then by TLI.
func sorted(segments map[segmentID]SegmentInfo, match func(SegmentInfo) bool) []SegmentInfo {
	infos := slices.DeleteFunc(slices.Collect(maps.Values(segments)), func(i SegmentInfo) bool { return !match(i) })
	slices.SortFunc(infos, func(a, b SegmentInfo) int {
		return cmp.Or(cmp.Compare(a.SegNo, b.SegNo), cmp.Compare(a.TLI, b.TLI))
	})
	return infos
}

// historyMaxBytes bounds what is read as a history; a promotion adds less than a hundred bytes.
const historyMaxBytes = 1 << 20

// readHistory returns the history of tli. TLI 1 has no file, and a log that began on a later one may lack it.
func (d disk) readHistory(s *survey, tli pg.TLI) (pg.History, error) {
	if !slices.Contains(s.histories, tli) {
		return pg.History{TLI: tli}, nil
	}
	name := pg.HistoryName(tli)
	raw, err := ReadFile(d.fs, d.path(name), historyMaxBytes)
	if err != nil {
		return pg.History{}, fmt.Errorf("read history: %w", err)
	}
	h, err := pg.ParseHistory(tli, raw)
	if err != nil {
		return pg.History{}, fmt.Errorf("%s: %w", d.path(name), err)
	}
	return h, nil
}

// lineage is the WAL along one history: which file holds which segment.
type lineage struct {
	segments map[segmentID]SegmentInfo
	history  pg.History
	size     pg.SegmentSize
}

// file returns the file of segment n. Where the history changes TLIs inside the segment, that is the later TLI's, which
// begins with the earlier one's bytes.
func (g lineage) file(n pg.SegNo) (SegmentInfo, bool) {
	last := g.size.Start(n+1) - 1
	info, found := g.segments[segmentID{g.history.At(last), n}]
	return info, found
}

// ancestor returns the lineage of an older TLI of the same history.
func (g lineage) ancestor(tli pg.TLI) lineage {
	i := slices.IndexFunc(g.history.Forks, func(f pg.Fork) bool { return f.TLI == tli })
	if i >= 0 {
		g.history = pg.History{TLI: tli, Forks: g.history.Forks[:i]}
	}
	return g
}
