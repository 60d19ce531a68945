package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// What is handed back is what PostgreSQL wrote, or an error.

// damage is something that happens to a file of the node's.
type damage struct {
	name string
	do   func(path string) error
}

var damages = []damage{
	{"a flipped bit", func(path string) error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		// Inside of a record, where PostgreSQL's checksum reaches; the bytes
		// between records belong to nobody.
		at := bytes.Index(b, []byte("marker"))
		if at < 0 {
			return errors.New("no marker in " + path)
		}
		b[at] ^= 1
		return os.WriteFile(path, b, 0o600)
	}},
	{"cut off in the middle", func(path string) error { return os.Truncate(path, 300<<10) }},
	{"empty", func(path string) error { return os.Truncate(path, 0) }},
	{"missing", os.Remove},
}

// F4
func TestDamagedSegmentStopsRecovery(t *testing.T) {
	b := newBench(t)
	b.explains("segments were damaged on purpose", ".")
	whole := b.marked()
	b.do(b.primary.Exec(b.ctx, "SELECT pg_switch_wal()"))
	b.commit(b.primary, 3)
	open := b.marked() + pg.PartialSuffix
	b.do(b.primary.Kill())
	_, err := b.node.Seal(b.ctx)
	b.do(err)
	for _, file := range []string{whole, open} {
		for _, d := range damages {
			t.Run(file+" "+d.name, func(t *testing.T) { b.damaged(t, file, d) })
		}
	}
	b.has(b.restore(b.node.RestoreCommand(), nil)) // with all repaired
}

// marked writes a marker, and enough after it that it is no record's last
// chance; it returns the segment's name.
func (b *bench) marked() string {
	b.t.Helper()
	const emit = "SELECT pg_logical_emit_message(false, 'test', repeat('%s', %d))"
	b.do(b.primary.Exec(b.ctx, fmt.Sprintf(emit, "x", 400<<10)))
	b.do(b.primary.Exec(b.ctx, fmt.Sprintf(emit, "marker", 1000)))
	b.commit(b.primary, 3)
	name, err := b.primary.Value(b.ctx, "SELECT pg_walfile_name(pg_current_wal_lsn())")
	b.do(err)
	return name
}

// damaged damages a file, sees that it is not handed out, by the node or from
// its directory, that a recovery stops, and repairs it.
func (b *bench) damaged(t *testing.T, file string, d damage) {
	path := filepath.Join(b.node.WALDir(), file)
	good, err := os.ReadFile(path)
	b.do(err)
	b.do(d.do(path))
	segment := strings.TrimSuffix(file, pg.PartialSuffix)
	for _, from := range [][]string{{"--server", b.node.URL()}, {"--data-dir", b.node.DataDir()}} {
		r, out := b.fetch(segment, from...)
		if _, err := os.Stat(out); r.Code != 126 || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("wal-fetch %s: exit %d, file: %v; want 126 and none", from[0], r.Code, err)
		}
		if !strings.Contains(r.Stderr, segment) {
			t.Errorf("wal-fetch %s does not name the segment: %s", from[0], r.Stderr)
		}
	}
	b.restoreStops(b.node.OfflineRestoreCommand())
	b.do(os.WriteFile(path, good, 0o600))
	b.do(rig.Give(path))
}

// F2
func TestArchivingStandbySpreadsOnlyRealSegments(t *testing.T) {
	b := newBench(t)
	archive, err := rig.MakeDir(b.dir, "archive")
	b.do(err)
	dir := b.newDir()
	b.do(rig.CopyTree(b.ctx, b.backup, dir))
	b.do(pgserver.PrepareStandby(dir, "", map[string]string{
		"restore_command": b.node.RestoreCommand(),
		"archive_mode":    "always",
		"archive_command": fmt.Sprintf("cp %%p %s/%%f", archive),
	}))
	standby := b.launch(dir)
	b.fill(b.primary, 3)
	b.awaitValue(standby, fmt.Sprintf("SELECT count(*) = %d FROM ledger", b.rows-3), "t") // all whole segments
	b.archived(archive, 0)

	b.do(b.primary.Kill())
	seal, err := b.node.Seal(b.ctx)
	b.do(err)
	b.awaitValue(standby, fmt.Sprintf("SELECT pg_last_wal_replay_lsn() >= '%s'", seal.End), "t")
	b.do(standby.Promote(b.ctx))
	b.do(standby.Stop(b.ctx, pgserver.Fast)) // it archives what waits
	b.archived(archive, seal.End)
	if fork := b.fork(standby, 2); fork != seal.End {
		t.Errorf("promoted at %s, the seal says %s", fork, seal.End)
	}
}

// archived compares what a standby archived of TLI 1 with the primary's own
// segments; above the end, if there is one, with zeros.
func (b *bench) archived(archive string, end pg.LSN) {
	b.t.Helper()
	files, err := filepath.Glob(filepath.Join(archive, "00000001*"))
	b.do(err)
	if len(files) == 0 {
		b.t.Error("the standby archived nothing")
	}
	const size = pg.SegmentSize(segmentMiB << 20)
	for _, file := range files {
		name := filepath.Base(file)
		_, segno, err := pg.ParseSegmentName(name, size)
		if err != nil {
			b.t.Errorf("the standby archived %s: %v", name, err)
			continue
		}
		got, err := os.ReadFile(file)
		b.do(err)
		want, err := os.ReadFile(filepath.Join(b.primary.Dir(), "pg_wal", name))
		b.do(err)
		if start := size.Start(segno); end > start && end < start+pg.LSN(size) {
			clear(want[size.Offset(end):])
		}
		if !bytes.Equal(got, want) {
			b.t.Errorf("the archived %s is not the primary's", name)
		}
	}
}

// F3
func TestChildWithoutItsFirstSegmentIsNotReplacedByItsParent(t *testing.T) {
	b := newBench(t)
	b.explains("a segment was taken away on purpose", ".")
	b.fill(b.primary, 1)
	b.failover()
	b.fill(b.primary, 1)
	b.do(b.primary.Kill())
	_, err := b.node.Seal(b.ctx)
	b.do(err)
	b.do(b.node.Kill())

	first := b.firstOf(2)
	hidden := filepath.Join(b.dir, "hidden")
	b.do(os.Rename(first, hidden))
	b.restoreStops(b.node.OfflineRestoreCommand())
	b.do(os.Rename(hidden, first))
	b.has(b.restore(b.node.OfflineRestoreCommand(), nil))
}

// firstOf is the first segment's file of a TLI.
func (b *bench) firstOf(tli int) string {
	b.t.Helper()
	files, err := filepath.Glob(filepath.Join(b.node.WALDir(), fmt.Sprintf("%08X????????????????*", tli)))
	b.do(err)
	if len(files) == 0 {
		b.t.Fatalf("no segment of TLI %d in %s", tli, b.node.WALDir())
	}
	return files[0]
}

// F8: whatever goes wrong, it is never "does not exist".
func TestWalFetchSaysAbsentOnlyWhenItKnows(t *testing.T) {
	b := newBench(t)
	b.explains("the node was asked for what it does not have", "no such", "unknown", "not found")
	b.fill(b.primary, 1)
	const seg = "000000010000000000000001"
	const nobody = "http://127.0.0.1:1"
	for name, c := range map[string]struct {
		args []string
		code int
	}{
		"a history that nobody made":     {[]string{rig.Timeline, "00000009.history", "out"}, 1},
		"nobody there":                   {[]string{"--server", nobody, rig.Timeline, seg, "out"}, 126},
		"no such timeline":               {[]string{"acme/other", seg, "out"}, 126},
		"no such directory":              {[]string{"--data-dir", "/no/such", rig.Timeline, seg, "out"}, 126},
		"the directory of a live node":   {[]string{"--data-dir", b.node.DataDir(), "--seal", rig.Timeline, seg, "out"}, 126},
		"a segment above the end":        {[]string{rig.Timeline, "0000000100000000000000FF", "out"}, 126},
		"a name that is none":            {[]string{rig.Timeline, "../control", "out"}, 126},
		"an argument is missing":         {[]string{rig.Timeline, seg}, 126},
		"no arguments":                   {nil, 126},
		"a flag that does not exist":     {[]string{"--frobnicate", rig.Timeline, seg, "out"}, 126},
		"a place that cannot be written": {[]string{rig.Timeline, seg, "/no/such/dir/out"}, 126},
	} {
		t.Run(name, func(t *testing.T) {
			for _, cwd := range b.workingDirs(t) {
				want := c.code
				if cwd.standby {
					want = 1 // anything above would shut a standby down
				}
				r, err := b.node.Run(b.ctx, cwd.path, append([]string{"wal-fetch", "--retry-for", "200ms"}, c.args...)...)
				b.do(err)
				if r.Code != want {
					t.Errorf("exit %d (standby %t), want %d: %s", r.Code, cwd.standby, want, r.Stderr)
				}
				if r.Code == 126 && r.Stderr == "" {
					t.Error("it does not say why")
				}
			}
		})
	}
}

type workingDir struct {
	path    string
	standby bool
}

// workingDirs are data directories as PostgreSQL would call wal-fetch in.
func (b *bench) workingDirs(t *testing.T) []workingDir {
	t.Helper()
	recovery, standby := rig.TempDir(t), rig.TempDir(t)
	b.do(os.WriteFile(filepath.Join(standby, "standby.signal"), nil, 0o644))
	return []workingDir{{recovery, false}, {standby, true}}
}

// F8, with PostgreSQL: the node is away, and nothing ends early.
func TestStandbyOutlivesTheNodeAndRecoveryStops(t *testing.T) {
	b := newBench(t)
	b.fill(b.primary, 1)
	standby := b.launch(b.prepareStandby(b.node.RestoreCommand()))
	b.awaitValue(standby, fmt.Sprintf("SELECT count(*) = %d FROM ledger", b.rows-3), "t")
	b.do(b.node.Kill())
	b.restoreStops(b.node.RestoreCommand())
	if !standby.Running() {
		t.Fatalf("the standby went down with the node:\n%s", standby.Log(15))
	}
	b.do(b.node.Start(b.ctx))
	b.fill(b.primary, 1)
	b.awaitValue(standby, fmt.Sprintf("SELECT count(*) = %d FROM ledger", b.rows-3), "t")
}
