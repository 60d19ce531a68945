package timeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

const (
	mib      = 1 << 20
	seg      = pg.SegmentSize(mib)
	systemID = 7_000_000_000_000_000_001
	// start is where the sources of these tests begin: a new cluster's first segment is the second.
	start = pg.LSN(seg)

	timelinesDir = "/tenants/acme/timelines"
	dir          = timelinesDir + "/main"
)

var (
	id      = timeline.ID{Tenant: "acme", Name: "main"}
	errStop = errors.New("the test stops")
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func config(fsys wal.FS) timeline.Config {
	return timeline.Config{Dir: dir, FS: fsys, NodeID: "a"}
}

// create makes the timeline on a new disk; it is shut down with the test.
func create(t *testing.T, fsys wal.FS) *timeline.Timeline {
	t.Helper()
	tl, err := timeline.Create(t.Context(), config(fsys), id, timeline.Creation{})
	must(t, err)
	t.Cleanup(func() { _ = tl.Shutdown(context.Background(), errStop) })
	return tl
}

// open opens it again; it must not be broken.
func open(t *testing.T, fsys wal.FS) *timeline.Timeline {
	t.Helper()
	tl, err := timeline.Open(t.Context(), config(fsys), id)
	must(t, err)
	t.Cleanup(func() { _ = tl.Shutdown(context.Background(), errStop) })
	if state, why := tl.State(); state != timeline.StateRunning {
		t.Fatalf("opened as %s: %v", state, why)
	}
	return tl
}

// shutdown ends a timeline, and returns its disk as the next process finds it.
func shutdown(t *testing.T, tl *timeline.Timeline, fsys *crashfs.FS) *crashfs.FS {
	t.Helper()
	must(t, tl.Shutdown(t.Context(), errStop))
	if n := fsys.OpenFiles(); n != 0 {
		t.Errorf("%d files are open after the shutdown", n)
	}
	return fsys.Restart(crashfs.Survivors{})
}

// newSource begins WAL on TLI 1.
func newSource() *pgtest.Writer { return pgtest.NewWriter(start, seg, 1, systemID) }

// source returns WAL of records of about size bytes, up to at least end.
func source(size int, end pg.LSN) *pgtest.Writer {
	w := newSource()
	recordsTo(w, size, end)
	return w
}

func recordsTo(w *pgtest.Writer, size int, end pg.LSN) {
	for w.End() < end {
		w.Record(size)
	}
}

// slice returns the source's bytes between two positions.
func slice(w *pgtest.Writer, from, to pg.LSN) []byte { return w.Bytes()[from-w.Start() : to-w.Start()] }

func position(tli pg.TLI, lsn pg.LSN) pg.Position { return pg.Position{TLI: tli, LSN: lsn} }

func adoption(flush pg.LSN) timeline.Adoption {
	return timeline.Adoption{SystemID: systemID, SegmentSize: seg, Start: position(1, start), SourceFlush: flush}
}

// history is the history of a TLI that left its parent, the number before, at fork.
func history(tli pg.TLI, forks ...pg.LSN) (pg.History, []byte) {
	h := pg.History{TLI: tli}
	var raw []byte
	for i, fork := range forks {
		parent := tli - pg.TLI(len(forks)) + pg.TLI(i)
		h.Forks = append(h.Forks, pg.Fork{TLI: parent, LSN: fork, Reason: "no recovery target specified"})
		raw = fmt.Appendf(raw, "%d\t%s\tno recovery target specified\n", parent, fork)
	}
	return h, raw
}

// session receives as a receiver does: WAL from w up to an LSN, all of it synced. The first session adopts.
func session(ctx context.Context, tl *timeline.Timeline, w *pgtest.Writer, to pg.LSN) error {
	end, err := tl.BeginReceive()
	if err != nil {
		return err
	}
	defer end()
	if err := tl.PrepareReceive(ctx); err != nil {
		return err
	}
	if tl.Held().SystemID == 0 {
		if err := tl.Adopt(ctx, adoption(to)); err != nil {
			return err
		}
	}
	return stream(tl, w, to)
}

// stream appends in pieces of an odd size, and syncs now and then.
func stream(tl *timeline.Timeline, w *pgtest.Writer, to pg.LSN) error {
	from := tl.Log().Rewind()
	for i := 1; from < to; i++ {
		next := min(to, from+60_001)
		if err := tl.Log().Append(from, slice(w, from, next)); err != nil {
			return err
		}
		from = next
		if i%3 == 0 {
			if err := sync(tl); err != nil {
				return err
			}
		}
	}
	return sync(tl)
}

func sync(tl *timeline.Timeline) error {
	_, err := tl.Log().Sync()
	tl.Synced()
	return err
}

func receive(t *testing.T, tl *timeline.Timeline, w *pgtest.Writer, to pg.LSN) {
	t.Helper()
	must(t, session(t.Context(), tl, w, to))
}

// follow goes over to TLI 2.
func follow(t *testing.T, tl *timeline.Timeline, fork pg.LSN) {
	t.Helper()
	h, raw := history(2, fork)
	must(t, tl.PrepareReceive(t.Context()))
	must(t, tl.Follow(t.Context(), h, raw))
}

// reading is one of the source's settings, on the newest TLI.
func reading(tl *timeline.Timeline, names string) timeline.Reading {
	return timeline.Reading{SystemID: systemID, TLI: tl.Held().Position.TLI, SyncStandbyNames: names}
}

func setQuorum(t *testing.T, tl *timeline.Timeline, names string) {
	t.Helper()
	must(t, tl.SetQuorum(t.Context(), reading(tl, names)))
}

// held reads what is durable, from the start of the first segment on.
func held(t *testing.T, tl *timeline.Timeline) []byte {
	t.Helper()
	l := tl.Log()
	var all []byte
	for n := seg.SegNo(start); seg.Start(n) < l.Flushed().LSN; n++ {
		all = append(all, readSegment(t, l, n)...)
	}
	return all
}

// readSegment reads a segment of the newest TLI that has it.
func readSegment(t *testing.T, l *wal.Log, n pg.SegNo) []byte {
	t.Helper()
	for tli := l.Flushed().TLI; tli > 0; tli-- {
		r, err := l.OpenSegment(tli, n)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		must(t, err)
		b, err := io.ReadAll(io.NewSectionReader(r, 0, int64(seg)))
		must(t, errors.Join(err, r.Close()))
		return b
	}
	t.Fatalf("segment %d is not there", n)
	return nil
}

// wantHeld checks that what is durable is the source's up to a position.
func wantHeld(t *testing.T, tl *timeline.Timeline, w *pgtest.Writer, want pg.Position) {
	t.Helper()
	if got := tl.Log().Flushed(); got != want {
		t.Fatalf("durable to %s, want %s", got, want)
	}
	if !bytes.Equal(held(t, tl), slice(w, start, want.LSN)) {
		t.Fatalf("what is held up to %s is not what was sent", want)
	}
}

// names lists a directory.
func names(t *testing.T, fsys wal.FS, dir string) []string {
	t.Helper()
	infos, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	must(t, err)
	var all []string
	for _, i := range infos {
		all = append(all, i.Name())
	}
	return all
}

// control is what the disk has.
func control(t *testing.T, fsys wal.FS) timeline.Control {
	t.Helper()
	c, err := timeline.LoadControl(fsys, dir)
	must(t, err)
	return c
}

// failOn makes the operations fail that match; the hook is taken away by the caller.
func failOn(fsys *crashfs.FS, name, path string, err error) {
	fsys.Inject(func(op crashfs.Op) error {
		if op.Name == name && filepath.Base(op.Path) == path {
			return err
		}
		return nil
	})
}
