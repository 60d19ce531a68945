package rig

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// The control of every power loss test: this disk really forgets.
func TestDiskForgetsWhatWasNotSynced(t *testing.T) {
	d := testDisk(t)
	synced, lost := filepath.Join(d.Dir(), "synced"), filepath.Join(d.Dir(), "lost")
	write(t, synced, true)
	write(t, lost, false)
	if err := d.LosePower(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.Dir(), "after"), nil, 0o600); err == nil {
		t.Error("a disk without power took a file")
	}
	if err := errors.Join(d.Unmount(), d.Mount()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(synced); err != nil || string(b) != "content" {
		t.Errorf("what was synced reads %q, %v", b, err)
	}
	if b, err := os.ReadFile(lost); err == nil && string(b) == "content" {
		t.Error("what was not synced is still there")
	}
}

func TestFullDiskTakesNothingUntilFreed(t *testing.T) {
	d := testDisk(t)
	if err := d.Fill(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(d.Dir(), "file")
	if err := os.WriteFile(file, make([]byte, 64<<10), 0o600); err == nil {
		t.Error("a full disk took 64 KiB")
	}
	if err := d.Free(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, make([]byte, 64<<10), 0o600); err != nil {
		t.Errorf("a disk with room again: %v", err)
	}
}

func testDisk(t *testing.T) *Disk {
	t.Helper()
	d, err := NewDisk(t, 32)
	if errors.Is(err, ErrNoDisk) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// write creates a file, and syncs it and its directory if asked.
func write(t *testing.T, path string, sync bool) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("content"); err != nil {
		t.Fatal(err)
	}
	if !sync {
		return
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
}
