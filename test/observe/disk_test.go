package observe

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// slowSync is half of what SluiceFsyncSlow is about: the test's own syncs are smaller than those of a node.
const slowSync = 50 * time.Millisecond

// disk syncs a small file again and again, to know whether an alert about slow syncs is about this machine, which others may use
// at the same time.
type disk struct{ slow atomic.Bool }

// startDisk goes on until the test ends.
func startDisk(t testing.TB, dir string) *disk {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "synced"))
	if err != nil {
		t.Fatal(err)
	}
	d := &disk{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.watch(ctx, f) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return d
}

// watch finds the disk slow if more than one sync in a hundred is, within a minute.
func (d *disk) watch(ctx context.Context, f *os.File) error {
	defer f.Close()
	const each, perMinute = 200 * time.Millisecond, 300
	block := make([]byte, 64<<10)
	for slow, n := 0, 0; ctx.Err() == nil; n++ {
		if n%perMinute == 0 {
			slow = 0
		}
		if _, err := f.WriteAt(block, 0); err != nil {
			return err
		}
		began := time.Now()
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return err
		}
		if time.Since(began) > slowSync {
			slow++
		}
		if slow > perMinute/100 {
			d.slow.Store(true)
		}
		pause(ctx, each)
	}
	return nil
}
