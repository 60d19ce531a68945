package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// directory writes the objects of a file:// store: at once or not at all, once, and so that they survive a crash. The
// library's own writes do none of these: it looks for the name and then renames over it, and syncs nothing.
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
