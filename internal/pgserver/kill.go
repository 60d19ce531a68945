package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// StopMode is how a server is asked to stop; pg_ctl has the same three.
type StopMode syscall.Signal

// The modes, and the signals that stand for them (PostgreSQL's postmaster.c).
const (
	Smart     = StopMode(syscall.SIGTERM) // waits for clients to leave
	Fast      = StopMode(syscall.SIGINT)  // rolls back, writes a checkpoint, waits until standbys have all
	Immediate = StopMode(syscall.SIGQUIT) // as after a crash
)

// Stop asks the server to stop and waits until it has. A server that is not
// running is no error. When ctx ends first the server goes on stopping.
func (s *Server) Stop(ctx context.Context, mode StopMode) error {
	p, err := s.running()
	if err != nil {
		return nil //nolint:nilerr // none was ever started: stopped
	}
	if err := p.signal(syscall.Signal(mode)); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	select {
	case <-p.exited:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop PostgreSQL: %w", context.Cause(ctx))
	}
}

// Kill ends every process of the server by SIGKILL and waits until they are
// gone, as after a crash of the machine's memory: nothing is flushed, nobody
// is told. A server that is not running is no error.
func (s *Server) Kill() error {
	p, err := s.running()
	if err != nil {
		return nil //nolint:nilerr // none was ever started: dead
	}
	return p.kill()
}

// Wait blocks until the server has ended, by itself, by Kill or Stop, or
// because its context did.
func (s *Server) Wait(ctx context.Context) error {
	p, err := s.running()
	if err != nil {
		return err
	}
	select {
	case <-p.exited:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *process) kill() error {
	if p.ended() {
		return nil
	}
	err := p.killTree()
	<-p.exited
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	return nil
}

// killTree kills the postmaster and its children. The postmaster is stopped
// first, else it would answer its children's deaths by starting new ones; a
// child that outlived it would keep the shared memory, and the next start
// would be refused.
func (p *process) killTree() error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err // os.ErrProcessDone: it ended by itself
	}
	shmem := p.shmemID()
	err := errors.Join(p.killChildren(), p.cmd.Process.Kill())
	return errors.Join(err, removeShmem(shmem))
}

// removeShmem removes the segment once its last process is gone. One that is
// gone already is no error.
func removeShmem(id int) error {
	if id < 0 {
		return nil
	}
	_, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EIDRM) {
		return nil
	}
	return err
}

// killChildren repeats until none is left: the postmaster may have been in
// the middle of a fork when it was stopped.
func (p *process) killChildren() error {
	for {
		pids, err := children(p.cmd.Process.Pid)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := killAndWait(pid, 10*time.Second); err != nil {
				return err
			}
		}
	}
}

// shmemID is the System V segment that guards the data directory (the rest of
// the shared memory is anonymous); -1: unknown. Nobody removes it after a
// SIGKILL but the next start in the same directory, which may never come.
func (p *process) shmemID() int {
	lines := p.lockFile()
	if len(lines) <= lockFileShmem {
		return -1
	}
	var key, id int
	if n, _ := fmt.Sscan(lines[lockFileShmem], &key, &id); n != 2 {
		return -1
	}
	return id
}

// killAndWait kills a process and waits until it is dead (a zombie that
// nobody has waited for is).
func killAndWait(pid int, timeout time.Duration) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return awaitDeath(fd, pid, timeout)
}

// awaitDeath waits on a pidfd, which is readable from the process's end on.
func awaitDeath(fd, pid int, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(0, time.Until(deadline).Milliseconds())))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for process %d: %w", pid, err)
		case n == 1:
			return nil
		default:
			return fmt.Errorf("process %d lives %v after SIGKILL", pid, timeout)
		}
	}
}

// children lists the living children of a process.
func children(parent int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		if ppid, living := parseStat(b); living && ppid == parent {
			pid, _ := strconv.Atoi(strings.Split(path, "/")[2]) // the pattern has digits only there
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// parseStat reads the parent and the state from /proc/PID/stat (proc(5)). The
// name before them is in parentheses and may hold anything.
func parseStat(b []byte) (ppid int, living bool) {
	rest := b[bytes.LastIndexByte(b, ')')+1:]
	fields := bytes.Fields(rest)
	if len(fields) < 2 {
		return 0, false
	}
	ppid, err := strconv.Atoi(string(fields[1]))
	return ppid, err == nil && fields[0][0] != 'Z' && fields[0][0] != 'X'
}
