package observe

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// slowSync is half of what SluiceFsyncSlow is about: the test's own syncs are smaller than those of a node.
const slowSync = 50 * time.Millisecond

// ofDisks are the alerts that a slow disk explains, if it is slow for this test's own syncs as well.
var ofDisks = []string{"SluiceFsyncSlow", "SluiceAckSlow"}

// The disk is asked so often, and is slow while more than one sync in a hundred is, within a minute.
const (
	syncEach       = 200 * time.Millisecond
	slowInAMinute  = int(time.Minute/syncEach)/100 + 1
	rememberedSync = time.Hour
)

// disk syncs a small file again and again, to know whether an alert about slow syncs is about this machine, which others may use
// at the same time.
type disk struct {
	windows map[string]time.Duration // how far each alert of ofDisks looks back
	mu      sync.Mutex
	slow    []time.Time // when slow syncs ended, in their order; guarded by mu
}

// startDisk goes on until the test ends.
func startDisk(t testing.TB, dir string) *disk {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "synced"))
	if err != nil {
		t.Fatal(err)
	}
	d := &disk{windows: map[string]time.Duration{}}
	for _, name := range ofDisks {
		d.windows[name] = looksBack(readRules(t), name)
	}
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

func (d *disk) watch(ctx context.Context, f *os.File) error {
	defer f.Close()
	block := make([]byte, 64<<10)
	for ctx.Err() == nil {
		if _, err := f.WriteAt(block, 0); err != nil {
			return err
		}
		began := time.Now()
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return err
		}
		if now := time.Now(); now.Sub(began) > slowSync {
			d.wasSlow(now)
		}
		pause(ctx, syncEach)
	}
	return nil
}

func (d *disk) wasSlow(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow = append(slices.DeleteFunc(d.slow, func(t time.Time) bool { return at.Sub(t) > rememberedSync }), at)
}

// explains says whether an alert that fires now is about a disk that was slow for this test as well, within the time that the
// alert looks back, and until it was looked at: rules are, as often as nodes are scraped.
func (d *disk) explains(a alert, now time.Time) bool {
	window, ok := d.windows[a.name()]
	if !ok {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return slowWithin(d.slow, now, window+2*every)
}

// slowWithin says whether of the slow syncs so many were within a minute that the disk was slow, and that within a window before
// now.
func slowWithin(slow []time.Time, now time.Time, window time.Duration) bool {
	for i := slowInAMinute - 1; i < len(slow); i++ {
		first, last := slow[i-slowInAMinute+1], slow[i]
		if last.Sub(first) <= time.Minute && now.Sub(last) <= window {
			return true
		}
	}
	return false
}
