package crashfs

import (
	"io/fs"
	"maps"
	"slices"
	"time"
)

// pageSize is what reaches the disk at once, or not at all.
const pageSize = 4096

// node is a file or a directory, as it is now and as a crash would leave it.
type node struct {
	isDir bool

	names      map[string]*node // of a directory
	savedNames map[string]*node

	data  []byte             // of a file
	saved []byte             // never longer than the file once was
	dirty map[int64]struct{} // pages that differ, or may, and are still to be saved
}

func newDir() *node {
	return &node{isDir: true, names: map[string]*node{}, savedNames: map[string]*node{}}
}

func newFile() *node { return &node{dirty: map[int64]struct{}{}} }

func (n *node) current() map[string]*node { return n.names }
func (n *node) durable() map[string]*node { return n.savedNames }

// write changes bytes; the file grows as needed.
func (n *node) write(p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	end := off + int64(len(p))
	n.data = grow(n.data, end)
	copy(n.data[off:], p)
	for page := off / pageSize; page <= (end-1)/pageSize; page++ {
		n.dirty[page] = struct{}{}
	}
}

// save makes dirty pages durable, all of them or those that keep wants, and with them the length that they need.
func (n *node) save(keep func() bool) {
	for _, page := range slices.Sorted(maps.Keys(n.dirty)) {
		if !keep() {
			continue
		}
		from, to := page*pageSize, min((page+1)*pageSize, int64(len(n.data)))
		if from >= to {
			continue
		}
		n.saved = grow(n.saved, to)
		copy(n.saved[from:to], n.data[from:to])
	}
}

func always() bool { return true }

// sync makes everything durable, the length too.
func (n *node) sync() {
	n.save(always)
	n.saved = grow(n.saved, int64(len(n.data)))[:len(n.data)]
	clear(n.dirty)
}

// lose is a sync that failed: nothing is saved, and nothing is to be saved any more.
func (n *node) lose(drop bool) {
	if drop {
		for page := range n.dirty {
			n.revert(page)
		}
	}
	clear(n.dirty)
}

// revert shows what is on disk again.
func (n *node) revert(page int64) {
	from, to := page*pageSize, min((page+1)*pageSize, int64(len(n.data)))
	if from >= to {
		return
	}
	clear(n.data[from:to])
	if from < int64(len(n.saved)) {
		copy(n.data[from:to], n.saved[from:])
	}
}

// afterCrash copies what is durable below n; each node once, so that links stay links.
func (n *node) afterCrash(seen map[*node]*node) *node {
	if c, done := seen[n]; done {
		return c
	}
	c := newFile()
	if n.isDir {
		c = newDir()
	}
	seen[n] = c
	c.data = append([]byte(nil), n.saved...)
	c.saved = append([]byte(nil), n.saved...)
	for name, child := range n.savedNames {
		c.names[name] = child.afterCrash(seen)
	}
	maps.Copy(c.savedNames, c.names)
	return c
}

func grow(b []byte, size int64) []byte {
	if int64(len(b)) >= size {
		return b
	}
	if int64(cap(b)) >= size {
		old := len(b)
		b = b[:size]
		clear(b[old:])
		return b
	}
	return append(make([]byte, 0, size), b...)[:size]
}

// info describes a node at one moment.
type info struct {
	name  string
	size  int64
	isDir bool
}

func (n *node) info(name string) info {
	return info{name: name, size: int64(len(n.data)), isDir: n.isDir}
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) IsDir() bool        { return i.isDir }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) Sys() any           { return nil }

func (i info) Mode() fs.FileMode {
	if i.isDir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}
