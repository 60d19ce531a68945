package rig

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Server is a program of somebody else's that serves at an address. It ends with the test, and before if it is stopped.
type Server struct {
	Address string
	argv    []string
	env     []string
	log     string
	proc    *process
}

// StartServer starts a program, whose arguments say that it listens on address, and waits until it does.
func StartServer(t testing.TB, address string, env []string, argv ...string) *Server {
	t.Helper()
	s := &Server{Address: address, argv: argv, env: env, log: filepath.Join(t.TempDir(), "log")}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// Start starts the program again after a Stop.
func (s *Server) Start() (err error) {
	cmd := exec.Command(s.argv[0], s.argv[1:]...)
	cmd.Env = append(os.Environ(), s.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if s.proc, err = spawn(cmd, s.log); err != nil {
		return err
	}
	return s.awaitListening()
}

// Stop kills the program. One that does not run is no error.
func (s *Server) Stop() error {
	if s.proc == nil {
		return nil
	}
	return s.proc.kill()
}

func (s *Server) awaitListening() error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(30 * time.Second); ; {
		conn, err := net.Dial("tcp", s.Address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-s.proc.exited:
			return fmt.Errorf("%s ended: %w\n%s", s.argv[0], s.proc.err, Tail(s.log, 10))
		case <-late:
			return fmt.Errorf("%s does not listen: %w\n%s", s.argv[0], err, Tail(s.log, 10))
		}
	}
}

// FreeAddress is one on which nobody listens.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Cached looks for a program that a script has put into .cache/bin, below the repository's root.
func Cached(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil || dir == filepath.Dir(dir) {
			path := filepath.Join(dir, ".cache", "bin", name)
			_, err := os.Stat(path)
			return path, err
		}
	}
}
