package wal

import (
	"errors"
	"os"
	"syscall"
)

// datasync is fdatasync(2). An interrupted call has not failed: nothing was dropped, and package os repeats it likewise.
func datasync(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
