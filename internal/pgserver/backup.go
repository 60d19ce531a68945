package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// WALMethod is what a base backup takes along of the WAL: pg_basebackup's -X.
type WALMethod string

// With NoWAL the backup can be restored only with an archive, which is the
// point of testing one.
const (
	NoWAL    WALMethod = "none"
	FetchWAL WALMethod = "fetch"
)

// BaseBackup copies the running server into dst, which must be absent or
// empty: by pg_basebackup, or, where the installation has none, by the
// low-level API that it uses (and then without WAL only).
func (s *Server) BaseBackup(ctx context.Context, dst string, wal WALMethod) error {
	if err := s.account.makeDir(dst); err != nil {
		return fmt.Errorf("base backup: %w", err)
	}
	if !s.install.has("pg_basebackup") {
		if wal != NoWAL {
			return fmt.Errorf("base backup: no pg_basebackup in %s, and without it no WAL", s.install.BinDir)
		}
		return s.copyBackup(ctx, dst)
	}
	cmd := s.account.command(ctx, dst, s.install.program("pg_basebackup"), s.BaseBackupArgs(dst, wal)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_basebackup: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// BaseBackupArgs are the arguments that BaseBackup gives to pg_basebackup, for
// those who show what they do.
func (s *Server) BaseBackupArgs(dst string, wal WALMethod) []string {
	return []string{"-d", s.Conninfo(), "-D", dst, "-X", string(wal), "-c", "fast", "--no-sync"}
}

// copyBackup makes a base backup by hand (PostgreSQL's documentation, 25.3.3):
// what is torn by the copying is mended from full-page images in the WAL.
func (s *Server) copyBackup(ctx context.Context, dst string) error {
	c, err := s.Connect(ctx) // the backup ends with this session
	if err != nil {
		return fmt.Errorf("base backup: %w", err)
	}
	defer func() { _ = c.Close(ctx) }()
	start, stop := "pg_backup_start('sluice', true)", "pg_backup_stop(false)"
	if s.install.Major < 15 {
		start, stop = "pg_start_backup('sluice', true, false)", "pg_stop_backup(false, false)"
	}
	if err := c.Exec(ctx, "SELECT "+start); err != nil {
		return fmt.Errorf("base backup: %w", err)
	}
	if err := copyData(ctx, s.opts.Dir, dst); err != nil {
		return fmt.Errorf("base backup: %w", err)
	}
	rows, err := c.Query(ctx, "SELECT labelfile FROM "+stop)
	if err != nil {
		return fmt.Errorf("base backup: %w", err)
	}
	return s.finishBackup(dst, rows[0][0])
}

// finishBackup adds the label that makes recovery begin where the backup did.
func (s *Server) finishBackup(dst, label string) error {
	if err := os.WriteFile(filepath.Join(dst, "backup_label"), []byte(label), 0o600); err != nil {
		return fmt.Errorf("base backup: %w", err)
	}
	return s.account.give(dst)
}

// Directories whose content does not belong into a backup, and files likewise
// (PostgreSQL's basebackup.c, excludeDirContents and excludeFiles).
var (
	emptied = map[string]bool{
		"pg_wal": true, "pg_dynshmem": true, "pg_notify": true, "pg_replslot": true,
		"pg_serial": true, "pg_snapshots": true, "pg_stat_tmp": true, "pg_subtrans": true,
	}
	leftOut = map[string]bool{"postmaster.pid": true, "postmaster.opts": true}
)

// copyData copies a data directory whose files may change and vanish.
func copyData(ctx context.Context, src, dst string) error {
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		return copyEntry(path, filepath.Join(dst, rel), rel, d)
	})
}

func copyEntry(from, to, rel string, d fs.DirEntry) error {
	top, below, _ := strings.Cut(rel, string(filepath.Separator))
	switch {
	case leftOut[rel]:
		return nil
	case d.IsDir() && (below == "" || !emptied[top]):
		return os.MkdirAll(to, 0o700)
	case d.IsDir() && rel == filepath.Join("pg_wal", "archive_status"):
		return os.MkdirAll(to, 0o700)
	case emptied[top] && d.IsDir():
		return fs.SkipDir
	case emptied[top] || !d.Type().IsRegular():
		return nil
	default:
		return copyFile(from, to)
	}
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // dropped while we copied: the WAL tells recovery, too
	}
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}
