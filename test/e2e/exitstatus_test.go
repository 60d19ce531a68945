package e2e

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// What PostgreSQL makes of each exit status of a restore_command: the reason
// why wal-fetch has only 0, 1 and 126. No node is needed.
func TestPostgreSQLTakesStatusesBelow126ForTheEndOfTheArchive(t *testing.T) {
	backup := plainBackup(t)
	for command, promotes := range map[string]bool{
		"exit 1":          true,
		"exit 2":          true, // wrong usage, in most programs; and how Go's own fatal errors end
		"exit 125":        true,
		"exit 126":        false,
		"exit 127":        false,
		"exit 255":        false,
		"kill -TERM $$":   false,
		"kill -KILL $$":   false,
		"exec /no/binary": false,
	} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			s, err := launchCopy(t, backup, func(dir string) error { return pgserver.PrepareRestore(dir, command, nil) })
			if err == nil {
				err = s.WaitPromoted(ctx)
			}
			if promoted := err == nil; promoted != promotes {
				t.Errorf("promoted %t, want %t (%v)", promoted, promotes, err)
			}
		})
	}
}

// In a standby 126 would end the server; 1 makes it ask again.
func TestPostgreSQLStandbySurvivesOnlyStatusesBelow126(t *testing.T) {
	backup := plainBackup(t)
	for command, survives := range map[string]bool{"exit 1": true, "exit 126": false, "kill -KILL $$": false} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			s, err := launchCopy(t, backup, func(dir string) error {
				return pgserver.PrepareStandby(dir, "", map[string]string{"restore_command": command})
			})
			if err == nil {
				err = answers(ctx, s)
			}
			if survived := err == nil; survived != survives {
				t.Errorf("survived %t, want %t (%v)", survived, survives, err)
			}
		})
	}
}

// plainBackup is a base backup with the WAL that makes it consistent.
func plainBackup(t *testing.T) string {
	t.Helper()
	dir := rig.TempDir(t)
	s, err := pgserver.Start(t.Context(), pgserver.Options{Dir: filepath.Join(dir, "pg"), SegmentSizeMiB: segmentMiB})
	if err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(dir, "backup")
	if err := s.BaseBackup(t.Context(), backup, pgserver.FetchWAL); err != nil {
		t.Error(err)
	}
	if err := s.Kill(); err != nil {
		t.Error(err)
	}
	return backup
}

// answers waits until a server answers a query: an error if it ends instead.
func answers(ctx context.Context, s *pgserver.Server) error {
	return rig.Poll(ctx, 50*time.Millisecond, func() (bool, error) {
		if !s.Running() {
			return false, errors.New("it ended")
		}
		_, err := s.Value(ctx, "SELECT 1")
		return err == nil, nil
	})
}

// launchCopy starts a server on a copy of a backup that prepare has changed.
// An error says that it ended before it listened.
func launchCopy(t *testing.T, backup string, prepare func(dir string) error) (*pgserver.Server, error) {
	t.Helper()
	dir := filepath.Join(rig.TempDir(t), "pg")
	if err := rig.CopyTree(t.Context(), backup, dir); err != nil {
		t.Fatal(err)
	}
	if err := prepare(dir); err != nil {
		t.Fatal(err)
	}
	s, err := pgserver.StartExisting(t.Context(), pgserver.Options{Dir: dir})
	if err == nil {
		t.Cleanup(func() {
			if err := s.Kill(); err != nil {
				t.Error(err)
			}
		})
	}
	return s, err
}
