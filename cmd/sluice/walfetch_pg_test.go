package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/test/rig"
)

// patience is how long a server may take to do what is expected of it, on a busy machine.
const patience = 2 * time.Minute

// archive is a dead primary: a base backup of it, and the data directory of a dead node that kept its WAL.
type archive struct {
	t       *testing.T
	backup  string
	node    *deadNodeDir
	rows    [2]string // in the whole segments, and in all
	program string
}

// newArchive lets a primary live and die.
func newArchive(t *testing.T) *archive {
	t.Helper()
	program, err := exec.LookPath("sluice")
	must(t, err)
	dir := rig.TempDir(t)
	a := &archive{t: t, backup: filepath.Join(dir, "backup"), node: &deadNodeDir{dir: rig.TempDir(t)}, program: program}
	p, err := pgserver.Start(t.Context(), pgserver.Options{
		Dir: filepath.Join(dir, "primary"), SegmentSizeMiB: 1,
		Config: map[string]string{"wal_keep_size": "1GB", "autovacuum": "off"},
	})
	must(t, err)
	t.Cleanup(func() { must(t, p.Kill()) })
	a.exec(p, "CREATE TABLE kept (n int, payload text)")
	must(t, p.BaseBackup(t.Context(), a.backup, pgserver.NoWAL))
	insert := "INSERT INTO kept SELECT n, repeat(md5(n::text), 10) FROM generate_series(1, 5000) n"
	a.exec(p, insert)
	a.exec(p, "SELECT pg_switch_wal()")
	a.rows[0] = a.value(p, "SELECT count(*) FROM kept")
	a.exec(p, "INSERT INTO kept SELECT n, 'tail' FROM generate_series(1, 100) n")
	a.rows[1] = a.value(p, "SELECT count(*) FROM kept")
	a.keep(p)
	return a
}

// keep gives the node what the primary flushed, and gives the node's directory to PostgreSQL's user.
func (a *archive) keep(p *pgserver.Server) {
	a.t.Helper()
	id, err := strconv.ParseUint(a.value(p, "SELECT system_identifier FROM pg_control_system()"), 10, 64)
	must(a.t, err)
	end, err := pg.ParseLSN(a.value(p, "SELECT pg_current_wal_flush_lsn()"))
	must(a.t, err)
	_, first, err := pg.ParseSegmentName(a.value(p, "SELECT min(name) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'"), pg.MinSegmentSize)
	must(a.t, err)
	must(a.t, p.Kill())
	start := pg.MinSegmentSize.Start(first)
	var bytes []byte
	for at := start; at < end; at += pg.LSN(pg.MinSegmentSize) {
		segment, err := os.ReadFile(filepath.Join(p.Dir(), "pg_wal", pg.SegmentName(1, pg.MinSegmentSize.SegNo(at), pg.MinSegmentSize)))
		must(a.t, err)
		bytes = append(bytes, segment[:min(len(segment), int(end-at))]...)
	}
	a.node.keep(a.t, "a", "a", id, pg.MinSegmentSize, start, bytes)
	a.node.end = end
	a.give()
}

// give makes PostgreSQL's user the owner of the node's directory.
func (a *archive) give() {
	a.t.Helper()
	must(a.t, filepath.WalkDir(a.node.dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, rig.Give(path))
	}))
}

// change opens the node's timeline, as the node did, and closes it.
func (a *archive) change(f func(*timeline.Timeline) error) {
	a.t.Helper()
	ctx := a.t.Context()
	tl, err := timeline.Open(ctx, timeline.Config{Dir: timeline.Dir(a.node.dir, deadTimeline), FS: wal.OSFS{}, NodeID: "a"}, deadTimeline)
	must(a.t, err)
	must(a.t, errors.Join(tl.PrepareReceive(ctx), f(tl), tl.Shutdown(ctx, errors.New("it ends"))))
	a.give()
}

// command is a restore_command.
func (a *archive) command(flags ...string) string {
	return strings.Join([]string{a.program, "wal-fetch", "--data-dir", a.node.dir, strings.Join(flags, " "), "acme/main %f %p"}, " ")
}

// restore starts a server that recovers by a restore_command.
func (a *archive) restore(command string) *pgserver.Server {
	return a.launch(command, pgserver.PrepareRestore)
}

// standby starts one that goes on asking.
func (a *archive) standby(command string) *pgserver.Server {
	return a.launch(command, func(dir, command string, _ map[string]string) error {
		return pgserver.PrepareStandby(dir, "", map[string]string{"restore_command": command})
	})
}

func (a *archive) launch(command string, prepare func(dir, command string, settings map[string]string) error) *pgserver.Server {
	a.t.Helper()
	dir := filepath.Join(rig.TempDir(a.t), "pg")
	must(a.t, os.CopyFS(dir, os.DirFS(a.backup)))
	must(a.t, os.Chmod(dir, 0o700)) // PostgreSQL insists
	must(a.t, prepare(dir, command, nil))
	s, err := pgserver.StartExisting(a.t.Context(), pgserver.Options{Dir: dir})
	if s == nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { must(a.t, s.Kill()) })
	return s
}

func (a *archive) exec(s *pgserver.Server, sql string) {
	a.t.Helper()
	must(a.t, s.Exec(a.t.Context(), sql))
}

func (a *archive) value(s *pgserver.Server, sql string) string {
	a.t.Helper()
	v, err := s.Value(a.t.Context(), sql)
	must(a.t, err)
	return v
}

// promoted waits until a recovery has ended, and looks at what it found.
func (a *archive) promoted(s *pgserver.Server, rows string, tli pg.TLI) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	defer cancel()
	must(a.t, s.WaitPromoted(ctx))
	if got := a.value(s, "SELECT count(*) FROM kept"); got != rows {
		a.t.Errorf("%s rows, want %s", got, rows)
	}
	if got := a.value(s, "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"); got != fmt.Sprintf("%08X", uint32(tli)) {
		a.t.Errorf("it went on as TLI %s, want %d", got, tli)
	}
}

// stopped waits until a recovery has given up, and looks for the reason in its log.
func (a *archive) stopped(s *pgserver.Server, reasons ...string) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	defer cancel()
	if err := s.WaitPromoted(ctx); err == nil || ctx.Err() != nil {
		a.t.Fatalf("it did not stop (%v):\n%s", err, s.Log(30))
	}
	for _, reason := range reasons {
		if !strings.Contains(s.Log(1000), reason) {
			a.t.Errorf("its log does not say %q:\n%s", reason, s.Log(30))
		}
	}
}

// survives waits until a standby answers, and has asked twice for what it could not get.
func (a *archive) survives(s *pgserver.Server, reason string) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	defer cancel()
	must(a.t, rig.Poll(ctx, 100*time.Millisecond, func() (bool, error) {
		if !s.Running() {
			return false, fmt.Errorf("the standby went down:\n%s", s.Log(30))
		}
		return strings.Count(s.Log(1000), reason) >= 2, nil
	}))
	if !s.Running() {
		a.t.Errorf("the standby went down:\n%s", s.Log(30))
	}
}

// TestPostgreSQLTakesWalFetchAtItsWord: what a recovery and a standby do at each of its exit statuses, and that nothing but
// "it does not exist" ends a recovery.
func TestPostgreSQLTakesWalFetchAtItsWord(t *testing.T) {
	a := newArchive(t)
	fork := func(s *pgserver.Server, tli pg.TLI) pg.History {
		raw, err := os.ReadFile(filepath.Join(s.Dir(), "pg_wal", pg.HistoryName(tli)))
		must(t, err)
		h, err := pg.ParseHistory(tli, raw)
		must(t, err)
		return h
	}

	t.Log("the tail of a living timeline: a recovery stops, a standby stays, a copy ends before it")
	a.stopped(a.restore(a.command()), "could not find out", "sluice timeline seal acme/main", "--copy", "shutting down due to startup process failure")
	standby := a.standby(a.command())
	a.survives(standby, "could not find out")
	a.promoted(a.restore(a.command("--copy")), a.rows[0], 2)

	t.Log("a wrong flag, and a bug")
	a.stopped(a.restore(a.command("--frobnicate")), "unknown flag --frobnicate")
	a.stopped(a.restore(misbehaveEnv+"=panics "+a.command()), "panic: a bug", "it ended unexpectedly")
	bug := a.standby(misbehaveEnv + "=panics " + a.command())
	a.survives(bug, "it ended unexpectedly")

	t.Log("a shutdown while wal-fetch waits")
	silent := answering(t, untilTheyLeave)
	waiting := a.restore(a.program + " wal-fetch --server " + silent + " acme/main %f %p")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := waiting.Stop(ctx, pgserver.Fast); ctx.Err() != nil {
		t.Errorf("it did not stop within 10 s: %v\n%s", err, waiting.Log(30))
	}

	t.Log("a failover: sealed on first need, and everything is there")
	server := a.restore(a.command("--seal"))
	a.promoted(server, a.rows[1], 2)
	seals := a.node.control(t).Seals
	if end, _ := fork(server, 2).End(1); len(seals) != 1 || seals[0].End != end || end != a.node.end {
		t.Errorf("TLI 1 ends at %s for PostgreSQL, the seal is %+v, and the WAL ended at %s", end, seals, a.node.end)
	}

	t.Log("the new primary dies before its first byte")
	raw, err := os.ReadFile(filepath.Join(server.Dir(), "pg_wal", pg.HistoryName(2)))
	must(t, err)
	a.change(func(tl *timeline.Timeline) error { return tl.Follow(t.Context(), fork(server, 2), raw) })
	a.promoted(a.restore(a.command("--copy")), a.rows[0], 3) // TLI 2 lives, and ends in no whole segment
	again := a.restore(a.command("--seal"))
	a.promoted(again, a.rows[1], 3)
	if end, _ := fork(again, 3).End(2); end != a.node.end {
		t.Errorf("TLI 2 ends at %s, want %s", end, a.node.end)
	}
}
