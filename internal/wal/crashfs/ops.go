package crashfs

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/sluicewal/sluice/internal/wal"
)

// Open implements wal.FS.
func (f *FS) Open(name string) (wal.File, error) { return f.openFile("Open", name) }

// OpenRW implements wal.FS.
func (f *FS) OpenRW(name string) (wal.File, error) { return f.openFile("OpenRW", name) }

func (f *FS) openFile(op, name string) (wal.File, error) {
	h := &handle{fs: f, name: name}
	err := f.do(Op{Name: op, Path: name}, func(failed bool) error {
		n, err := f.lookupLocked(name)
		if err != nil || failed {
			return err
		}
		h.node = n
		f.open[h] = n
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// Create implements wal.FS.
func (f *FS) Create(name string) (wal.File, error) {
	h := &handle{fs: f, name: name}
	err := f.do(Op{Name: "Create", Path: name, Mutates: true}, func(failed bool) error {
		dir, base, err := f.parentLocked(name)
		if err != nil || failed {
			return err
		}
		n, found := dir.names[base]
		switch {
		case found && n.isDir:
			return syscall.EISDIR
		case found:
			n.empty()
		default:
			n = newFile()
			f.editLocked(change{{dir, base, n}})
		}
		h.node = n
		f.open[h] = n
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// Link implements wal.FS.
func (f *FS) Link(oldname, newname string) error {
	return f.do(Op{Name: "Link", Path: newname, Mutates: true}, func(failed bool) error {
		n, err := f.lookupLocked(oldname)
		if err != nil || failed {
			return err
		}
		dir, base, err := f.parentLocked(newname)
		if err != nil {
			return err
		}
		if _, taken := dir.names[base]; taken {
			return fs.ErrExist
		}
		f.editLocked(change{{dir, base, n}})
		return nil
	})
}

// Rename implements wal.FS.
func (f *FS) Rename(oldname, newname string) error {
	return f.do(Op{Name: "Rename", Path: newname, Mutates: true}, func(failed bool) error {
		from, oldbase, err := f.parentLocked(oldname)
		if err != nil || failed {
			return err
		}
		n, found := from.names[oldbase]
		if !found {
			return fs.ErrNotExist
		}
		to, newbase, err := f.parentLocked(newname)
		if err != nil {
			return err
		}
		if old, taken := to.names[newbase]; taken && (old.isDir || n.isDir) {
			return fs.ErrExist
		}
		f.editLocked(change{{from, oldbase, nil}, {to, newbase, n}})
		return nil
	})
}

// Remove implements wal.FS.
func (f *FS) Remove(name string) error {
	return f.do(Op{Name: "Remove", Path: name, Mutates: true}, func(failed bool) error {
		dir, base, err := f.parentLocked(name)
		if err != nil || failed {
			return err
		}
		n, found := dir.names[base]
		if !found {
			return fs.ErrNotExist
		}
		if len(n.names) > 0 {
			return syscall.ENOTEMPTY
		}
		f.editLocked(change{{dir, base, nil}})
		return nil
	})
}

// RemoveAll implements wal.FS: each name is an operation of its own.
func (f *FS) RemoveAll(name string) error {
	infos, err := f.ReadDir(name)
	if err != nil && !f.has(name) {
		return nil
	}
	for _, child := range infos {
		if err := f.RemoveAll(filepath.Join(name, child.Name())); err != nil {
			return err
		}
	}
	return f.Remove(name)
}

// has does not count as an operation.
func (f *FS) has(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.lookupLocked(name)
	return err == nil
}

// MkdirAll implements wal.FS as wal.OSFS does. Each operation in it counts.
func (f *FS) MkdirAll(name string) error {
	parent := filepath.Dir(name)
	err := f.mkdir(name)
	switch {
	case err == nil:
		err = f.SyncDir(filepath.Dir(parent))
	case errors.Is(err, fs.ErrExist):
		err = nil
	case errors.Is(err, fs.ErrNotExist):
		if err = f.MkdirAll(parent); err == nil {
			err = f.mkdir(name)
		}
	}
	if err != nil {
		return err
	}
	return f.SyncDir(parent)
}

func (f *FS) mkdir(name string) error {
	return f.do(Op{Name: "Mkdir", Path: name, Mutates: true}, func(failed bool) error {
		dir, base, err := f.parentLocked(name)
		if err != nil || failed {
			return err
		}
		if _, taken := dir.names[base]; taken {
			return fs.ErrExist
		}
		f.editLocked(change{{dir, base, newDir()}})
		return nil
	})
}

// SyncDir implements wal.FS.
func (f *FS) SyncDir(name string) error {
	return f.do(Op{Name: "SyncDir", Path: name, Mutates: true}, func(failed bool) error {
		dir, err := f.lookupLocked(name)
		if err != nil || failed {
			return err
		}
		f.syncNamesLocked(dir)
		return nil
	})
}

// ReadDir implements wal.FS.
func (f *FS) ReadDir(name string) (infos []fs.FileInfo, err error) {
	err = f.do(Op{Name: "ReadDir", Path: name}, func(bool) error {
		dir, err := f.lookupLocked(name)
		if err != nil {
			return err
		}
		if !dir.isDir {
			return syscall.ENOTDIR
		}
		for base, n := range dir.names {
			infos = append(infos, n.info(base))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(infos, func(a, b fs.FileInfo) int { return strings.Compare(a.Name(), b.Name()) })
	return infos, nil
}

// Stat implements wal.FS.
func (f *FS) Stat(name string) (i fs.FileInfo, err error) {
	err = f.do(Op{Name: "Stat", Path: name}, func(bool) error {
		n, err := f.lookupLocked(name)
		if err != nil {
			return err
		}
		i = n.info(filepath.Base(name))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return i, nil
}
