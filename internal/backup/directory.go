package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gocloud.dev/blob"
)

// directory writes and lists the objects of a file:// store. It writes them at once or not at all, once, and so that they survive a
// crash. The library's own writes do none of these: it looks for the name and then renames over it, and syncs nothing. And its
// listings fail where a file goes while they are made, as that of each upload does.
type directory struct{ root string }

const (
	dirPerm  = 0o700 // PostgreSQL's own for its WAL
	filePerm = 0o600
	// temporaryPrefix begins the names of files that are being written. One that a crash left behind is no object.
	temporaryPrefix = ".sluice-tmp-"
)

func isTemporary(key string) bool {
	return strings.HasPrefix(key[strings.LastIndex(key, "/")+1:], temporaryPrefix)
}

// put creates the file of a key; errExists if there is one.
func (d *directory) put(ctx context.Context, key string, content io.Reader) error {
	if err := d.mounted(key); err != nil {
		return err
	}
	final := filepath.Join(d.root, filepath.FromSlash(key))
	if err := os.MkdirAll(filepath.Dir(final), dirPerm); err != nil {
		return err
	}
	linkErr := d.writeAndLink(ctx, final, content)
	if linkErr != nil && !errors.Is(linkErr, fs.ErrExist) {
		return linkErr
	}
	// Also where another one was first: it may not have come to this point, and what is said to be there must stay.
	if err := d.syncUp(filepath.Dir(final)); err != nil {
		return err
	}
	if linkErr != nil {
		return fmt.Errorf("%w: %w", errExists, linkErr)
	}
	return nil
}

// mounted sees to it that the store is in the directory: where its file system is not mounted, the mount point is an empty
// directory on another disk.
func (d *directory) mounted(key string) error {
	if !strings.Contains(key, "/") { // the store's own, which make it a store
		return nil
	}
	if _, err := os.Stat(filepath.Join(d.root, storeKey)); err != nil {
		return fmt.Errorf("%w: is its file system mounted? %w", ErrNoBucket, err)
	}
	return nil
}

// writeAndLink makes a whole and durable file appear under its name; fs.ErrExist if the name is taken. Unlike a rename,
// link(2) never replaces.
func (d *directory) writeAndLink(ctx context.Context, final string, content io.Reader) (err error) {
	f, err := os.CreateTemp(filepath.Dir(final), temporaryPrefix+"*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = io.Copy(f, inContext{ctx, content})
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), final)
}

// list returns what the library would of a prefix, in one page: objects in the order of their keys or, with a delimiter, also what
// would be directories. What goes meanwhile is in it or not; what is being written is not.
func (d *directory) list(ctx context.Context, opts *blob.ListOptions) ([]*blob.ListObject, error) {
	l := listing{ListOptions: opts}
	root := filepath.Join(d.root, filepath.FromSlash(opts.Prefix[:strings.LastIndex(opts.Prefix, "/")+1]))
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && path != root {
			var key string
			key, err = filepath.Rel(d.root, path)
			if err == nil {
				err = l.add(filepath.ToSlash(key), e)
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return cmp.Or(ctx.Err(), err)
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(l.all, func(a, b *blob.ListObject) int { return strings.Compare(a.Key, b.Key) })
	return l.all, nil
}

// listing is what was found so far.
type listing struct {
	*blob.ListOptions
	all  []*blob.ListObject
	last string // the key of the directory that was found last
}

// add adds an entry, or what it stands for; [fs.SkipDir]: nothing below it is wanted.
func (l *listing) add(key string, e fs.DirEntry) error {
	if e.IsDir() {
		key += "/"
		within := strings.HasPrefix(key, l.Prefix) || strings.HasPrefix(l.Prefix, key)
		if !within || l.last != "" && strings.HasPrefix(key, l.last) {
			return fs.SkipDir
		}
		return nil
	}
	if !strings.HasPrefix(key, l.Prefix) || isTemporary(key) || l.last != "" && strings.HasPrefix(key, l.last) {
		return nil
	}
	if name, _, found := strings.Cut(key[len(l.Prefix):], "/"); l.Delimiter != "" && found {
		l.last = l.Prefix + name + "/"
		l.all = append(l.all, &blob.ListObject{Key: l.last, IsDir: true})
		return nil
	}
	info, err := e.Info()
	if err != nil {
		return err
	}
	l.all = append(l.all, &blob.ListObject{Key: key, ModTime: info.ModTime(), Size: info.Size()})
	return nil
}

// syncUp makes a name durable, and those of the directories that it is in.
func (d *directory) syncUp(dir string) error {
	for {
		if err := syncDir(dir); err != nil {
			return err
		}
		if dir == d.root {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// mkdirDurably makes a directory and those above it that are missing.
func mkdirDurably(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := mkdirDurably(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// inContext ends with its context, between two reads.
type inContext struct {
	ctx context.Context //nolint:containedctx // it is the reader's lifetime
	r   io.Reader
}

func (r inContext) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
