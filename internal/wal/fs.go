package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// FS is the part of a file system that keeps what must not be lost. Each method is one operation that can fail, or be the
// last before a crash; package crashfs makes them do so. Errors are those of package os: errors.Is(err, fs.ErrNotExist)
// and the like hold, and ENOSPC is a syscall.Errno.
//
// What a method promises to survive a crash is said there; nothing else does.
type FS interface {
	// Open opens a file for reading.
	Open(name string) (File, error)
	// OpenRW opens a file that exists for reading and writing.
	OpenRW(name string) (File, error)
	// Create makes an empty file, or empties one. Its name is durable after SyncDir, its bytes after Sync.
	Create(name string) (File, error)
	// Link gives a file a second name; fs.ErrExist if that is taken.
	Link(oldname, newname string) error
	// Rename moves a file or a directory, replacing a file that has the name. After a crash the old state is there or
	// the new one; the new one for certain after SyncDir of both directories.
	Rename(oldname, newname string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// RemoveAll removes a tree, if it is there.
	RemoveAll(name string) error
	// MkdirAll makes a directory and what is missing above it, all of it durable: a timeline is not lost because its
	// tenant's name was.
	MkdirAll(name string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
	// ReadDir lists a directory, sorted by name.
	ReadDir(name string) ([]fs.FileInfo, error)
	// Stat describes a file.
	Stat(name string) (fs.FileInfo, error)
}

// File is an open file. ReadAt, WriteAt or WriteDirect, Datasync and Size may be called at once.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// WriteDirect is WriteAt for bytes that are many and that nobody will read soon: they go past the page cache where the
	// file system has that, and where p and off are aligned alike. They are no more durable than those of WriteAt.
	WriteDirect(p []byte, off int64) (int, error)
	// Allocate gives an empty file a length, and the space for it, without writing it. It reads as zeros. Where the file
	// system cannot, the error is errors.ErrUnsupported.
	Allocate(size int64) error
	// Sync makes the bytes and the length durable. Once it has failed, what was written since the last success is
	// lost even if a later Sync succeeds: the kernel may have dropped the pages and called them clean.
	Sync() error
	// Datasync is Sync, except that it need not save what reading the bytes does not need (fdatasync(2)).
	Datasync() error
	// Size returns the length in bytes.
	Size() (int64, error)
}

// Permissions of what we make: PostgreSQL's own for its WAL. It holds everybody's data.
const (
	filePerm = 0o600
	dirPerm  = 0o700
)

// OSFS is the FS of the operating system.
type OSFS struct{}

// Open implements FS.
func (OSFS) Open(name string) (File, error) { return osFile(os.Open(name)) }

// OpenRW implements FS.
func (OSFS) OpenRW(name string) (File, error) { return osFile(os.OpenFile(name, os.O_RDWR, 0)) }

// Create implements FS.
func (OSFS) Create(name string) (File, error) {
	return osFile(os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, filePerm))
}

// Link implements FS.
func (OSFS) Link(oldname, newname string) error { return os.Link(oldname, newname) }

// Rename implements FS.
func (OSFS) Rename(oldname, newname string) error { return os.Rename(oldname, newname) }

// Remove implements FS.
func (OSFS) Remove(name string) error { return os.Remove(name) }

// RemoveAll implements FS.
func (OSFS) RemoveAll(name string) error { return os.RemoveAll(name) }

// MkdirAll implements FS. The lowest directory that is there already may have been made by a process that was killed before it
// synced the name, so that is done again.
func (f OSFS) MkdirAll(name string) error {
	parent := filepath.Dir(name)
	err := os.Mkdir(name, dirPerm)
	switch {
	case err == nil:
		err = f.SyncDir(filepath.Dir(parent))
	case errors.Is(err, fs.ErrExist):
		err = nil
	case errors.Is(err, fs.ErrNotExist):
		if err = f.MkdirAll(parent); err == nil {
			err = os.Mkdir(name, dirPerm)
		}
	}
	if err != nil {
		return err
	}
	return f.SyncDir(parent)
}

// SyncDir implements FS.
func (OSFS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ReadDir implements FS. A file that goes away while the directory is read is left out.
func (OSFS) ReadDir(name string) ([]fs.FileInfo, error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	infos := make([]fs.FileInfo, 0, len(entries))
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// Stat implements FS.
func (OSFS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

type file struct {
	*os.File
	direct direct
}

// osFile exists because a nil *os.File in a File would not be nil.
func osFile(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return &file{File: f}, nil
}

func (f *file) Close() error { return errors.Join(f.direct.close(), f.File.Close()) }

func (f *file) Datasync() error {
	if err := datasync(f.File); err != nil {
		return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}

func (f *file) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// ReadFile reads a small file whole. One that has more than maxBytes is an error: whatever it is, it is not what was
// written, and it may not fit in memory.
func ReadFile(fsys FS, name string, maxBytes int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxBytes+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if int64(len(b)) > maxBytes {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("more than %d bytes: %w", maxBytes, syscall.EFBIG)}
	}
	return b, nil
}

// tempSuffix ends the names of files that are being made. A crash may leave one, of any length; nobody misses it.
const tempSuffix = ".tmp"

// WriteFileAtomic makes data the durable content of a file: after a crash at any point, or an error, the file has its old
// content or the new one. One writer at a time for each name.
func WriteFileAtomic(fsys FS, name string, data []byte) error {
	temp := name + tempSuffix
	if err := writeSynced(fsys, temp, data); err != nil {
		return errors.Join(err, removeIfThere(fsys, temp))
	}
	if err := fsys.Rename(temp, name); err != nil {
		return errors.Join(err, removeIfThere(fsys, temp))
	}
	return fsys.SyncDir(filepath.Dir(name))
}

func writeSynced(fsys FS, name string, data []byte) error {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close())
}

func removeIfThere(fsys FS, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
