package keeper

import (
	"context"
	"errors"
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
	start    = pg.LSN(seg) // where the sources of these tests begin
)

var (
	errTest = errors.New("the test says so")
	main1   = timeline.ID{Tenant: "acme", Name: "main"}
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// home is a data directory: its files on a disk that can fail, its lock where the operating system has it.
type home struct {
	dir string
	fs  wal.FS
}

func newHome(t *testing.T) *home { return &home{dir: t.TempDir(), fs: crashfs.New()} }

// disk is the file system, to make it fail.
func (h *home) disk() *crashfs.FS { return h.fs.(*crashfs.FS) }

// crash is the end of the machine with its node: some of what was not synced is gone.
func (h *home) crash(k *Keeper) {
	h.fs = h.disk().Restart(crashfs.Survivors{Seed: uint64(h.disk().Ops())})
	_ = k.Shutdown(context.Background()) // what runs finds no disk any more, and ends
	_ = k.unlock()
}

func (h *home) config() Config {
	return Config{NodeID: "a", DataDir: h.dir, FS: h.fs}
}

// start opens a node on it, which is shut down with the test.
func (h *home) start(t *testing.T, change ...func(*Config)) *Keeper {
	t.Helper()
	cfg := h.config()
	for _, c := range change {
		c(&cfg)
	}
	k, err := Open(t.Context(), cfg)
	must(t, err)
	t.Cleanup(func() {
		if err := k.Shutdown(context.Background()); err != nil && !errors.Is(err, crashfs.ErrCrashed) {
			t.Error(err)
		}
	})
	return k
}

// stop is an orderly end.
func stop(t *testing.T, k *Keeper) {
	t.Helper()
	must(t, k.Shutdown(t.Context()))
}

// create makes a timeline without a source.
func create(t *testing.T, k *Keeper, id timeline.ID) *Member {
	t.Helper()
	must(t, k.CreateTimeline(t.Context(), id, "", false))
	return member(t, k, id)
}

func member(t *testing.T, k *Keeper, id timeline.ID) *Member {
	t.Helper()
	m, err := k.Member(id)
	must(t, err)
	return m
}

// source returns WAL of records of about 1000 bytes, up to at least end.
func source(end pg.LSN) *pgtest.Writer {
	w := pgtest.NewWriter(start, seg, 1, systemID)
	for w.End() < end {
		w.Record(1000)
	}
	return w
}

// receive lets a timeline have WAL up to an LSN, durable, as its receiver would.
func receive(t *testing.T, m *Member, w *pgtest.Writer, to pg.LSN) {
	t.Helper()
	end, err := m.BeginReceive()
	must(t, err)
	defer end()
	must(t, m.PrepareReceive(t.Context()))
	if m.Log() == nil {
		must(t, m.Adopt(t.Context(), timeline.Adoption{
			SystemID: systemID, SegmentSize: seg, Start: pg.Position{TLI: 1, LSN: start}, SourceFlush: to,
		}))
	}
	from := m.Log().Rewind()
	must(t, m.Log().Append(from, w.Bytes()[from-start:to-start]))
	_, err = m.Log().Sync()
	m.Synced()
	must(t, err)
}

func setQuorum(t *testing.T, m *Member, names string) {
	t.Helper()
	must(t, m.SetQuorum(t.Context(), timeline.Reading{SystemID: systemID, TLI: m.Held().Position.TLI, SyncStandbyNames: names}))
}

// damage overwrites a timeline's control file.
func (h *home) damage(t *testing.T, id timeline.ID) {
	t.Helper()
	must(t, wal.WriteFileAtomic(h.fs, filepath.Join(timeline.Dir(h.dir, id), "control"), []byte("hello")))
}

// entries lists a directory below the data directory.
func (h *home) entries(t *testing.T, path ...string) []string {
	t.Helper()
	infos, err := h.fs.ReadDir(filepath.Join(append([]string{h.dir}, path...)...))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	must(t, err)
	var names []string
	for _, i := range infos {
		names = append(names, i.Name())
	}
	return names
}

func state(m *Member) timeline.State {
	s, _ := m.State()
	return s
}
