package wal_test

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

func TestSyncCoversWhatWasAppendedBeforeItBegan(t *testing.T) {
	w := source(1000, start+mib/2)
	fs := crashfs.New()
	l := newLog(t, fs)
	appendAll(t, l, w, start, start+8192)

	syncing, goOn := make(chan struct{}), make(chan struct{})
	fs.Inject(func(op crashfs.Op) error {
		if op.Name == "Datasync" {
			close(syncing)
			<-goOn
		}
		return nil
	})
	flushed := make(chan pg.LSN)
	go func() {
		flush, err := l.Sync()
		if err != nil {
			t.Error(err)
		}
		flushed <- flush
	}()
	<-syncing
	if l.Stats().SyncSince.IsZero() {
		t.Error("a sync is running, and it cannot be seen")
	}
	appendAll(t, l, w, start+8192, start+16384) // does not wait for the sync
	if got := l.Stats(); got.Flush.LSN != start || got.Write.LSN != start+16384 {
		t.Errorf("while syncing: %+v", got)
	}
	close(goOn)
	if got := <-flushed; got != start+8192 {
		t.Errorf("flushed %s, want what was there when the sync began", got)
	}
	fs.Inject(nil)
	if !l.Stats().SyncSince.IsZero() {
		t.Error("no sync is running")
	}
	if got := mustSync(t, l); got != start+16384 {
		t.Errorf("flushed %s", got)
	}
}

func TestSyncWithNothingToDoDoesNothing(t *testing.T) {
	w := source(1000, start+mib/2)
	l, fs := filledLog(t, w, w.End())
	before := fs.Ops()
	if got := mustSync(t, l); got != w.End() || fs.Ops() != before {
		t.Errorf("flushed %s with %d operations", got, fs.Ops()-before)
	}
}

func TestFailedSyncPoisonsTheLog(t *testing.T) {
	for name, drop := range map[string]bool{"reads show what was lost": false, "reads show what is on disk": true} {
		t.Run(name, func(t *testing.T) {
			w := source(1000, start+mib/2)
			fs := crashfs.New()
			if drop {
				fs.DropLostPages()
			}
			var poisons atomic.Int32
			cfg := wal.Config{FS: fs, SegmentSize: seg, Events: wal.Events{Poisoned: func(*wal.Poison) { poisons.Add(1) }}}
			l, err := wal.Open(dir, cfg, wal.Vouched{})
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Start(position(1, start)); err != nil {
				t.Fatal(err)
			}
			appendAll(t, l, w, start, start+100_000)
			mustSync(t, l)
			appendAll(t, l, w, start+100_000, start+200_000)

			fails := 1
			syncs := 0
			fs.Inject(func(op crashfs.Op) error {
				if op.Name != "Datasync" {
					return nil
				}
				if syncs++; syncs <= fails {
					return syscall.EIO
				}
				return nil
			})
			var poison *wal.Poison
			flush, err := l.Sync()
			if flush != start+100_000 || !errors.Is(err, wal.ErrPoisoned) || !errors.As(err, &poison) || !errors.Is(err, syscall.EIO) {
				t.Fatalf("sync: %s, %v", flush, err)
			}
			if poison.Vouched != position(1, start+100_000) || l.Stats().Poisoned != poison || poisons.Load() != 1 {
				t.Errorf("poison %+v, %d events", poison, poisons.Load())
			}
			// The kernel would say yes now. It is not asked.
			if flush, err := l.Sync(); flush != start+100_000 || !errors.Is(err, wal.ErrPoisoned) || syncs != 1 {
				t.Errorf("second sync: %s, %v; %d syncs were tried", flush, err, syncs)
			}
			if err := l.Append(start+200_000, slice(w, start+200_000, start+200_001)); !errors.Is(err, wal.ErrPoisoned) {
				t.Errorf("append: %v", err)
			}
			if err := l.Recover(); err != nil {
				t.Fatal(err)
			}
			wantHeld(t, l, w, position(1, start+100_000))
			if l.Position() != l.Flushed() {
				t.Errorf("position %s: what was not vouched for is still there", l.Position())
			}
			appendAll(t, l, w, l.Rewind(), w.End())
			mustSync(t, l)
			mustClose(t, l)

			l = openLog(t, fs.Restart(crashfs.Survivors{}), closed(l))
			wantHeld(t, l, w, position(1, w.End()))
		})
	}
}

func TestFailedWritePoisonsTheLog(t *testing.T) {
	w := source(1000, start+mib/2)
	l, fs := filledLog(t, w, start+100_000)
	fs.Inject(func(op crashfs.Op) error {
		if op.Name == "WriteAt" && strings.HasSuffix(op.Path, pg.PartialSuffix) {
			return io.ErrShortWrite
		}
		return nil
	})
	err := l.Append(start+100_000, slice(w, start+100_000, start+200_000))
	if !errors.Is(err, wal.ErrPoisoned) || !errors.Is(err, io.ErrShortWrite) {
		t.Fatalf("append: %v", err)
	}
	if _, err := l.Sync(); !errors.Is(err, wal.ErrPoisoned) {
		t.Errorf("sync: %v", err)
	}
	fs.Inject(nil)
	if err := l.Recover(); err != nil {
		t.Fatal(err)
	}
	appendAll(t, l, w, l.Rewind(), w.End())
	mustSync(t, l)
	wantHeld(t, l, w, position(1, w.End()))
}

// A sync that was running when a write failed says nothing any more.
func TestPoisonStopsTheSyncThatIsRunning(t *testing.T) {
	w := source(1000, start+mib/2)
	l, fs := filledLog(t, w, start+100_000)
	appendAll(t, l, w, start+100_000, start+200_000)
	syncing, goOn := make(chan struct{}), make(chan struct{})
	fs.Inject(func(op crashfs.Op) error {
		switch op.Name {
		case "Datasync":
			close(syncing)
			<-goOn
		case "WriteAt":
			return syscall.EIO
		}
		return nil
	})
	result := make(chan error)
	go func() {
		_, err := l.Sync()
		result <- err
	}()
	<-syncing
	if err := l.Append(start+200_000, slice(w, start+200_000, start+300_000)); !errors.Is(err, wal.ErrPoisoned) {
		t.Errorf("append: %v", err)
	}
	vouched := l.Stats().Poisoned.Vouched
	close(goOn)
	if err := <-result; !errors.Is(err, wal.ErrPoisoned) {
		t.Errorf("sync: %v", err)
	}
	if l.Flushed() != vouched {
		t.Errorf("flushed %s, vouched for %s", l.Flushed(), vouched)
	}
}

func TestRecoverMayBeTriedAgain(t *testing.T) {
	w := source(1000, start+mib/2)
	l, fs := filledLog(t, w, start+100_000)
	appendAll(t, l, w, start+100_000, start+200_000)
	fs.Inject(func(op crashfs.Op) error {
		if op.Mutates {
			return syscall.EIO
		}
		return nil
	})
	if _, err := l.Sync(); !errors.Is(err, wal.ErrPoisoned) {
		t.Fatalf("sync: %v", err)
	}
	for range 3 {
		if err := l.Recover(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("recover on a dead disk: %v", err)
		}
		if _, err := l.Sync(); !errors.Is(err, wal.ErrPoisoned) {
			t.Fatalf("sync: %v", err)
		}
	}
	fs.Inject(nil)
	if err := l.Recover(); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, l, w, position(1, start+100_000))
}

func TestRecoverWithoutPoisonDoesNothing(t *testing.T) {
	w := source(1000, start+mib/2)
	l, fs := filledLog(t, w, start+100_000)
	before := fs.Ops()
	if err := l.Recover(); err != nil || fs.Ops() != before {
		t.Errorf("%v, %d operations", err, fs.Ops()-before)
	}
}

func TestCloseSyncs(t *testing.T) {
	w := source(1000, start+mib/2)
	fs := crashfs.New()
	l := newLog(t, fs)
	appendAll(t, l, w, start, w.End())
	mustClose(t, l)
	mustClose(t, l)
	if got := l.Flushed(); got != position(1, w.End()) {
		t.Errorf("flushed %s", got)
	}
	if err := l.Append(w.End(), []byte{1}); !errors.Is(err, wal.ErrClosed) {
		t.Errorf("append: %v", err)
	}
	if _, err := l.Sync(); !errors.Is(err, wal.ErrClosed) {
		t.Errorf("sync: %v", err)
	}
	if _, err := l.OpenSegment(1, 1); !errors.Is(err, wal.ErrClosed) {
		t.Errorf("open segment: %v", err)
	}
	if got := names(t, fs, dir); len(got) != 1 || fs.OpenFiles() != 0 {
		t.Errorf("files %q, %d open", got, fs.OpenFiles())
	}
}

// Append, Sync, readers and Stats at once, for the race detector; what is read is checked.
func TestWriterSyncerAndReadersAtOnce(t *testing.T) {
	w := source(3000, start+4*mib)
	l := newLog(t, crashfs.New())
	done := make(chan struct{})
	syncer := make(chan struct{})
	go func() {
		defer close(syncer)
		for running := true; running; {
			select {
			case <-done:
				running = false
			default:
			}
			if _, err := l.Sync(); err != nil {
				t.Error(err)
				return
			}
			s := l.Stats()
			if s.Flush.LSN > s.Write.LSN || s.CommitEnd > s.Flush.LSN {
				t.Errorf("flush %s, write %s, commit end %s", s.Flush, s.Write, s.CommitEnd)
			}
		}
	}()
	reader := make(chan struct{})
	go func() {
		defer close(reader)
		for range 50 {
			flush := l.Flushed().LSN
			if flush > start && !equal(t, l, w, flush) {
				t.Errorf("what is read up to %s is not what was sent", flush)
			}
		}
	}()
	appendAll(t, l, w, start, w.End())
	close(done)
	<-syncer
	<-reader
	wantHeld(t, l, w, position(1, w.End()))
}

// equal compares the last durable page.
func equal(t *testing.T, l *wal.Log, w interface{ Bytes() []byte }, flush pg.LSN) bool {
	t.Helper()
	last := flush - 1
	r, err := l.OpenSegment(1, seg.SegNo(last))
	if err != nil {
		t.Error(err)
		return false
	}
	defer func() { _ = r.Close() }()
	b := make([]byte, 1)
	if _, err := r.ReadAt(b, seg.Offset(last)); err != nil {
		t.Error(err)
		return false
	}
	return b[0] == w.Bytes()[last-start]
}
