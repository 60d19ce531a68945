package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// account is the user who runs PostgreSQL's programs.
type account struct {
	name string
	cred *syscall.Credential // nil: whoever runs this process
}

// unprivileged returns the present user, or as root one that PostgreSQL
// accepts: postgres, which its package creates, else nobody.
func unprivileged() (account, error) {
	if os.Geteuid() != 0 {
		return account{name: "the present user"}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return accountOf(u)
		}
	}
	return account{}, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
}

func accountOf(u *user.User) (account, error) {
	uid, errU := strconv.ParseUint(u.Uid, 10, 32)
	gid, errG := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(errU, errG); err != nil {
		return account{}, fmt.Errorf("user %s: %w", u.Username, err)
	}
	return account{name: u.Username, cred: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// command prepares a program that runs as the account, in dir, in a process
// group of its own (so that a terminal's Ctrl-C reaches only us, who end it in
// order). If this process dies, the program gets SIGQUIT: to a postmaster that
// is an immediate shutdown.
func (a account) command(ctx context.Context, dir, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.cred, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

// environment is ours without what would steer PostgreSQL's programs to
// another server, and with messages in English: this package reads them.
func environment() []string {
	env := []string{"LC_ALL=C", "LC_MESSAGES=C"}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PG") && !strings.HasPrefix(kv, "LC_") && !strings.HasPrefix(kv, "LANG") {
			env = append(env, kv)
		}
	}
	return env
}

// makeDir creates an empty directory that belongs to the account.
func (a account) makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return a.give(dir)
}

// give makes the account the owner of dir and all below it, and lets it in.
func (a account) give(dir string) error {
	if a.cred == nil {
		return nil
	}
	if err := letThrough(filepath.Dir(dir)); err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(a.cred.Uid), int(a.cred.Gid))
	})
}

// letThrough opens the directories from dir up to the temporary directory for
// passing through: a test's own directory is closed to everyone but root. It
// touches nothing outside the temporary directory.
func letThrough(dir string) error {
	top := filepath.Clean(os.TempDir())
	for ; strings.HasPrefix(dir, top+"/"); dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if err := os.Chmod(dir, info.Mode().Perm()|0o111); err != nil {
			return err
		}
	}
	return nil
}
