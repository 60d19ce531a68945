package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// The bridge to base backups: the tools that people have take them, without WAL,
// and the WAL comes from Sluice (docs/restore.md).

// pgbackrest is pgBackRest, told that the WAL is somebody else's.
type pgbackrest struct{}

const pgbackrestConfig = `[global]
repo1-path=%[1]s/repository
log-path=%[1]s
lock-path=%[1]s
spool-path=%[1]s
archive-check=n

[main]
pg1-path=%[2]s
pg1-port=%[3]d
pg1-user=postgres
`

func (b pgbackrest) take(s *shelf, p *pgserver.Server) {
	s.t.Helper()
	dir, err := rig.MakeDir(s.dir, "pgbackrest")
	s.do(err)
	text := fmt.Sprintf(pgbackrestConfig, dir, p.Dir(), p.Port())
	s.do(os.WriteFile(b.config(s), []byte(text), 0o644))
	b.run(s, "stanza-create")
	b.run(s, "--type=full", "--start-fast", "backup")
}

func (b pgbackrest) put(s *shelf, dir, command string, settings map[string]string) {
	s.t.Helper()
	_, err := rig.MakeDir(dir)
	s.do(err)
	args := []string{"--pg1-path=" + dir, "--recovery-option=restore_command=" + command}
	for name, value := range settings {
		args = append(args, "--recovery-option="+name+"="+value)
	}
	b.run(s, append(args, "restore")...)
}

func (pgbackrest) config(s *shelf) string {
	return filepath.Join(s.dir, "pgbackrest", "pgbackrest.conf")
}

func (b pgbackrest) run(s *shelf, args ...string) string {
	s.t.Helper()
	return s.tool("pgbackrest", append([]string{"--config=" + b.config(s), "--stanza=main"}, args...)...)
}

// oldest is the first segment that the oldest backup needs.
func (b pgbackrest) oldest(s *shelf) string {
	s.t.Helper()
	var info []struct {
		Backup []struct {
			Archive struct{ Start *string }
			LSN     struct{ Start string }
		}
	}
	s.do(json.Unmarshal([]byte(b.run(s, "--output=json", "info")), &info))
	at, err := pg.ParseLSN(info[0].Backup[0].LSN.Start)
	s.do(err)
	return pg.SegmentName(1, shelfSegment.SegNo(at), shelfSegment)
}

// tool runs a program as the user who owns the data directories.
func (s *shelf) tool(name string, args ...string) string {
	s.t.Helper()
	path, err := exec.LookPath(name)
	s.do(err)
	cmd, err := rig.Command(s.ctx, s.dir, path, args...)
	s.do(err)
	cmd.Env = append(cmd.Env, "PGHOST=127.0.0.1") // the servers of these tests have no socket
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestPgBackRestTakesTheBackupAndSluiceTheWAL(t *testing.T) {
	bridge(t, "pgbackrest", pgbackrest{}, nil)
}

func TestBarmanTakesTheBackupAndSluiceTheWAL(t *testing.T) {
	bridge(t, "barman", barman{}, map[string]string{"archive_mode": "on", "archive_command": "true"})
}

// catalogued is a base backup in a tool's catalogue.
type catalogued interface {
	baseBackup
	oldest(s *shelf) string // the first segment that the oldest backup needs
}

// bridge takes a backup, trims what no backup needs, and restores: all that is
// left, and to a point in time.
func bridge(t *testing.T, tool string, b catalogued, settings map[string]string) {
	if _, err := exec.LookPath(tool); err != nil {
		t.Skipf("there is no %[1]s: apt-get install %[1]s", tool)
	}
	t.Parallel()
	s := newShelfWith(t, storeKinds()[0].url(t), b, settings)
	oldest := b.oldest(s)
	_, before, err := pg.ParseSegmentName(oldest, shelfSegment)
	s.do(err)
	removed, _, err := s.timeline.Trim(s.ctx, before)
	s.do(err)
	t.Logf("trimmed before %s: %d segments", oldest, removed)
	s.restored(s.launch(s.command("--accept-data-loss"), nil), s.rows[1], 2)
	s.restored(s.launch(s.command("--copy"), map[string]string{
		"recovery_target_name": "here", "recovery_target_action": "promote",
	}), "1000", 2)
}

// barman is Barman. It refuses to back up a server of which it sees no WAL, and
// so gets its own copy of it, which no restore uses.
type barman struct{}

const barmanConfig = `[barman]
barman_user = %[3]s
barman_home = %[1]s
barman_lock_directory = %[1]s
log_file = %[1]s/barman.log
configuration_files_directory = %[1]s/barman.d

[main]
description = main
conninfo = host=127.0.0.1 port=%[2]d user=postgres dbname=postgres
streaming_conninfo = host=127.0.0.1 port=%[2]d user=postgres
backup_method = postgres
archiver = on
`

func (b barman) take(s *shelf, p *pgserver.Server) {
	s.t.Helper()
	for _, dir := range []string{"barman", "barman/main", "barman/main/incoming"} {
		_, err := rig.MakeDir(s.dir, dir)
		s.do(err)
	}
	home := filepath.Join(s.dir, "barman")
	text := fmt.Sprintf(barmanConfig, home, p.Port(), strings.TrimSpace(s.tool("id", "-un")))
	s.do(os.WriteFile(b.config(s), []byte(text), 0o644))
	s.do(p.Configure(s.ctx, map[string]string{"archive_command": fmt.Sprintf("cp %%p %s/main/incoming/%%f", home)}))
	b.run(s, "switch-wal", "--force", "--archive", "main")
	b.run(s, "backup", "main")
}

func (b barman) put(s *shelf, dir, command string, settings map[string]string) {
	s.t.Helper()
	b.run(s, "recover", "main", "latest", dir)
	own, err := filepath.Glob(filepath.Join(dir, "pg_wal", "0*"))
	s.do(err)
	for _, file := range own {
		s.do(os.Remove(file))
	}
	s.do(pgserver.PrepareRestore(dir, command, settings))
}

func (barman) config(s *shelf) string { return filepath.Join(s.dir, "barman", "barman.conf") }

func (b barman) run(s *shelf, args ...string) string {
	s.t.Helper()
	return s.tool("barman", append([]string{"-c", b.config(s)}, args...)...)
}

func (b barman) oldest(s *shelf) string {
	s.t.Helper()
	for line := range strings.Lines(b.run(s, "show-backup", "main", "oldest")) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "Begin WAL" {
			return strings.TrimSpace(value)
		}
	}
	s.t.Fatal("barman does not say where its backup begins")
	return ""
}
