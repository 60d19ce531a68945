package wal

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// onDisk runs a test where O_DIRECT works and where it does not.
func onDisk(t *testing.T, test func(t *testing.T, dir string)) {
	t.Run("here", func(t *testing.T) { test(t, t.TempDir()) })
	t.Run("tmpfs", func(t *testing.T) {
		dir, err := os.MkdirTemp("/dev/shm", "sluice-test-") //nolint:usetesting // the place is the point
		if err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		test(t, dir)
	})
}

func create(t *testing.T, dir string) *file {
	t.Helper()
	f, err := OSFS{}.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f.(*file)
}

// aligned returns memory in which b[i] lies as off+i does in a file.
func aligned(off, n int64) []byte {
	mem := make([]byte, n+3*directAlign) // a place is up to one in, its head up to one long, and one is to be left
	for i := range mem {
		if head, body := alignedPart(mem[i:], off); len(body) > 0 && head == int(-off&(directAlign-1)) {
			return mem[i : i+int(n)]
		}
	}
	panic("no place is aligned")
}

func TestDirectAndOrdinaryWritesSeeEachOther(t *testing.T) {
	onDisk(t, func(t *testing.T, dir string) {
		f := create(t, dir)
		const size = 1 << 20
		if err := f.Allocate(size); err != nil {
			t.Fatal(err)
		}
		want := make([]byte, size)
		r := rand.NewChaCha8([32]byte{1})
		for off := int64(0); off < size; {
			n := min(size-off, 1+int64(r.Uint64()%50_000))
			p := aligned(off, n)
			_, _ = r.Read(p)
			copy(want[off:], p)
			write := f.WriteDirect
			if r.Uint64()%3 == 0 {
				write = f.WriteAt
			}
			if got, err := write(p, off); err != nil || got != len(p) {
				t.Fatalf("%d bytes at %d: %d, %v", len(p), off, got, err)
			}
			off += n
			check(t, f, want)
		}
		if err := f.Datasync(); err != nil {
			t.Fatal(err)
		}
		check(t, f, want)
	})
}

func check(t *testing.T, f *file, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := f.ReadAt(got, 0); err != nil && !errors.Is(err, io.EOF) || n != len(want) {
		t.Fatalf("read %d bytes: %v", n, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("what is read is not what was written")
	}
}

func TestDirectWritesAreUsedWhereTheyCanBe(t *testing.T) {
	onDisk(t, func(t *testing.T, dir string) {
		probe, err := os.OpenFile(filepath.Join(dir, "probe"), os.O_CREATE|os.O_WRONLY|unix.O_DIRECT, 0o600)
		possible := err == nil
		if possible {
			_ = probe.Close()
		}
		f := create(t, dir)
		if _, err := f.WriteDirect(aligned(0, 64<<10), 0); err != nil {
			t.Fatal(err)
		}
		if f.direct.refused == possible || (f.direct.file != nil) != possible {
			t.Errorf("%+v; O_DIRECT is possible here: %t", f.direct, possible)
		}
	})
}

// A disk that wants larger blocks than ours says so at the first write. Nothing is lost by that.
func TestRefusedDirectWriteIsDoneOrdinarily(t *testing.T) {
	f := create(t, t.TempDir())
	if !f.direct.usable(f.File) {
		t.Skip("no O_DIRECT here")
	}
	p := aligned(0, 64<<10+10)
	p[0], p[len(p)-1] = 1, 2
	// A length that is no multiple of the block is what the kernel refuses.
	if n, err := f.direct.writeAt(p[:100], 0); n != 0 || err != nil || !f.direct.refused {
		t.Fatalf("%d, %v, refused %t", n, err, f.direct.refused)
	}
	if n, err := f.WriteDirect(p, 0); n != len(p) || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	check(t, f, p)
}

// The second descriptor is opened by name, and a name may have gone to another file.
func TestDirectWritesGoToNoOtherFile(t *testing.T) {
	dir := t.TempDir()
	f := create(t, dir)
	if err := os.Rename(f.Name(), f.Name()+".old"); err != nil {
		t.Fatal(err)
	}
	other := create(t, dir)
	p := aligned(0, 64<<10)
	p[0] = 1
	if _, err := f.WriteDirect(p, 0); err != nil {
		t.Fatal(err)
	}
	check(t, f, p)
	if size, err := other.Size(); err != nil || size != 0 {
		t.Errorf("the other file has %d bytes (%v)", size, err)
	}
}
