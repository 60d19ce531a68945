//go:build !linux

package wal

import (
	"errors"
	"os"
)

// direct is not there: all writes go through the page cache.
type direct struct{}

func (*direct) usable(*os.File) bool               { return false }
func (*direct) writeAt([]byte, int64) (int, error) { return 0, nil }
func (*direct) close() error                       { return nil }

// Allocate implements File.
func (*file) Allocate(int64) error { return errors.ErrUnsupported }
