package backup

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// spoolMemory is how much a spool keeps in memory. Most clusters have segments of 16 MiB.
const spoolMemory = 64 << 20

// spool keeps bytes between two places: in memory, and what is more in a file without a name. The memory is not used
// again: an HTTP library may still be reading a body whose request was cut.
type spool struct {
	memory bytes.Buffer
	file   *os.File // nil: all of it is in memory
	size   int64
}

// Write implements io.Writer.
func (s *spool) Write(p []byte) (int, error) {
	if s.file == nil && s.memory.Len()+len(p) > spoolMemory {
		if err := s.spill(); err != nil {
			return 0, err
		}
	}
	var to io.Writer = &s.memory
	if s.file != nil {
		to = s.file
	}
	n, err := to.Write(p)
	s.size += int64(n)
	return n, err
}

// spill moves to a file.
func (s *spool) spill() error {
	f, err := os.CreateTemp("", "sluice-spool-*")
	if err != nil {
		return err
	}
	_, err = f.Write(s.memory.Bytes())
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return errors.Join(err, f.Close())
	}
	s.file, s.memory = f, bytes.Buffer{}
	return nil
}

// ReadAt implements io.ReaderAt.
func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	if s.file != nil {
		return s.file.ReadAt(p, off)
	}
	return bytes.NewReader(s.memory.Bytes()).ReadAt(p, off)
}

// reader returns a reader from the beginning.
func (s *spool) reader() io.Reader {
	if s.file != nil {
		return io.NewSectionReader(s.file, 0, s.size)
	}
	return bytes.NewReader(s.memory.Bytes())
}

// Close frees what is kept. It may be called more than once.
func (s *spool) Close() error {
	f := s.file
	s.file, s.memory = nil, bytes.Buffer{}
	if f == nil {
		return nil
	}
	return f.Close()
}
