package wal_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

func TestWriteFileAtomicIsAllOrNothing(t *testing.T) {
	write := func(disk *crashfs.FS, data string) error { return wal.WriteFileAtomic(disk, "/control", []byte(data)) }
	disk := crashfs.New()
	if err := write(disk, "old"); err != nil {
		t.Fatal(err)
	}
	count := disk.Ops()
	if err := write(disk, "new, and longer"); err != nil {
		t.Fatal(err)
	}
	for n := count + 1; n <= disk.Ops(); n++ {
		for _, kept := range []crashfs.Survivors{{}, {Killed: true}, {Seed: 1}, {Seed: 2}, {Seed: 3}} {
			for _, fault := range []error{syscall.EIO, crashfs.ErrCrashed} {
				disk := crashfs.New()
				if err := write(disk, "old"); err != nil {
					t.Fatal(err)
				}
				disk.Inject(crashfs.FailNth(n, fault))
				err := write(disk, "new, and longer")
				if err == nil {
					t.Fatalf("operation %d failed, and nobody said so", n)
				}
				got := string(file(t, disk.Restart(kept), "/control"))
				if got != "old" && got != "new, and longer" {
					t.Errorf("operation %d, %v, %+v: %q", n, fault, kept, got)
				}
			}
		}
	}
	if got := string(file(t, disk.Restart(crashfs.Survivors{}), "/control")); got != "new, and longer" {
		t.Errorf("%q is durable", got)
	}
}

func TestReadFileRefusesWhatIsTooLarge(t *testing.T) {
	disk := crashfs.New()
	overwrite(t, disk, "/control", make([]byte, 100))
	if b, err := wal.ReadFile(disk, "/control", 100); len(b) != 100 || err != nil {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if _, err := wal.ReadFile(disk, "/control", 99); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("read: %v", err)
	}
	if _, err := wal.ReadFile(disk, "/nothing", 99); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read: %v", err)
	}
}

// What crashfs pretends to be, OSFS must be: the same calls, the same answers.
func TestOSFSAnswersAsCrashFSDoes(t *testing.T) {
	tmp := t.TempDir()
	for name, disk := range map[string]struct {
		fs  wal.FS
		dir string
	}{"os": {wal.OSFS{}, tmp}, "crashfs": {crashfs.New(), "/tmp"}} {
		t.Run(name, func(t *testing.T) {
			p := func(s string) string { return filepath.Join(disk.dir, s) }
			if err := errors.Join(disk.fs.MkdirAll(p("a/b/c")), disk.fs.MkdirAll(p("a/b/c"))); err != nil {
				t.Fatal(err)
			}
			f, err := disk.fs.Create(p("a/f"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte("hello"), 5000); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 3)
			if n, err := f.ReadAt(b, 5001); n != 3 || err != nil || string(b) != "ell" {
				t.Errorf("read %q, %v", b[:n], err)
			}
			if n, err := f.ReadAt(b, 5004); n != 1 || err == nil {
				t.Errorf("read at the end: %d, %v", n, err)
			}
			if size, err := f.Size(); size != 5005 || err != nil {
				t.Errorf("size %d, %v", size, err)
			}
			if err := errors.Join(f.Sync(), f.Datasync(), f.Close()); err != nil {
				t.Error(err)
			}
			if f.Close() == nil || f.Datasync() == nil {
				t.Error("a closed file works")
			}
			for what, err := range map[string]error{
				"link":   disk.fs.Link(p("a/f"), p("a/g")),
				"rename": disk.fs.Rename(p("a/f"), p("a/b/f")),
				"sync":   disk.fs.SyncDir(p("a")),
				"gone":   disk.fs.RemoveAll(p("nothing")),
			} {
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			if err := disk.fs.Link(p("a/g"), p("a/b/f")); !errors.Is(err, fs.ErrExist) {
				t.Errorf("link over a file: %v", err)
			}
			if err := disk.fs.Remove(p("a")); err == nil {
				t.Error("removed a directory that is not empty")
			}
			for _, err := range []error{
				errorOf(disk.fs.Open(p("x"))), errorOf(disk.fs.OpenRW(p("x"))), errorOf(disk.fs.Stat(p("x"))),
				errorOf(disk.fs.ReadDir(p("x"))), disk.fs.Remove(p("x")), disk.fs.Rename(p("x"), p("y")), errorOf(disk.fs.Create(p("x/y"))),
			} {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("what is not there: %v", err)
				}
			}
			if got := strings.Join(names(t, disk.fs, p("a")), " "); got != "b g" {
				t.Errorf("files %q", got)
			}
			if i, err := disk.fs.Stat(p("a/g")); err != nil || i.Size() != 5005 || !i.Mode().IsRegular() {
				t.Errorf("stat: %v, %v", i, err)
			}
			if i, err := disk.fs.Stat(p("a/b")); err != nil || !i.IsDir() {
				t.Errorf("stat: %v, %v", i, err)
			}
			if err := disk.fs.RemoveAll(p("a")); err != nil {
				t.Error(err)
			}
			if _, err := disk.fs.Stat(p("a")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("stat: %v", err)
			}
		})
	}
}

func errorOf[T any](_ T, err error) error { return err }

func TestLockIsHeldOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := wal.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	var locked *wal.LockedError
	if _, err := wal.Lock(path); !errors.As(err, &locked) || !strings.HasPrefix(locked.Holder, "process ") {
		t.Errorf("second lock: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = wal.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

const lockEnv = "SLUICE_TEST_LOCK"

// TestLockOfAKilledProcessIsFree locks in a child process, which a signal ends.
func TestLockOfAKilledProcessIsFree(t *testing.T) {
	if path := os.Getenv(lockEnv); path != "" {
		if _, err := wal.Lock(path); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stdout.WriteString("locked\n"); err != nil {
			t.Fatal(err)
		}
		select {} // until the signal
	}
	path := filepath.Join(t.TempDir(), "lock")
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), lockEnv+"="+path)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 7)
	if n, err := out.Read(b); err != nil || string(b[:n]) != "locked\n" {
		t.Fatalf("the child says %q, %v", b[:n], err)
	}
	var locked *wal.LockedError
	if _, err := wal.Lock(path); !errors.As(err, &locked) || !strings.Contains(locked.Holder, "process ") {
		t.Errorf("lock of a living process: %v", err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // says that it was killed
	l, err := wal.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
