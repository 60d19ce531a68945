package restore

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// tempSuffix ends the name of a file that is being written. A kill leaves it behind; the next file for the same path, which
// PostgreSQL asks for one after the other, takes its place.
const tempSuffix = ".sluice"

// install makes a body's content the file at path: all of it, durable, or nothing. It reads the body to its end, and holds
// what comes against its size and digest.
func install(path string, b *Body) (err error) {
	temp := path + tempSuffix
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(write(f, b), f.Close()); err != nil {
		return errors.Join(err, remove(temp))
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, remove(temp))
	}
	return syncDir(filepath.Dir(path))
}

func write(f *os.File, b *Body) error {
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), transfer{b})
	if err != nil {
		return err
	}
	if n != b.Size || !bytes.Equal(sum.Sum(nil), b.Digest[:]) {
		return &transferError{fmt.Errorf("%d bytes came of %d, or other ones than were sent", n, b.Size)}
	}
	return f.Sync()
}

// transferError says that a body did not come as it was sent. Trying again may help; it does not where we cannot write.
type transferError struct{ error }

func (e *transferError) Unwrap() error { return e.error }

// transfer marks what goes wrong on the body's side.
type transfer struct{ b *Body }

func (t transfer) Read(p []byte) (int, error) {
	n, err := t.b.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &transferError{err}
	}
	return n, err
}

func remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncDir makes the names in a directory durable. PostgreSQL renames the file once more and syncs then; whoever calls us by
// hand does not.
func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
