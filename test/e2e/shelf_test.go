package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// shelf is a primary that is gone, a base backup of it, and what of its WAL got
// to object storage: all whole segments, and a copy of the open one that the
// primary went beyond.
type shelf struct {
	t        *testing.T
	ctx      context.Context
	dir      string
	url      string // of the object store
	base     baseBackup
	walDir   string // the primary's, for what comes later
	timeline *backup.Timeline
	open     pg.LSN    // how far the open segment was stored
	end      pg.LSN    // of all WAL
	rows     [3]string // in whole segments, up to open, and in all
	servers  int
}

const shelfSegment = pg.SegmentSize(segmentMiB << 20)

// storeKind is object storage for a test.
type storeKind struct {
	name string
	url  func(t *testing.T) string
}

// storeKinds are a directory, and S3 where there is a server.
func storeKinds() []storeKind {
	return []storeKind{
		{"directory", func(t *testing.T) string { return "file://" + filepath.Join(rig.TempDir(t), "objects") }},
		{"S3", func(t *testing.T) string { return rig.StartS3(t).URL() }},
	}
}

// baseBackup is a way to take one, without its WAL, and to lay it out for a
// recovery.
type baseBackup interface {
	take(s *shelf, p *pgserver.Server)
	put(s *shelf, dir, command string, settings map[string]string)
}

// basebackup is pg_basebackup -X none.
type basebackup struct{}

func (basebackup) take(s *shelf, p *pgserver.Server) {
	s.t.Helper()
	s.do(p.BaseBackup(s.ctx, filepath.Join(s.dir, "backup"), pgserver.NoWAL))
}

func (basebackup) put(s *shelf, dir, command string, settings map[string]string) {
	s.t.Helper()
	s.do(rig.CopyTree(s.ctx, filepath.Join(s.dir, "backup"), dir))
	s.do(pgserver.PrepareRestore(dir, command, settings))
}

// newShelf lets a primary live and die.
func newShelf(t *testing.T, url string) *shelf {
	t.Helper()
	return newShelfWith(t, url, basebackup{}, nil)
}

// newShelfWith does that with another base backup, and settings that it needs.
func newShelfWith(t *testing.T, url string, base baseBackup, settings map[string]string) *shelf {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	s := &shelf{t: t, ctx: ctx, dir: rig.TempDir(t), url: url, base: base}
	config := map[string]string{"autovacuum": "off", "wal_keep_size": "512MB"}
	maps.Copy(config, settings)
	p, err := pgserver.Start(t.Context(), pgserver.Options{Dir: s.newDir(), SegmentSizeMiB: segmentMiB, Config: config})
	s.do(err)
	t.Cleanup(func() { s.do(p.Kill()) })
	s.do(p.Exec(ctx, "CREATE TABLE ledger (id serial PRIMARY KEY, note text)"))
	s.base.take(s, p)
	s.live(p)
	id, err := strconv.ParseUint(s.value(p, "SELECT system_identifier FROM pg_control_system()"), 10, 64)
	s.do(err)
	s.do(p.Kill())
	s.walDir = filepath.Join(p.Dir(), "pg_wal")
	s.upload(id)
	return s
}

// live commits rows in whole segments, with a restore point behind the first
// 1000, in the open one, and after that was stored.
func (s *shelf) live(p *pgserver.Server) {
	s.t.Helper()
	var reached [3]string
	for i, sql := range []string{
		"INSERT INTO ledger (note) SELECT repeat(md5(n::text), 20) FROM generate_series(1, 1000) n; SELECT pg_create_restore_point('here'); " +
			"INSERT INTO ledger (note) SELECT repeat(md5(n::text), 20) FROM generate_series(1, 2000) n; SELECT pg_switch_wal()",
		"INSERT INTO ledger (note) SELECT 'stored' FROM generate_series(1, 100)",
		"INSERT INTO ledger (note) SELECT 'later' FROM generate_series(1, 100)",
	} {
		for _, one := range strings.Split(sql, "; ") {
			s.do(p.Exec(s.ctx, one))
		}
		s.rows[i] = s.value(p, "SELECT count(*) FROM ledger")
		reached[i] = s.value(p, "SELECT pg_current_wal_flush_lsn()")
	}
	var err error
	s.open, err = pg.ParseLSN(reached[1])
	s.do(err)
	s.end, err = pg.ParseLSN(reached[2])
	s.do(err)
	if shelfSegment.SegNo(s.open) != shelfSegment.SegNo(s.end-1) {
		s.t.Fatalf("the rows that come later begin another segment: %s, %s", s.open, s.end)
	}
}

// upload stores what the primary had.
func (s *shelf) upload(systemID uint64) {
	s.t.Helper()
	store, err := backup.Open(s.ctx, s.url, backup.Config{Node: rig.NodeID})
	s.do(err)
	s.t.Cleanup(func() { s.do(store.Close()) })
	id, err := store.Adopt(s.ctx, "acme", "main", backup.Identity{
		Incarnation: uuid.NewString(), SystemID: systemID, SegmentSize: shelfSegment, Compression: backup.Zstd,
	}, false)
	s.do(err)
	s.timeline = store.Timeline("acme", "main", id)
	files, err := filepath.Glob(filepath.Join(s.walDir, "00000001????????????????"))
	s.do(err)
	for _, file := range files {
		_, n, err := pg.ParseSegmentName(filepath.Base(file), shelfSegment)
		s.do(err)
		if n < shelfSegment.SegNo(s.open) {
			_, err = s.timeline.PutSegment(s.ctx, 1, n, bytes.NewReader(s.read(file)))
			s.do(err)
		}
	}
	s.partial(s.open)
}

// partial stores the open segment of TLI 1 up to an LSN.
func (s *shelf) partial(end pg.LSN) {
	s.t.Helper()
	n := shelfSegment.SegNo(end)
	b := s.read(filepath.Join(s.walDir, pg.SegmentName(1, n, shelfSegment)))
	_, err := s.timeline.PutPartial(s.ctx, 1, n, end, bytes.NewReader(b))
	s.do(err)
	s.give()
}

// give lets the user who restores read, and write, a store that is a directory.
func (s *shelf) give() {
	s.t.Helper()
	dir, found := strings.CutPrefix(s.url, "file://")
	if !found {
		return
	}
	s.do(filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error { return errors.Join(err, rig.Give(path)) }))
}

func (s *shelf) do(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *shelf) read(file string) []byte {
	s.t.Helper()
	b, err := os.ReadFile(file)
	s.do(err)
	return b
}

func (s *shelf) value(p *pgserver.Server, query string) string {
	s.t.Helper()
	v, err := p.Value(s.ctx, query)
	s.do(err)
	return v
}

func (s *shelf) newDir() string {
	s.servers++
	return filepath.Join(s.dir, "pg"+strconv.Itoa(s.servers))
}

// command is a restore_command that knows of nothing but object storage. What
// is a percent sign in the URL is two for PostgreSQL.
func (s *shelf) command(flags ...string) string {
	words := append([]string{program, "wal-fetch", "--retry-for 2s", "--object-store", `"` + strings.ReplaceAll(s.url, "%", "%%") + `"`}, flags...)
	return strings.Join(append(words, rig.Timeline, "%f", "%p"), " ")
}

// launch starts a server that recovers from the base backup.
func (s *shelf) launch(command string, settings map[string]string) *pgserver.Server {
	s.t.Helper()
	dir := s.newDir()
	s.base.put(s, dir, command, settings)
	p, err := pgserver.StartExisting(s.t.Context(), pgserver.Options{Dir: dir})
	if p == nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.do(p.Kill()) })
	return p
}

// restored waits until a recovery has ended, and counts what it found.
func (s *shelf) restored(p *pgserver.Server, rows string, tli pg.TLI) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 2*patience)
	defer cancel()
	if err := p.WaitPromoted(ctx); err != nil {
		s.t.Fatalf("%v\n%s", err, p.Log(30))
	}
	if got := s.value(p, "SELECT count(*) FROM ledger"); got != rows {
		s.t.Errorf("%s rows, want %s", got, rows)
	}
	if got := s.value(p, "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"); got != fmt.Sprintf("%08X", uint32(tli)) {
		s.t.Errorf("it went on as TLI %s, want %d", got, tli)
	}
}

// stopped waits until a recovery has given up, and looks for the reasons.
func (s *shelf) stopped(p *pgserver.Server, reasons ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 2*patience)
	defer cancel()
	if err := p.WaitPromoted(ctx); err == nil || ctx.Err() != nil {
		s.t.Fatalf("it did not stop (%v):\n%s", err, p.Log(30))
	}
	for _, reason := range reasons {
		if !strings.Contains(p.Log(1000), reason) {
			s.t.Errorf("its log does not say %q:\n%s", reason, p.Log(30))
		}
	}
}

// historyOf is the history file of a server's TLI.
func (s *shelf) historyOf(p *pgserver.Server, tli pg.TLI) []byte {
	s.t.Helper()
	return s.read(filepath.Join(p.Dir(), "pg_wal", pg.HistoryName(tli)))
}

// forkOf is where a server left a TLI.
func (s *shelf) forkOf(p *pgserver.Server, tli pg.TLI) pg.LSN {
	s.t.Helper()
	h, err := pg.ParseHistory(tli+1, s.historyOf(p, tli+1))
	s.do(err)
	fork, _ := h.End(tli)
	return fork
}
