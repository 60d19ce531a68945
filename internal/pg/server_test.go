package pg_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// installation skips the test where there is no server to hold this package against.
func installation(t *testing.T) pgserver.Installation {
	t.Helper()
	in, err := pgserver.Find(t.Context())
	if err != nil {
		t.Skip("nothing to compare with: ", err)
	}
	return in
}

// start starts a new server that keeps all of its WAL.
func start(t *testing.T, segmentSize pg.SegmentSize) *pgserver.Server {
	t.Helper()
	installation(t)
	s, err := pgserver.Start(t.Context(), pgserver.Options{
		Dir:            filepath.Join(t.TempDir(), "data"),
		SegmentSizeMiB: int(segmentSize >> 20),
		Config: map[string]string{
			"autovacuum":            "off",
			"bgwriter_lru_maxpages": "0", // a page on disk may not be newer than WAL that a test cuts off
			"checkpoint_timeout":    "1h",
			"max_wal_size":          "10GB",
			"wal_keep_size":         "10GB",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeServer(t, s) })
	return s
}

// existing starts a server on a data directory that is there.
func existing(t *testing.T, dir string) *pgserver.Server {
	t.Helper()
	s, err := pgserver.StartExisting(t.Context(), pgserver.Options{Dir: dir})
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

func exec(t *testing.T, s *pgserver.Server, sql string) {
	t.Helper()
	must(t, s.Exec(t.Context(), sql))
}

func value(t *testing.T, s *pgserver.Server, sql string) string {
	t.Helper()
	v, err := s.Value(t.Context(), sql)
	must(t, err)
	return v
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refusedBy reports whether the server answered with an error, as opposed to not answering.
func refusedBy(t *testing.T, s *pgserver.Server, sql string) bool {
	t.Helper()
	err := s.Exec(t.Context(), sql)
	var answer *pgconn.PgError
	if err != nil && !errors.As(err, &answer) {
		t.Fatal(err)
	}
	return err != nil
}

func quoteLiteral(s string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\v", `\x0B`).Replace(s) + "'"
}

// TestServerReadsTheSameWords asks a real server about what the tables claim of it.
func TestServerReadsTheSameWords(t *testing.T) {
	s := start(t, mib)
	t.Run("synchronous_standby_names", func(t *testing.T) {
		for _, setting := range append(settingsRead(), settingsRefused...) {
			_, err := pg.ParseSyncStandbyNames(setting)
			if refused := refusedBy(t, s, "ALTER SYSTEM SET synchronous_standby_names = "+quoteLiteral(setting)); refused != (err != nil) {
				t.Errorf("%q: the server refuses it: %t; we: %v", setting, refused, err)
			}
		}
	})
	t.Run("LSN", func(t *testing.T) {
		for text, lsn := range lsnTexts {
			if got := value(t, s, "SELECT "+quoteLiteral(text)+"::pg_lsn"); !sameLSN(got, lsn) {
				t.Errorf("%q: the server reads %s, we %s", text, got, lsn)
			}
		}
		for _, text := range lsnsRefused {
			if !refusedBy(t, s, "SELECT "+quoteLiteral(text)+"::pg_lsn") {
				t.Errorf("%q: the server takes it", text)
			}
		}
	})
	t.Run("segment size", func(t *testing.T) {
		if got, err := pg.ParseSegmentSize(value(t, s, "SHOW wal_segment_size")); err != nil || got != mib {
			t.Errorf("got %s, %v", got, err)
		}
	})
	t.Run("segment name", func(t *testing.T) {
		for _, lsn := range []pg.LSN{0x1000001, 0xFFFFFFFF, 0x1_00000001, 0xABC_12345678} {
			if got := value(t, s, "SELECT pg_walfile_name('"+lsn.String()+"')"); got != pg.SegmentName(1, mib.SegNo(lsn), mib) {
				t.Errorf("%s: the server calls it %s, we %s", lsn, got, pg.SegmentName(1, mib.SegNo(lsn), mib))
			}
		}
	})
}

// sameLSN allows for the zeros that PostgreSQL 19 prints.
func sameLSN(text string, want pg.LSN) bool {
	got, err := pg.ParseLSN(text)
	return err == nil && got == want
}

// TestServerWritesHistoryThatLeavesTLIBeforeItBegan recovers along TLI 2 to a point before TLI 2 began.
func TestServerWritesHistoryThatLeavesTLIBeforeItBegan(t *testing.T) {
	s := start(t, mib)
	backup := filepath.Join(t.TempDir(), "backup")
	must(t, s.BaseBackup(t.Context(), backup, pgserver.NoWAL))
	exec(t, s, "CREATE TABLE before ()")
	early := value(t, s, "SELECT pg_create_restore_point('early')")
	exec(t, s, "CREATE TABLE after ()")
	must(t, s.Kill())
	restore := "cp " + filepath.Join(s.Dir(), "pg_wal") + "/%f %p"

	second := copyDir(t, backup)
	must(t, pgserver.PrepareRestore(second, restore, nil))
	promoted(t, second)
	must(t, os.Link(filepath.Join(second, "pg_wal", pg.HistoryName(2)), filepath.Join(s.Dir(), "pg_wal", pg.HistoryName(2))))

	third := copyDir(t, backup)
	must(t, pgserver.PrepareRestore(third, restore, map[string]string{
		"recovery_target_timeline": "2", "recovery_target_name": "early", "recovery_target_action": "promote",
	}))
	promoted(t, third)
	h := historyOf(t, third, 3)
	if len(h.Forks) != 2 || h.Forks[0].LSN <= h.Forks[1].LSN || h.Forks[1].LSN != parseLSN(t, early) {
		t.Fatalf("the history is no longer so: %+v, restore point %s", h, early)
	}
	if end, ok := h.End(1); !ok || end != h.Forks[1].LSN {
		t.Errorf("TLI 1 ends at %s, %t; the server left it at %s", end, ok, h.Forks[1].LSN)
	}
}
