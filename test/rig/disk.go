package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoDisk says that this machine does not let us make a disk of our own; the
// text has the reason.
var ErrNoDisk = errors.New("a disk of our own needs root and loop devices")

// Disk is a small ext4 file system in a file. It can be full, and it can lose
// power: what was not synced is gone then, of each file and of each directory.
type Disk struct {
	image string
	mount string
	full  bool // the filler takes what was free
}

// NewDisk makes a disk and mounts it. The error is ErrNoDisk where that is not
// allowed.
func NewDisk(t testing.TB, sizeMiB int) (*Disk, error) {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: we are not root", ErrNoDisk)
	}
	if err := sweep(); err != nil {
		return nil, err
	}
	dir := TempDir(t)
	d := &Disk{image: filepath.Join(dir, "disk.img"), mount: filepath.Join(dir, "disk")}
	if err := d.format(sizeMiB); err != nil {
		return nil, err
	}
	if err := d.Mount(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoDisk, err)
	}
	t.Cleanup(func() {
		if err := d.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return d, errors.Join(give(d.mount), syncDir(d.mount))
}

var ours = regexp.MustCompile(`/` + tempPrefix + `(\d+)-[^/]*/disk$`)

// sweep unmounts the disks of test processes that were killed, and so could
// not do it themselves.
func sweep() error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		point := strings.Fields(line)[1]
		m := ours.FindStringSubmatch(point)
		if m == nil {
			continue
		}
		if _, err := os.Stat("/proc/" + m[1]); !errors.Is(err, os.ErrNotExist) {
			continue // its process lives
		}
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s, which a test has left: %w", point, err)
		}
		if err := os.RemoveAll(filepath.Dir(point)); err != nil {
			return err
		}
	}
	return nil
}

// Dir is where the disk is mounted.
func (d *Disk) Dir() string { return d.mount }

// format makes the file system, without blocks that only root may use.
func (d *Disk) format(sizeMiB int) error {
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(d.image, int64(sizeMiB)<<20); err != nil {
		return err
	}
	if err := os.Mkdir(d.mount, 0o755); err != nil {
		return err
	}
	return run("mkfs.ext4", "-q", "-m", "0", d.image)
}

// Mount mounts the disk, as after the machine came back.
func (d *Disk) Mount() error {
	if err := run("mount", "-o", "loop", d.image, d.mount); err != nil {
		return err
	}
	d.full = false
	// The power may have failed while the filler was there.
	return removeSynced(d.filler())
}

// Unmount is repeated while the disk is busy: a process that was killed may
// still be on its way out.
func (d *Disk) Unmount() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := Poll(ctx, 50*time.Millisecond, func() (bool, error) {
		err := unix.Unmount(d.mount, 0)
		if errors.Is(err, unix.EBUSY) {
			return false, nil
		}
		if errors.Is(err, unix.EINVAL) {
			return true, nil // it is not mounted
		}
		return err == nil, err
	})
	if err != nil {
		// Leave nothing behind, whatever the test did wrong.
		return errors.Join(fmt.Errorf("unmount %s: %w", d.mount, err), unix.Unmount(d.mount, unix.MNT_DETACH))
	}
	return nil
}

// The request FS_IOC_SHUTDOWN, _IOR('X', 125, __u32), and its flag for "throw
// away what is not on the disk, the journal's tail too" (linux/fs.h).
const (
	fsIOCShutdown                = 0x8004587d
	fsGoingFlagsNoLogFlush       = 2
	fillerName                   = ".filler"
	fillerChunk            int64 = 1 << 20
)

// LosePower cuts the disk off: all I/O fails from now on, and what was not
// synced is not there at the next Mount. Unmount comes between the two.
func (d *Disk) LosePower() error {
	f, err := os.Open(d.mount)
	if err != nil {
		return fmt.Errorf("lose power: %w", err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), fsIOCShutdown, fsGoingFlagsNoLogFlush); err != nil {
		return fmt.Errorf("lose power of %s: %w", d.mount, err)
	}
	return nil
}

func (d *Disk) filler() string { return filepath.Join(d.mount, fillerName) }

// Fill takes all space that is free, to the last block.
func (d *Disk) Fill() error {
	f, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("fill the disk: %w", err)
	}
	defer f.Close()
	d.full = true
	var size int64
	for chunk := fillerChunk; chunk >= 4096; {
		err := unix.Fallocate(int(f.Fd()), 0, size, chunk)
		switch {
		case err == nil:
			size += chunk
		case errors.Is(err, unix.ENOSPC):
			chunk /= 2
		case !errors.Is(err, unix.EINTR):
			return fmt.Errorf("fill the disk: %w", err)
		}
	}
	return nil
}

// Free gives the space back, durably.
func (d *Disk) Free() error {
	if !d.full {
		return nil
	}
	d.full = false
	return removeSynced(d.filler())
}

// removeSynced removes a file so that it does not come back with the power.
func removeSynced(path string) error {
	if err := os.Remove(path); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// run is for the small tools of the system; their output is the error's text.
func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}
