package pgserver_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicewal/sluice/internal/pgserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start starts a server that ends with the test.
func start(t *testing.T, opts pgserver.Options) *pgserver.Server {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = filepath.Join(t.TempDir(), "data")
	}
	s, err := pgserver.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeServer(t, s) })
	return s
}

// existing starts a server on a directory that is there.
func existing(t *testing.T, opts pgserver.Options) *pgserver.Server {
	t.Helper()
	s, err := pgserver.StartExisting(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeServer(t, s) })
	return s
}

func closeServer(t *testing.T, s *pgserver.Server) {
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Log(s.Log(40))
	}
}

func value(t *testing.T, s *pgserver.Server, sql string) string {
	t.Helper()
	v, err := s.Value(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func exec(t *testing.T, s *pgserver.Server, sql string) {
	t.Helper()
	if err := s.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOptionsReachTheServer(t *testing.T) {
	s := start(t, pgserver.Options{
		SegmentSizeMiB: 1,
		Config:         map[string]string{"work_mem": "3MB", "cluster_name": `it's a \ name`},
		Password:       "se'cret",
	})
	for name, want := range map[string]string{
		"wal_segment_size":           "1MB",
		"work_mem":                   "3MB",
		"cluster_name":               `it's a \ name`,
		"dynamic_shared_memory_type": "mmap",
		"listen_addresses":           "127.0.0.1",
		"unix_socket_directories":    "",
	} {
		if got := value(t, s, "SHOW "+name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if s.Port() >= 32768 {
		t.Errorf("port %d is ephemeral", s.Port())
	}
}

func TestConfigureSurvivesRestartOnTheSamePort(t *testing.T) {
	s := start(t, pgserver.Options{})
	port := s.Port()
	must(t, s.Configure(t.Context(), map[string]string{"application_name": "x'y", "work_mem": "5MB"}))
	must(t, s.Stop(t.Context(), pgserver.Fast))
	if s.Running() {
		t.Fatal("runs after Stop")
	}
	must(t, s.Restart(t.Context()))
	if got := value(t, s, "SHOW work_mem"); got != "5MB" {
		t.Errorf("work_mem is %s", got)
	}
	if s.Port() != port {
		t.Errorf("port %d became %d", port, s.Port())
	}
}

// TestKillLeavesNothing looks for what a SIGKILL of the postmaster alone would
// leave: its children, a System V segment, files in /dev/shm.
func TestKillLeavesNothing(t *testing.T) {
	s := start(t, pgserver.Options{})
	exec(t, s, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
	pids := processesOf(t, s)
	if len(pids) < 4 {
		t.Fatalf("only %v run", pids)
	}
	must(t, s.Kill())
	must(t, s.Kill()) // again is no error
	for _, pid := range pids {
		if living(pid) {
			t.Errorf("process %d lives", pid)
		}
	}
	if ids := sharedMemory(t); strings.Contains(ids, segmentOf(t, s)) {
		t.Errorf("a shared memory segment is left: %s", ids)
	}
	must(t, s.Restart(t.Context()))
	if got := value(t, s, "SELECT count(*) FROM kept"); got != "1" {
		t.Errorf("%s rows after crash recovery, want 1", got)
	}
}

func TestContextEndsServer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := pgserver.Start(ctx, pgserver.Options{Dir: filepath.Join(t.TempDir(), "data")})
	if err != nil {
		t.Fatal(err)
	}
	pids := processesOf(t, s)
	cancel()
	must(t, s.Wait(t.Context()))
	for _, pid := range pids {
		if living(pid) {
			t.Errorf("process %d lives", pid)
		}
	}
	if s.Running() {
		t.Error("runs after its context ended")
	}
}

func TestStartOnTakenPortFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	s, err := pgserver.Start(t.Context(), pgserver.Options{Dir: filepath.Join(t.TempDir(), "data"), Port: port})
	if err == nil {
		closeServer(t, s)
		t.Fatal("started on a port that is taken")
	}
	if !strings.Contains(err.Error(), strconv.Itoa(port)) {
		t.Errorf("the error does not name the port: %v", err)
	}
}

func TestErrorCarriesTheLog(t *testing.T) {
	s, err := pgserver.Start(t.Context(), pgserver.Options{
		Dir:    filepath.Join(t.TempDir(), "data"),
		Config: map[string]string{"no_such_setting": "1"},
	})
	if err == nil {
		closeServer(t, s)
		t.Fatal("started with an unknown setting")
	}
	if !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("the error does not say why: %v", err)
	}
}

func TestMissingProgramsAreNamed(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PG_BIN", dir)
	if _, err := pgserver.Find(t.Context()); err == nil || !strings.Contains(err.Error(), "PG_BIN="+dir) {
		t.Errorf("PG_BIN without programs: %v", err)
	}
}

// TestRestoreFromArchive takes a backup without WAL, destroys the primary and
// recovers from what its archive_command copied.
func TestRestoreFromArchive(t *testing.T) {
	for name, backup := range map[string]func(*testing.T, *pgserver.Server, string) error{
		"pg_basebackup": func(t *testing.T, s *pgserver.Server, dst string) error {
			return s.BaseBackup(t.Context(), dst, pgserver.NoWAL)
		},
		"by hand": func(t *testing.T, s *pgserver.Server, dst string) error {
			return s.CopyBackup(t.Context(), dst)
		},
	} {
		t.Run(name, func(t *testing.T) { testRestore(t, backup) })
	}
}

func testRestore(t *testing.T, backup func(*testing.T, *pgserver.Server, string) error) {
	dir := t.TempDir()
	archive := filepath.Join(dir, "archive")
	must(t, os.Mkdir(archive, 0o777))
	must(t, os.Chmod(archive, 0o777))
	primary := start(t, pgserver.Options{
		Dir:            filepath.Join(dir, "primary"),
		SegmentSizeMiB: 1,
		Config:         map[string]string{"archive_mode": "on", "archive_command": "cp %p " + archive + "/%f"},
	})
	exec(t, primary, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
	restored := filepath.Join(dir, "restored")
	must(t, backup(t, primary, restored))
	exec(t, primary, "INSERT INTO kept SELECT generate_series(1001, 2000)")
	must(t, primary.Stop(t.Context(), pgserver.Fast)) // switches to a new segment, and archives the last
	must(t, primary.RemoveAll())

	must(t, pgserver.PrepareRestore(restored, "cp "+archive+"/%f %p", nil))
	s := existing(t, pgserver.Options{Dir: restored})
	must(t, s.WaitPromoted(t.Context()))
	if got := value(t, s, "SELECT count(*) FROM kept"); got != "2000" {
		t.Errorf("%s rows after the restore, want 2000", got)
	}
	if got := value(t, s, "SELECT timeline_id FROM pg_control_checkpoint()"); got == "1" {
		t.Error("still on TLI 1")
	}
}

func TestStandbyIsPromoted(t *testing.T) {
	primary := start(t, pgserver.Options{})
	dir := filepath.Join(t.TempDir(), "standby")
	must(t, primary.BaseBackup(t.Context(), dir, pgserver.NoWAL)) // the standby streams it
	must(t, pgserver.PrepareStandby(dir, primary.Conninfo(), nil))
	standby := existing(t, pgserver.Options{Dir: dir})
	must(t, standby.WaitReady(t.Context()))
	if got := value(t, standby, "SELECT pg_is_in_recovery()"); got != "t" {
		t.Fatal("the standby is not in recovery")
	}
	must(t, standby.Promote(t.Context()))
	exec(t, standby, "CREATE TABLE written ()")
}

// TestCancelledWaitIsNoAcknowledgement: PostgreSQL says INSERT 0 1 all the same.
func TestCancelledWaitIsNoAcknowledgement(t *testing.T) {
	s := start(t, pgserver.Options{})
	exec(t, s, "CREATE TABLE t (n int)")
	must(t, s.Configure(t.Context(), map[string]string{"synchronous_standby_names": "nobody"}))
	c, err := s.Connect(t.Context())
	must(t, err)
	defer func() { must(t, c.Close(t.Context())) }()

	done := make(chan error, 1)
	go func() { done <- c.Exec(t.Context(), "INSERT INTO t VALUES (1)") }()
	cancelSyncWait(t, s)
	if err := <-done; !errors.Is(err, pgserver.ErrNotReplicated) {
		t.Errorf("the commit answered %v, want ErrNotReplicated", err)
	}
	if err := c.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Errorf("the next statement inherited the warning: %v", err)
	}
}

// cancelSyncWait cancels, as an impatient operator would, whoever waits for a
// synchronous standby.
func cancelSyncWait(t *testing.T, s *pgserver.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		rows, err := s.Query(ctx, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) > 0 {
			return
		}
	}
	t.Fatal("nobody waits for the standby")
}

// processesOf lists the postmaster and its children.
func processesOf(t *testing.T, s *pgserver.Server) []int {
	t.Helper()
	rows, err := s.Query(t.Context(), "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
	must(t, err)
	pids := []int{postmasterPID(t, s)}
	for _, row := range rows {
		pid, err := strconv.Atoi(row[0])
		must(t, err)
		pids = append(pids, pid)
	}
	return pids
}

func lockFile(t *testing.T, s *pgserver.Server) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.Dir(), "postmaster.pid"))
	must(t, err)
	return strings.Split(string(b), "\n")
}

func postmasterPID(t *testing.T, s *pgserver.Server) int {
	t.Helper()
	pid, err := strconv.Atoi(lockFile(t, s)[0])
	must(t, err)
	return pid
}

// segmentOf is the System V key of the server, as /proc/sysvipc/shm has it.
func segmentOf(t *testing.T, s *pgserver.Server) string {
	t.Helper()
	var key, id int
	_, err := fmt.Sscan(lockFile(t, s)[6], &key, &id)
	must(t, err)
	return fmt.Sprintf(" %d %10d ", key, id)
}

func sharedMemory(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/sysvipc/shm")
	must(t, err)
	return string(b)
}

// living says whether a process runs; a zombie does not.
func living(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z")
}
