package restore

import (
	"fmt"
	"strings"

	"github.com/sluicewal/sluice/internal/pg"
)

// File is one file of the WAL archive: a segment or a TLI's history.
type File struct {
	TLI     pg.TLI
	History bool // the rest is not set then
	SegNo   pg.SegNo
	Size    pg.SegmentSize
}

// ParseFile reads the name that PostgreSQL gives as %f. Backup labels, .partial files and the like are errors: nothing is
// known about them here.
func ParseFile(name string, size pg.SegmentSize) (File, error) {
	if strings.HasSuffix(name, ".history") {
		tli, err := pg.ParseHistoryName(name)
		return File{TLI: tli, History: true}, err
	}
	if !size.Valid() {
		return File{}, fmt.Errorf("segment %s: how long segments are is not known yet", name)
	}
	tli, segno, err := pg.ParseSegmentName(name, size)
	return File{TLI: tli, SegNo: segno, Size: size}, err
}

// Name returns the file's name, as PostgreSQL has it.
func (f File) Name() string {
	if f.History {
		return pg.HistoryName(f.TLI)
	}
	return pg.SegmentName(f.TLI, f.SegNo, f.Size)
}

// Start returns the LSN of a segment's first byte.
func (f File) Start() pg.LSN { return f.Size.Start(f.SegNo) }

// End returns the LSN behind a segment's last byte.
func (f File) End() pg.LSN { return f.Size.Start(f.SegNo + 1) }

// on returns the segment with the same number on another TLI.
func (f File) on(tli pg.TLI) File {
	f.TLI = tli
	return f
}
