package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/sluicewal/sluice/internal/pg"
)

// divergedDir is where WAL is kept that a followed TLI left behind.
const divergedDir = "diverged"

// Diverged is WAL of a TLI above the point where the TLI that was followed left it. Its records from From to To may hold
// commits that were acknowledged and that the new primary does not have.
type Diverged struct {
	TLI  pg.TLI `json:"tli"`
	From pg.LSN `json:"from"` // the fork
	To   pg.LSN `json:"to"`   // end of the last complete record
	Path string `json:"path"` // of the directory with the segments, from the one that holds From on, whole
}

// A directory's name says all about what is in it, so that no other file has to.
const divergedFormat = "%08X-%016X-%016X"

func (d disk) listDiverged() ([]Diverged, error) {
	infos, err := d.fs.ReadDir(d.path(divergedDir))
	if err != nil {
		return nil, fmt.Errorf("read directory of diverged WAL: %w", err)
	}
	var all []Diverged
	for _, i := range infos {
		var tli uint32
		var from, to uint64
		if _, err := fmt.Sscanf(i.Name(), divergedFormat, &tli, &from, &to); err == nil && i.IsDir() {
			all = append(all, d.divergedAt(pg.TLI(tli), pg.LSN(from), pg.LSN(to)))
		}
	}
	return all, nil
}

func (d disk) divergedAt(tli pg.TLI, from, to pg.LSN) Diverged {
	name := fmt.Sprintf(divergedFormat, uint32(tli), uint64(from), uint64(to))
	return Diverged{TLI: tli, From: from, To: to, Path: d.path(filepath.Join(divergedDir, name))}
}

// keepAside gives the segments that hold WAL above the fork a second name elsewhere, before they lose their first. A switch that
// was cut short goes on with the directory that it began with: by then there may be less here than its name says.
func (d disk) keepAside(s *survey, g lineage, fork, end pg.LSN) error {
	tli := g.history.TLI
	kept := d.divergedAt(tli, fork, end)
	if i := slices.IndexFunc(s.diverged, func(k Diverged) bool { return k.TLI == tli && k.From == fork }); i >= 0 {
		kept = s.diverged[i]
	}
	if err := d.fs.MkdirAll(kept.Path); err != nil {
		return fmt.Errorf("keep diverged WAL: %w", err)
	}
	have, err := disk{fs: d.fs, dir: kept.Path, size: d.size}.survey()
	if err != nil {
		return fmt.Errorf("keep diverged WAL: %w", err)
	}
	first := d.size.SegNo(fork)
	for _, i := range sorted(g.segments, func(i SegmentInfo) bool { return i.TLI == tli && i.SegNo >= first }) {
		if _, done := have.segments[i.id()]; done {
			continue
		}
		err := d.fs.Link(d.path(i.Name), filepath.Join(kept.Path, i.Name))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("keep diverged WAL: %w", err)
		}
	}
	if err := d.fs.SyncDir(kept.Path); err != nil {
		return fmt.Errorf("keep diverged WAL: %w", err)
	}
	return nil
}

// divergedBytes adds up what is kept aside.
func (d disk) divergedBytes(all []Diverged) (int64, error) {
	total := int64(0)
	for _, k := range all {
		infos, err := d.fs.ReadDir(k.Path)
		if err != nil {
			return 0, fmt.Errorf("read directory of diverged WAL: %w", err)
		}
		for _, i := range infos {
			total += i.Size()
		}
	}
	return total, nil
}
