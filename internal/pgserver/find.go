package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Installation is one set of PostgreSQL's programs.
type Installation struct {
	BinDir string // holds at least initdb and postgres
	Major  int    // 15 for 15.18

	version string // what postgres --version says
}

// Find locates PostgreSQL's programs: in $PG_BIN if that is set (and nowhere
// else then), else where pg_config says, in Debian's directories (the newest),
// or on the PATH. Its error says what to install.
func Find(ctx context.Context) (Installation, error) {
	if dir := os.Getenv("PG_BIN"); dir != "" {
		in, err := inspect(ctx, dir)
		if err != nil {
			return in, fmt.Errorf("PG_BIN=%s: %w", dir, err)
		}
		return in, nil
	}
	var tried []error
	for _, dir := range candidates(ctx) {
		in, err := inspect(ctx, dir)
		if err == nil {
			return in, nil
		}
		tried = append(tried, err)
	}
	return Installation{}, missing(tried)
}

// findIn is Find, unless the caller names a directory.
func findIn(ctx context.Context, binDir string) (Installation, error) {
	if binDir == "" {
		return Find(ctx)
	}
	return inspect(ctx, binDir)
}

func missing(tried []error) error {
	const help = "no PostgreSQL server is installed: try 'apt-get install postgresql', or set PG_BIN to the directory of initdb and postgres"
	if err := errors.Join(tried...); err != nil {
		return fmt.Errorf("%s (%w)", help, err)
	}
	return errors.New(help)
}

// candidates lists the directories to look in, best first.
func candidates(ctx context.Context) []string {
	var dirs []string
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	dirs = append(dirs, debianDirs("/usr/lib/postgresql")...)
	if path, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	return slices.DeleteFunc(dirs, func(dir string) bool {
		return !executable(filepath.Join(dir, "initdb"))
	})
}

// debianDirs lists root/MAJOR/bin, newest first.
func debianDirs(root string) []string {
	dirs, _ := filepath.Glob(filepath.Join(root, "*", "bin")) // errs on a bad pattern only
	major := func(dir string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir))) // not a number: last
		return n
	}
	slices.SortFunc(dirs, func(a, b string) int { return major(b) - major(a) })
	return dirs
}

// inspect runs postgres --version as the user who will run the server, so that
// a directory which that user cannot enter is found out here.
func inspect(ctx context.Context, dir string) (Installation, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Installation{}, err
	}
	for _, name := range []string{"initdb", "postgres"} {
		if !executable(filepath.Join(dir, name)) {
			return Installation{}, fmt.Errorf("no %s in %s", name, dir)
		}
	}
	acct, err := unprivileged()
	if err != nil {
		return Installation{}, err
	}
	out, err := acct.command(ctx, "/", filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return Installation{}, fmt.Errorf("run %s/postgres as %s: %w", dir, acct.name, err)
	}
	major, err := parseMajor(string(out))
	if err != nil {
		return Installation{}, fmt.Errorf("%s/postgres: %w", dir, err)
	}
	return Installation{BinDir: dir, Major: major, version: string(out)}, nil
}

var versionPattern = regexp.MustCompile(`^postgres \(PostgreSQL\) (\d+)`)

// parseMajor reads the answer to postgres --version.
func parseMajor(out string) (int, error) {
	m := versionPattern.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("unknown version %q", strings.TrimSpace(out))
	}
	return strconv.Atoi(m[1])
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// program is the path of one of the installation's programs.
func (in Installation) program(name string) string { return filepath.Join(in.BinDir, name) }

// has says whether the installation holds a program.
func (in Installation) has(name string) bool { return executable(in.program(name)) }
