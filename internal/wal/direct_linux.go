package wal

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// direct is a second way to write to a file, past the page cache (O_DIRECT). It has one user at a time.
type direct struct {
	file    *os.File // nil: not opened yet
	refused bool     // the file system, or the disk, does not have that
}

// usable opens the file a second time. That goes by its name, so what was opened must be the same file.
func (d *direct) usable(f *os.File) bool {
	if d.file != nil || d.refused {
		return !d.refused
	}
	second, err := os.OpenFile(f.Name(), os.O_WRONLY|unix.O_DIRECT, 0)
	if err == nil && same(f, second) {
		d.file = second
		return true
	}
	if err == nil {
		_ = second.Close() // nothing was written to it
	}
	d.refused = true // tmpfs says EINVAL; others may have others reasons, and the page cache is always right
	return false
}

func same(a, b *os.File) bool {
	x, errX := a.Stat()
	y, errY := b.Stat()
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// writeAt writes whole pages. A refusal is no failure: nothing was written then, and nothing lost.
func (d *direct) writeAt(p []byte, off int64) (int, error) {
	n, err := d.file.WriteAt(p, off)
	if n == 0 && errors.Is(err, syscall.EINVAL) {
		d.refused = true
		return 0, nil
	}
	return n, err
}

func (d *direct) close() error {
	if d.file == nil {
		return nil
	}
	err := d.file.Close()
	d.file = nil
	return err
}

// Allocate implements File. The blocks are marked as unwritten, which is as good as zeros, also after a crash.
func (f *file) Allocate(size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS):
			return errors.ErrUnsupported
		case err != nil:
			return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
		}
		return nil
	}
}
