package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// defaults keep a throw-away server small and quick. fsync is off: a killed
// process loses nothing by it, and power loss is not what this server is for.
// mmap: the default would leave files in /dev/shm after a SIGKILL.
var defaults = map[string]string{
	"dynamic_shared_memory_type": "mmap",
	"fsync":                      "off",
	"huge_pages":                 "off",
	"jit":                        "off",
	"log_line_prefix":            "%m [%p] ",
	"max_connections":            "50",
	"shared_buffers":             "16MB",
}

// initdb makes the cluster.
func (s *Server) initdb(ctx context.Context) error {
	if err := s.account.makeDir(s.opts.Dir); err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	if err := s.makeCluster(ctx); err != nil {
		return err
	}
	if err := s.writeConfig(); err != nil {
		return fmt.Errorf("configure PostgreSQL: %w", err)
	}
	return nil
}

func (s *Server) runInitdb(ctx context.Context) error {
	args := []string{
		"--pgdata", s.opts.Dir, "--username", Superuser,
		"--no-sync", "--encoding", "UTF8", "--no-locale", "--auth", "trust",
	}
	if s.opts.SegmentSizeMiB != 0 {
		args = append(args, "--wal-segsize", strconv.Itoa(s.opts.SegmentSizeMiB))
	}
	cmd := s.account.command(ctx, s.opts.Dir, s.install.program("initdb"), args...)
	if s.opts.Password != "" {
		file, err := s.passwordFile()
		if err != nil {
			return fmt.Errorf("initdb: %w", err)
		}
		defer os.Remove(file)
		// The method also says how the password is stored (until 13: as MD5).
		cmd.Args = append(cmd.Args, "--pwfile", file, "--auth-host", "scram-sha-256")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// passwordFile writes the password for initdb to read; the caller removes it.
func (s *Server) passwordFile() (string, error) {
	path := s.opts.Dir + ".password"
	if err := os.WriteFile(path, []byte(s.opts.Password+"\n"), 0o600); err != nil {
		return "", err
	}
	return path, s.account.give(path)
}

func (s *Server) writeConfig() error {
	settings := maps.Clone(defaults)
	maps.Copy(settings, s.opts.Config)
	if err := appendSettings(filepath.Join(s.opts.Dir, "postgresql.conf"), settings); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.opts.Dir, "pg_hba.conf"), []byte(s.hba()), 0o600)
}

// hba is the content of pg_hba.conf; the first line that matches decides.
func (s *Server) hba() string {
	method := "trust"
	if s.opts.Password != "" {
		method = "scram-sha-256"
	}
	lines := append(slices.Clone(s.opts.HBA),
		"host all         all 127.0.0.1/32 "+method,
		"host replication all 127.0.0.1/32 "+method,
	)
	return strings.Join(lines, "\n") + "\n"
}

// appendSettings adds settings to a configuration file, in which the last
// line for a name counts.
func appendSettings(path string, settings map[string]string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(formatSettings(settings))
	return errors.Join(err, f.Close())
}

func formatSettings(settings map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s = %s\n", name, quoteSetting(settings[name]))
	}
	return b.String()
}

// quoteSetting quotes a value for postgresql.conf, where a backslash escapes
// too (guc-file.l, DeescapeQuotedString).
func quoteSetting(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(value) + "'"
}
