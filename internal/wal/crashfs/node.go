package crashfs

import (
	"bytes"
	"io/fs"
	"maps"
	"slices"
	"time"
)

// pageSize is what reaches the disk at once, or not at all.
const pageSize = 4096

// page is a page's bytes. One that has been saved is not written to any more, so that it can be shared; nil is all zeros. That
// makes files full of zeros, and copies of whole file systems, cheap enough to try every crash.
type page *[pageSize]byte

// content is a file's bytes at some time.
type content struct {
	pages []page // never fewer than size needs
	size  int64
}

// node is a file or a directory, as it is now and as a crash would leave it.
type node struct {
	isDir bool

	names      map[string]*node // of a directory
	savedNames map[string]*node

	data  content // of a file
	saved content
	dirty map[int64]struct{} // pages written to since they were last saved, or lost
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
	n.data.grow(off + int64(len(p)))
	for len(p) > 0 {
		i, from := off/pageSize, off%pageSize
		part := p[:min(len(p), int(pageSize-from))]
		if len(part) == pageSize && isZero(part) {
			n.data.pages[i] = nil
		} else {
			copy(n.writable(i)[from:], part)
		}
		n.dirty[i] = struct{}{}
		p, off = p[len(part):], off+int64(len(part))
	}
}

// writable returns a page that nothing else shares.
func (n *node) writable(i int64) page {
	if _, dirty := n.dirty[i]; dirty && n.data.pages[i] != nil {
		return n.data.pages[i]
	}
	fresh := new([pageSize]byte)
	if old := n.data.pages[i]; old != nil {
		*fresh = *old
	}
	n.data.pages[i] = fresh
	return fresh
}

// allocate makes the file longer, by pages that nobody has written to.
func (n *node) allocate(size int64) {
	for i := int64(len(n.data.pages)); i*pageSize < size; i++ {
		n.dirty[i] = struct{}{}
	}
	n.data.grow(size)
}

func (n *node) read(p []byte, off int64) int {
	count := 0
	for count < len(p) && off < n.data.size {
		from := off % pageSize
		part := p[count:min(len(p), count+int(min(pageSize-from, n.data.size-off)))]
		if stored := n.data.pages[off/pageSize]; stored != nil {
			copy(part, stored[from:])
		} else {
			clear(part)
		}
		count, off = count+len(part), off+int64(len(part))
	}
	return count
}

// empty is O_TRUNC.
func (n *node) empty() {
	n.data = content{}
	clear(n.dirty)
}

// save makes those dirty pages durable that keep wants, and with them the length that they need.
func (n *node) save(keep func() bool) {
	for _, i := range slices.Sorted(maps.Keys(n.dirty)) {
		if keep() {
			n.saved.grow(min((i+1)*pageSize, n.data.size))
			n.saved.pages[i] = n.data.pages[i]
		}
	}
}

func always() bool { return true }

// sync makes all dirty pages durable, and the length. Pages that an earlier sync lost are not dirty.
func (n *node) sync() {
	n.save(always)
	n.saved.grow(n.data.size)
	n.saved.size = n.data.size
	n.saved.pages = n.saved.pages[:len(n.data.pages)]
	clear(n.dirty)
}

// lose is a sync that failed: nothing is saved, and nothing is to be saved any more.
func (n *node) lose(drop bool) {
	if drop {
		for i := range n.dirty {
			n.revert(i)
		}
	}
	clear(n.dirty)
}

// revert shows what is on disk again.
func (n *node) revert(i int64) {
	n.data.pages[i] = nil
	if i < int64(len(n.saved.pages)) {
		n.data.pages[i] = n.saved.pages[i]
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
	c.data = content{pages: slices.Clone(n.saved.pages), size: n.saved.size}
	c.saved = content{pages: slices.Clone(n.saved.pages), size: n.saved.size}
	for name, child := range n.savedNames {
		c.names[name] = child.afterCrash(seen)
	}
	maps.Copy(c.savedNames, c.names)
	return c
}

func (c *content) grow(size int64) {
	if size <= c.size {
		return
	}
	c.size = size
	for int64(len(c.pages))*pageSize < size {
		c.pages = append(c.pages, nil)
	}
}

var zeroPage [pageSize]byte

func isZero(p []byte) bool { return bytes.Equal(p, zeroPage[:len(p)]) }

// info describes a node at one moment.
type info struct {
	name  string
	size  int64
	isDir bool
}

func (n *node) info(name string) info {
	return info{name: name, size: n.data.size, isDir: n.isDir}
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
