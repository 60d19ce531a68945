package rig

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// tempPrefix begins the name of each directory; the number of the process that
// made it follows, so that what a killed one left can be told.
const tempPrefix = "sluice-test-"

// TempDir is a directory that the unprivileged user may enter and write, which
// t.TempDir's is not. It is removed after the test, and kept after one that
// failed if SLUICE_KEEP is set.
func TempDir(t testing.TB) string {
	t.Helper()
	//nolint:usetesting // see above: t.TempDir is closed to others
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", tempPrefix, os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("SLUICE_KEEP") != "" {
			t.Logf("kept: %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := give(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// MakeDir creates a directory of the unprivileged user's in one that exists.
func MakeDir(elem ...string) (string, error) {
	dir := filepath.Join(elem...)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	return dir, give(dir)
}

// GiveTree makes a directory, and all that is in it, the unprivileged user's.
func GiveTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return give(path)
	})
}

// CopyTree copies a data directory of a server that is not running, or that
// may be copied torn (a volume's snapshot is).
func CopyTree(ctx context.Context, from, to string) error {
	return exec.CommandContext(ctx, "cp", "-a", "--reflink=auto", from, to).Run()
}

// Poll looks at a condition again and again until it holds. The context bounds
// it; the condition's error ends it.
func Poll(ctx context.Context, every time.Duration, cond func() (bool, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if ok, err := cond(); ok || err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
