package backup

import (
	"errors"
	"io"
	"os"
)

const (
	// spoolMemory is how much a spool keeps in memory. Most clusters have segments of 16 MiB.
	spoolMemory = 64 << 20
	// spoolPiece is how much memory it takes at once.
	spoolPiece = 256 << 10
)

// spool keeps bytes between two places: in memory, and what is more in a file without a name. The memory is not used
// again: an HTTP library may still be reading a body whose request was cut.
type spool struct {
	pieces [][]byte // all but the last full; nothing is ever copied to make room
	file   *os.File // nil: all of it is in memory
	size   int64
}

// Write implements io.Writer.
func (s *spool) Write(p []byte) (int, error) {
	if s.file == nil && s.size+int64(len(p)) > spoolMemory {
		if err := s.spill(); err != nil {
			return 0, err
		}
	}
	if s.file == nil {
		s.keep(p)
		return len(p), nil
	}
	n, err := s.file.Write(p)
	s.size += int64(n)
	return n, err
}

// keep appends to the memory.
func (s *spool) keep(p []byte) {
	for len(p) > 0 {
		used := int(s.size % spoolPiece)
		if used == 0 {
			s.pieces = append(s.pieces, make([]byte, spoolPiece))
		}
		n := copy(s.pieces[len(s.pieces)-1][used:], p)
		s.size += int64(n)
		p = p[n:]
	}
}

// spill moves to a file.
func (s *spool) spill() error {
	f, err := os.CreateTemp("", "sluice-spool-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, s.reader())
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return errors.Join(err, f.Close())
	}
	s.file, s.pieces = f, nil
	return nil
}

// ReadAt implements io.ReaderAt.
func (s *spool) ReadAt(p []byte, off int64) (n int, err error) {
	if s.file != nil {
		return s.file.ReadAt(p, off)
	}
	for n < len(p) && off < s.size {
		piece := s.pieces[off/spoolPiece][off%spoolPiece:]
		k := copy(p[n:], piece[:min(int64(len(piece)), s.size-off)])
		n += k
		off += int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// reader returns a reader from the beginning, of what was written until now. In memory, it can be read after Close as well.
func (s *spool) reader() io.Reader {
	now := *s
	return io.NewSectionReader(&now, 0, now.size)
}

// Close frees what is kept. It may be called more than once.
func (s *spool) Close() error {
	f := s.file
	*s = spool{}
	if f == nil {
		return nil
	}
	return f.Close()
}
