package backup_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sluicewal/sluice/internal/backup"
)

// TestOneOfManyCreates: the whole of identity, seals and claims rests on it.
func TestOneOfManyCreates(t *testing.T) {
	rounds := map[string]int{"file": 150, "mem": 300}
	everywhere(t, func(t *testing.T, p place) {
		const writers = 8
		s := p.node(t, backup.Config{Node: "a"})
		for round := range max(rounds[p.name], 15) {
			key := fmt.Sprintf("race/%d/x", round)
			var created atomic.Int32
			var winner atomic.Pointer[[]byte]
			var wg sync.WaitGroup
			start := make(chan struct{})
			for w := range writers {
				wg.Go(func() {
					mine := bytes.Repeat([]byte{byte(w)}, 100)
					<-start
					won, err := s.PutIfAbsent(t.Context(), key, mine)
					if err != nil {
						t.Error(err)
					}
					if won {
						created.Add(1)
						winner.Store(&mine)
					}
				})
			}
			close(start)
			wg.Wait()
			there, err := s.ReadAll(t.Context(), key)
			if n := created.Load(); err != nil || n != 1 || !bytes.Equal(there, *winner.Load()) {
				t.Fatalf("round %d: %d created it, %v; there is %x", round, n, err, there[:1])
			}
		}
	})
}

// TestStoreIsOne: whoever opens it sees the same id, and a second opening finds the probe of the first.
func TestStoreIsOne(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		a, b := p.node(t, backup.Config{Node: "a"}), p.node(t, backup.Config{Node: "b"})
		again := p.node(t, backup.Config{Node: "a"})
		if a.ID() == "" || a.ID() != b.ID() || a.ID() != again.ID() {
			t.Errorf("ids %q, %q and %q", a.ID(), b.ID(), again.ID())
		}
	})
}

func TestReadOnlyCreatesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "objects")
	if _, err := backup.Open(t.Context(), "file://"+dir, backup.Config{ReadOnly: true}); err == nil {
		t.Error("a store that is not there was opened")
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("its directory was made")
	}
	must(t, os.Mkdir(dir, 0o700))
	if _, err := backup.Open(t.Context(), "file://"+dir, backup.Config{ReadOnly: true}); !errors.Is(err, backup.ErrNoBucket) {
		t.Errorf("an empty directory: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("it holds %v, %v", entries, err)
	}
	want := open(t, "file://"+dir, backup.Config{}).ID()
	s, err := backup.Open(t.Context(), "file://"+dir, backup.Config{ReadOnly: true})
	must(t, err)
	if s.ID() != want {
		t.Errorf("its id is %s, want %s", s.ID(), want)
	}
	must(t, s.Close())
}

func TestURLsThatAreNone(t *testing.T) {
	for _, url := range []string{"", "ftp://x", "file://host/dir", "file:///dir?create_dir=1", "s3://b?nonsense=1", "://", "/just/a/path"} {
		if s, err := backup.Open(t.Context(), url, backup.Config{Node: "a"}); err == nil {
			t.Errorf("%q was opened", url)
			must(t, s.Close())
		}
	}
}

// TestRelativeDirectory is the default of the configuration: it is made when it is missing.
func TestRelativeDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	open(t, "file://./a/b", backup.Config{})
	if _, err := os.Stat("a/b/sluice.json"); err != nil {
		t.Error(err)
	}
}

// TestUnmountedStoreIsNotEmpty: a mount point without its file system has nothing; that says nothing about the store.
func TestUnmountedStoreIsNotEmpty(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "objects")
	s := open(t, "file://"+dir, backup.Config{})
	tl := newTimeline(t, s, backup.Zstd)
	put(t, tl, 1, 1)
	must(t, os.Rename(dir, dir+".unmounted"))
	must(t, os.Mkdir(dir, 0o700))
	if _, err := tl.PutSegment(t.Context(), 1, 2, source(segment(2))); !errors.Is(err, backup.ErrNoBucket) {
		t.Errorf("put: %v", err)
	}
	if _, err := tl.SurveySegment(t.Context(), 1); !errors.Is(err, backup.ErrNoBucket) {
		t.Errorf("survey: %v", err)
	}
	if _, err := tl.SurveyHistory(t.Context(), 2); !errors.Is(err, backup.ErrNoBucket) {
		t.Errorf("survey of a history: %v", err)
	}
	open(t, "file://"+dir, backup.Config{}) // somebody makes another store of it
	if err := s.Confirm(t.Context()); !errors.Is(err, backup.ErrNoBucket) {
		t.Errorf("another store: %v", err)
	}
}

// TestStrayTemporaryFilesAreNoObjects: a crash leaves them behind.
func TestStrayTemporaryFilesAreNoObjects(t *testing.T) {
	dir := t.TempDir()
	s := open(t, "file://"+dir, backup.Config{})
	tl := newTimeline(t, s, backup.Zstd)
	put(t, tl, 1, 1)
	must(t, os.WriteFile(filepath.Join(dir, tl.Prefix(), "wal", ".sluice-tmp-123"), []byte("half"), 0o600))
	l, err := tl.List(t.Context())
	must(t, err)
	if len(l.Segments) != 1 || len(l.Quarantined) != 0 {
		t.Errorf("listed is %+v", l)
	}
	entries, err := os.ReadDir(filepath.Join(dir, tl.Prefix(), "wal"))
	must(t, err)
	if len(entries) != 2 {
		t.Errorf("a put left %d files", len(entries)-1)
	}
}

// TestDirectoryIsListedAsTheLibraryDoes, where nothing is being written: with and without a delimiter, whatever the prefix.
func TestDirectoryIsListedAsTheLibraryDoes(t *testing.T) {
	dir := t.TempDir()
	s := open(t, "file://"+dir, backup.Config{})
	for _, key := range []string{"a/b/1", "a/b/2", "a/b/c/3", "a/b-c/4", "a/b.5", "a/d/e/6", "ab/7", "b/8"} {
		path := filepath.Join(dir, key)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, []byte(key), 0o600))
	}
	must(t, os.MkdirAll(filepath.Join(dir, "a/empty/of/all"), 0o700))
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/b/", "a/b/c", "a/b/c/", "a/d/", "a/x/", "a/b/1", "ab/", "x/y/"} {
		for _, delimiter := range []string{"", "/"} {
			ours, library := s.ListBothWays(t.Context(), prefix, delimiter)
			if ours != library {
				t.Errorf("%q, delimiter %q: listed is\n%s\nthe library has\n%s", prefix, delimiter, ours, library)
			}
		}
	}
}

// TestListingIsNotDisturbedByWhatVanishes: an upload beside it makes a file in the same directory, and it goes.
func TestListingIsNotDisturbedByWhatVanishes(t *testing.T) {
	dir := t.TempDir()
	s := open(t, "file://"+dir, backup.Config{})
	tl := newTimeline(t, s, backup.Zstd)
	put(t, tl, 1, 1)
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		path := filepath.Join(dir, tl.Prefix(), "wal", ".sluice-tmp-123")
		for {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Remove(path)); err != nil {
				ended <- err
				return
			}
		}
	}()
	for range 300 {
		if l, err := tl.List(t.Context()); err != nil || len(l.Segments) != 1 {
			t.Errorf("listed is %+v, %v", l, err)
			break
		}
	}
	close(stop)
	must(t, <-ended)
}
