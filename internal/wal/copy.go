package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/sluicewal/sluice/internal/pg"
)

// zeros is what a new segment is filled with, so many bytes at once.
var zeros [1 << 20]byte

// create makes a segment full of zeros under a temporary name, durable but for the name. Filled, not only made long: a sync of
// what is later written into it then has no allocation to journal. One that is hurried is filled with WAL before that
// matters. When it fails, nothing stays.
func (d disk) create(temp string, hurried bool) error {
	err := d.createZero(temp, hurried)
	if err != nil {
		return errors.Join(fmt.Errorf("make segment: %w", err), removeIfThere(d.fs, d.path(temp)))
	}
	return nil
}

func (d disk) createZero(temp string, hurried bool) (err error) {
	f, err := d.fs.Create(d.path(temp))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if hurried {
		err = f.Allocate(int64(d.size))
	}
	if !hurried || errors.Is(err, errors.ErrUnsupported) {
		err = d.fill(f, 0)
	}
	if err != nil {
		return err
	}
	return f.Sync()
}

// fill writes zeros from an offset to the segment's end.
func (d disk) fill(f File, off int64) error {
	for off < int64(d.size) {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), int64(d.size)-off)], off)
		if err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// rename changes a name, durably.
func (d disk) rename(from, to string) error {
	if err := d.fs.Rename(d.path(from), d.path(to)); err != nil {
		return err
	}
	return d.fs.SyncDir(d.dir)
}

// copySegment makes a new file of what src holds below upto, with zeros above, and gives it dst's name: a file that a failed
// sync may have hollowed out is not written to again, and bytes that no longer count are gone. The walker stands at the
// segment's start, and goes through what is copied: it is that which is verified, and not what another read once gave.
func (d disk) copySegment(src SegmentInfo, dst segmentID, upto pg.LSN, w *pg.Walker) error {
	temp := d.name(dst) + tempSuffix
	err := d.writeCopy(src, temp, upto, w)
	if err == nil {
		err = d.placeCopy(src, temp, dst, upto)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("copy segment %s: %w", src.Name, err), removeIfThere(d.fs, d.path(temp)))
	}
	return nil
}

func (d disk) writeCopy(src SegmentInfo, temp string, upto pg.LSN, w *pg.Walker) (err error) {
	in, err := d.open(src.id())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := d.fs.Create(d.path(temp))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := d.copyBytes(in, out, d.size.Start(src.SegNo), upto, w); err != nil {
		return err
	}
	if err := d.fill(out, int64(upto-d.size.Start(src.SegNo))); err != nil {
		return err
	}
	return out.Sync()
}

// copyBytes copies WAL. A file that ends early goes on with zeros, which the walker accepts only where they belong.
func (d disk) copyBytes(in io.ReaderAt, out io.WriterAt, start, upto pg.LSN, w *pg.Walker) error {
	b := make([]byte, min(chunkBytes, upto-start))
	for at := start; at < upto; at += pg.LSN(len(b)) {
		b = b[:min(pg.LSN(len(b)), upto-at)]
		n, err := in.ReadAt(b, int64(at-start))
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		clear(b[n:])
		if err := w.Write(b); err != nil {
			return err
		}
		if _, err := out.WriteAt(b, int64(at-start)); err != nil {
			return err
		}
	}
	return nil
}

// placeCopy takes the steps from the old file to the new one. A segment is never there under both of its names.
func (d disk) placeCopy(src SegmentInfo, temp string, dst segmentID, upto pg.LSN) error {
	partial, name := d.partialName(dst), d.name(dst)
	if src.id() == dst && !src.Partial {
		if err := d.fs.Rename(d.path(name), d.path(partial)); err != nil {
			return err
		}
	}
	if err := d.rename(temp, partial); err != nil {
		return err
	}
	if d.size.Offset(upto) != 0 {
		return nil
	}
	return d.rename(partial, name)
}

// removeFrom removes the segments of a TLI that begin at lsn or above: highest first, so that a crash leaves no hole.
func (d disk) removeFrom(g lineage, lsn pg.LSN) error {
	tli := g.history.TLI
	above := sorted(g.segments, func(i SegmentInfo) bool { return i.TLI == tli && d.size.Start(i.SegNo) >= lsn })
	for i := len(above) - 1; i >= 0; i-- {
		if err := removeIfThere(d.fs, d.path(above[i].Name)); err != nil {
			return fmt.Errorf("remove what is beyond the end: %w", err)
		}
		if err := d.fs.SyncDir(d.dir); err != nil {
			return fmt.Errorf("remove what is beyond the end: %w", err)
		}
	}
	return nil
}

func (d disk) removeTemps(s *survey) error {
	for _, name := range s.temps {
		if err := removeIfThere(d.fs, d.path(name)); err != nil {
			return fmt.Errorf("remove what a crash left: %w", err)
		}
	}
	return nil
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
