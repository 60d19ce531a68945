package wal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// FileLock is a lock file that is held. The kernel lets go of it when the process ends, however it ends.
type FileLock struct{ f *os.File }

// LockedError says that another process, or another part of this one, holds a lock file.
type LockedError struct {
	Path   string
	Holder string // "process 123 on host", as the holder wrote it; "another process" if it has not yet
}

func (e *LockedError) Error() string { return fmt.Sprintf("%s is locked by %s", e.Path, e.Holder) }

// Lock locks the file at path (flock(2)), and makes it if need be; the error is a [*LockedError] if somebody holds it. The
// file holds the words about its holder for people, and stays when the lock goes: removing it would let two processes lock
// two files of one name.
func Lock(path string) (*FileLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = &LockedError{Path: path, Holder: holder(f)}
		} else {
			err = fmt.Errorf("lock %s: %w", path, err)
		}
		return nil, errors.Join(err, f.Close())
	}
	if err := sign(f); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), f.Close())
	}
	return &FileLock{f: f}, nil
}

// Close lets go of the lock. It may be called once.
func (l *FileLock) Close() error { return l.f.Close() }

func flock(f *os.File) error {
	for {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// sign writes who holds the lock.
func sign(f *os.File) error {
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host"
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(fmt.Appendf(nil, "process %d on %s\n", os.Getpid(), host), 0)
	return err
}

// holder reads what sign wrote. The file may hold anything.
func holder(f *os.File) string {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 256))
	words := strings.TrimSpace(strings.ToValidUTF8(string(b), "?"))
	if err != nil || words == "" {
		return "another process"
	}
	return words
}
