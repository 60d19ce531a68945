package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pollInterval is how often a file of the server's is looked at.
const pollInterval = 10 * time.Millisecond

// process is one run of the postmaster.
type process struct {
	cmd    *exec.Cmd
	dir    string
	exited chan struct{} // closed when the postmaster has ended and been waited for
	err    error         // what Wait returned; read only after exited
}

// launch starts the postmaster and waits until it listens. Without a fixed
// port it tries others when somebody was quicker.
func (s *Server) launch(ctx context.Context) error {
	if s.Running() {
		return fmt.Errorf("start PostgreSQL: it runs already in %s", s.opts.Dir)
	}
	if port := s.Port(); port != 0 {
		return s.launchOn(ctx, port)
	}
	var err error
	for range 20 {
		var port int
		if port, err = FreePort(); err != nil {
			return err
		}
		if err = s.launchOn(ctx, port); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

var errPortTaken = errors.New("the port is taken")

// launchOn starts the postmaster on one port.
func (s *Server) launchOn(ctx context.Context, port int) error {
	logFrom := s.logSize()
	p, err := s.spawn(ctx, port)
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	s.mu.Lock()
	s.proc = p
	s.mu.Unlock()
	err = p.await(ctx, func() (bool, error) { return p.status() != "", nil })
	if err == nil {
		s.mu.Lock()
		s.port = port
		s.mu.Unlock()
		return nil
	}
	err = errors.Join(err, p.kill())
	log := s.logSince(logFrom)
	if strings.Contains(log, "could not create any TCP/IP sockets") {
		return fmt.Errorf("start PostgreSQL on port %d: %w", port, errPortTaken)
	}
	return fmt.Errorf("start PostgreSQL: %w\n%s", err, tail(log, logTailLines))
}

// spawn starts the postmaster. What belongs to this run, not to the cluster,
// stands on the command line: a base backup copies the configuration.
func (s *Server) spawn(ctx context.Context, port int) (*process, error) {
	logFile, err := os.OpenFile(s.LogFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	cmd := s.account.command(ctx, s.opts.Dir, s.install.program("postgres"),
		"-D", s.opts.Dir,
		"-c", "listen_addresses=127.0.0.1",
		"-c", "port="+strconv.Itoa(port),
		"-c", "unix_socket_directories=",
		"-c", "logging_collector=off",
		"-c", "log_destination=stderr")
	cmd.Stdout, cmd.Stderr = logFile, logFile
	p := &process{cmd: cmd, dir: s.opts.Dir, exited: make(chan struct{})}
	cmd.Cancel = p.killTree
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go p.wait() // kill and stop wait for it, on p.exited
	return p, nil
}

// wait ends with the postmaster. With a context that ended, exec's Wait
// returns only after killTree did.
func (p *process) wait() {
	p.err = p.cmd.Wait()
	close(p.exited)
}

func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// exitError says how the postmaster ended; p.exited must be closed.
func (p *process) exitError() error {
	if p.err == nil {
		return errors.New("PostgreSQL shut down")
	}
	return fmt.Errorf("PostgreSQL ended: %w", p.err)
}

// await looks at cond again and again until it holds; the postmaster's end
// and the context's are errors.
func (p *process) await(ctx context.Context, cond func() (bool, error)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if ok, err := cond(); ok || err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-p.exited:
			return p.exitError()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// The lines of postmaster.pid (PostgreSQL's pidfile.h), from 0.
const (
	lockFilePID    = 0
	lockFileShmem  = 6 // key and id of the System V segment
	lockFileStatus = 7 // written when the sockets listen
)

// lockFile reads postmaster.pid; nil if it is not this process's.
func (p *process) lockFile() []string {
	b, err := os.ReadFile(filepath.Join(p.dir, "postmaster.pid"))
	if err != nil {
		return nil
	}
	lines := strings.Split(string(b), "\n")
	if strings.TrimSpace(lines[lockFilePID]) != strconv.Itoa(p.cmd.Process.Pid) {
		return nil
	}
	return lines
}

// status is what pg_ctl goes by: starting, ready (also a hot standby), standby
// (one that takes no connections), stopping; empty while it does not listen.
func (p *process) status() string {
	lines := p.lockFile()
	if len(lines) <= lockFileStatus {
		return ""
	}
	return strings.TrimSpace(lines[lockFileStatus])
}

// signal sends the postmaster a signal; one that has ended is no error.
func (p *process) signal(sig syscall.Signal) error {
	err := p.cmd.Process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
