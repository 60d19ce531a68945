// Package crashfs is a file system in memory that forgets what was not synced, and fails where it is told to. It is for
// tests of what must survive a crash, a full disk or a dying one.
//
// It forgets more than most real ones do, which is what POSIX allows: a file's bytes are durable after its Sync, a name
// after SyncDir of its directory, and neither brings the other along. What was not made durable may be lost, or kept in
// any mixture of pages and of names ([FS.Restart]). A Sync that fails loses what it was to save, for good: a later one
// that succeeds proves nothing, and whether reading still shows the lost bytes is up to [FS.DropLostPages].
//
// Every operation is counted and shown to a hook ([FS.Inject]), which may let it pass, fail it, wait, or end the world.
package crashfs

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/sluicewal/sluice/internal/wal"
)

// ErrCrashed is what every operation returns after the crash. A hook that returns it makes the crash happen.
var ErrCrashed = errors.New("crashfs: the machine has crashed")

// Op is one operation, as the hook sees it before it is done.
type Op struct {
	N       int    // counts from 1
	Name    string // the method's name: "Rename", "Datasync", …
	Path    string // for Rename and Link, the new name
	Mutates bool   // changes what is there, or what is durable
}

// FS is one machine's file system, from a start to a crash. Make one with [New].
type FS struct {
	mu      sync.Mutex
	root    *node
	pending []change          // guarded by mu; changes of names that no SyncDir has saved, oldest first
	ops     int               // guarded by mu
	crashed bool              // guarded by mu
	hook    func(Op) error    // guarded by mu
	drop    bool              // guarded by mu; see DropLostPages
	open    map[*handle]*node // guarded by mu
}

// New makes an empty file system.
func New() *FS { return &FS{root: newDir(), open: map[*handle]*node{}} }

// Inject makes hook see every operation from now on, and fail those for which it returns an error. A write that fails
// has written half of its bytes. It runs without a lock, so that it may wait. Nil removes it.
func (f *FS) Inject(hook func(Op) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// FailNth returns a hook that fails the operation with number n, and no other.
func FailNth(n int, err error) func(Op) error {
	return func(op Op) error {
		if op.N == n {
			return err
		}
		return nil
	}
}

// DropLostPages makes reads, after a Sync that failed, show what is on disk instead of what was written (as btrfs does; ext4
// keeps showing the lost bytes).
func (f *FS) DropLostPages() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop = true
}

// Ops returns how many operations there were.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// OpenFiles returns how many files are open: tests see by it what was not closed.
func (f *FS) OpenFiles() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.open)
}

// do counts one operation, asks the hook, and runs it with the lock held. A failed operation runs with failed set, for what
// it changes all the same.
func (f *FS) do(op Op, run func(failed bool) error) error {
	f.mu.Lock()
	f.ops++
	op.N = f.ops
	hook, crashed := f.hook, f.crashed
	f.mu.Unlock()
	var injected error
	if hook != nil && !crashed {
		injected = hook(op)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if errors.Is(injected, ErrCrashed) {
		f.crashed = true
	}
	if f.crashed {
		return ErrCrashed
	}
	if injected != nil {
		_ = run(true) // what it had done is done; the injected error is what is reported
		return &fs.PathError{Op: op.Name, Path: op.Path, Err: injected}
	}
	if err := run(false); err != nil {
		return &fs.PathError{Op: op.Name, Path: op.Path, Err: err}
	}
	return nil
}

// change is one operation on names: all of it survives a crash, or nothing does.
type change []edit

type edit struct {
	dir  *node
	name string
	to   *node // nil: the name goes
}

// editLocked changes names, for now only in memory.
func (f *FS) editLocked(c change) {
	for _, e := range c {
		e.apply((*node).current)
	}
	f.pending = append(f.pending, c)
}

func (e edit) apply(names func(*node) map[string]*node) {
	if e.to == nil {
		delete(names(e.dir), e.name)
		return
	}
	names(e.dir)[e.name] = e.to
}

// syncNamesLocked makes the pending edits of one directory durable.
func (f *FS) syncNamesLocked(dir *node) {
	for i, c := range f.pending {
		f.pending[i] = slices.DeleteFunc(c, func(e edit) bool {
			if e.dir != dir {
				return false
			}
			e.apply((*node).durable)
			return true
		})
	}
	f.pending = slices.DeleteFunc(f.pending, func(c change) bool { return len(c) == 0 })
}

// lookupLocked finds what has a name now.
func (f *FS) lookupLocked(name string) (*node, error) {
	n := f.root
	for part := range strings.SplitSeq(strings.Trim(filepath.Clean(name), "/"), "/") {
		if part == "" || part == "." {
			continue
		}
		if !n.isDir {
			return nil, syscall.ENOTDIR
		}
		child, found := n.names[part]
		if !found {
			return nil, fs.ErrNotExist
		}
		n = child
	}
	return n, nil
}

// parentLocked finds the directory of a name, and the last part of it.
func (f *FS) parentLocked(name string) (*node, string, error) {
	dir, err := f.lookupLocked(filepath.Dir(name))
	if err != nil {
		return nil, "", err
	}
	if !dir.isDir {
		return nil, "", syscall.ENOTDIR
	}
	return dir, filepath.Base(name), nil
}

var _ wal.FS = (*FS)(nil)
