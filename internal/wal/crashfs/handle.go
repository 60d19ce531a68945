package crashfs

import (
	"io"
	"io/fs"

	"github.com/sluicewal/sluice/internal/wal"
)

// handle is an open file. It keeps the file alive when its name goes.
type handle struct {
	fs   *FS
	name string
	node *node
}

var _ wal.File = (*handle)(nil)

func (h *handle) do(op string, mutates bool, run func(failed bool) error) error {
	return h.fs.do(Op{Name: op, Path: h.name, Mutates: mutates}, func(failed bool) error {
		if _, open := h.fs.open[h]; !open {
			return fs.ErrClosed
		}
		return run(failed)
	})
}

// ReadAt implements wal.File.
func (h *handle) ReadAt(p []byte, off int64) (n int, err error) {
	err = h.do("ReadAt", false, func(failed bool) error {
		if !failed {
			n = h.node.read(p, off)
		}
		return nil
	})
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// WriteAt implements wal.File.
func (h *handle) WriteAt(p []byte, off int64) (n int, err error) { return h.write("WriteAt", p, off) }

// WriteDirect implements wal.File. What was written past the page cache is as little durable as anything else: it may lie in
// the disk's own cache, and be there after a crash or not, page by page.
func (h *handle) WriteDirect(p []byte, off int64) (n int, err error) {
	return h.write("WriteDirect", p, off)
}

func (h *handle) write(op string, p []byte, off int64) (n int, err error) {
	err = h.do(op, true, func(failed bool) error {
		n = len(p)
		if failed {
			n /= 2
		}
		h.node.write(p[:n], off)
		return nil
	})
	return n, err
}

// Allocate implements wal.File. What fails half-way leaves a shorter file.
func (h *handle) Allocate(size int64) error {
	return h.do("Allocate", true, func(failed bool) error {
		if failed {
			size /= 2
		}
		h.node.allocate(size)
		return nil
	})
}

// Sync implements wal.File.
func (h *handle) Sync() error { return h.sync("Sync") }

// Datasync implements wal.File.
func (h *handle) Datasync() error { return h.sync("Datasync") }

func (h *handle) sync(op string) error {
	return h.do(op, true, func(failed bool) error {
		if failed {
			h.node.lose(h.fs.drop)
			return nil
		}
		h.node.sync()
		return nil
	})
}

// Size implements wal.File.
func (h *handle) Size() (size int64, err error) {
	err = h.do("Size", false, func(bool) error {
		size = h.node.data.size
		return nil
	})
	return size, err
}

// Close implements wal.File. It is no operation: nothing depends on it, and it also works after a crash.
func (h *handle) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if _, open := h.fs.open[h]; !open {
		return &fs.PathError{Op: "Close", Path: h.name, Err: fs.ErrClosed}
	}
	delete(h.fs.open, h)
	return nil
}
