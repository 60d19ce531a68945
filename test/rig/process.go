package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// process is one run of a program that a test may kill. It leads a process
// group of its own, so that a tracer and what it traces end together.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the program has ended and been waited for
	err    error         // what Wait returned; read only after exited
}

// spawn starts a program whose output is appended to a file.
func spawn(cmd *exec.Cmd, logFile string) (*process, error) {
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go p.wait() // kill and stop wait for it, on p.exited
	return p, nil
}

func (p *process) wait() {
	p.err = p.cmd.Wait()
	close(p.exited)
}

// kill ends the group by SIGKILL and waits until it is gone.
func (p *process) kill() error {
	err := p.signal(syscall.SIGKILL)
	<-p.exited
	return err
}

// signal reaches the whole group; one that has ended is no error.
func (p *process) signal(sig syscall.Signal) error {
	if p.ended() {
		return nil
	}
	if err := syscall.Kill(-p.cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal %s: %w", p.cmd.Path, err)
	}
	return nil
}

// stop asks the group to end and waits. The exit status is an error unless it
// is 0.
func (p *process) stop(ctx context.Context) error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.exited:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("stop %s: %w", p.cmd.Path, context.Cause(ctx))
	}
}

func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// command prepares a program that runs as the unprivileged user, with LC_ALL=C
// and the given variables on top of our own.
func command(ctx context.Context, dir string, argv []string, env ...string) (*exec.Cmd, error) {
	cred, err := credential()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "LC_ALL=C"), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

// credential is that of the user who runs PostgreSQL (as pgserver chooses it),
// so that restore_command may read the node's directory; nil if we are not
// root and all run as we do.
func credential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, errU := strconv.ParseUint(u.Uid, 10, 32)
	gid, errG := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(errU, errG); err != nil {
		return nil, fmt.Errorf("user %s: %w", u.Username, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// Give makes the user who runs the node the owner of a file.
func Give(path string) error { return give(path) }

// give makes the unprivileged user the owner of a file or directory.
func give(path string) error {
	cred, err := credential()
	if err != nil || cred == nil {
		return err
	}
	return os.Chown(path, int(cred.Uid), int(cred.Gid))
}

// Command prepares one of PostgreSQL's tools, to run as the user who owns the
// data directories.
func Command(ctx context.Context, dir, path string, args ...string) (*exec.Cmd, error) {
	return command(ctx, dir, append([]string{path}, args...))
}
