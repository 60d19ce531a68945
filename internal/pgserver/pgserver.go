// Package pgserver runs a throw-away PostgreSQL, for the demo and for tests.
//
// A Server is one data directory and, while it runs, one postmaster that is a
// child of this process. It listens on 127.0.0.1 only, below the ephemeral
// ports, and trusts whoever connects (unless Options.Password is set): it is
// for data that nobody will miss. As root, every PostgreSQL program runs as an
// unprivileged user, because PostgreSQL refuses anything else.
//
// What is promised: when Kill, Stop or Close has returned, or the context that
// was given to Start is done and Wait has returned, no process of the server
// is left, and neither is its shared memory. If this process itself is killed,
// the kernel tells the postmaster to shut down at once.
//
// A Server's methods may be called by several goroutines at once.
package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// Superuser is the role that initdb makes, and the one that Conninfo names.
const Superuser = "postgres"

// ErrNotRunning says that a method needs a running server.
var ErrNotRunning = errors.New("PostgreSQL is not running")

// Options says which server to start. Only Dir is required.
type Options struct {
	// Dir is the data directory. Start wants it absent or empty; its log is
	// written beside it, to Dir + ".log".
	Dir string
	// BinDir holds the programs (initdb, postgres); empty: what Find finds.
	BinDir string
	// Port on 127.0.0.1; 0: a free one below the ephemeral range.
	Port int
	// SegmentSizeMiB is initdb's --wal-segsize, a power of two from 1 to
	// 1024; 0: PostgreSQL's 16.
	SegmentSizeMiB int
	// Config goes into postgresql.conf, over this package's own defaults.
	// Values are plain; they are quoted here. Used by Start only: change a
	// server that exists by Configure.
	Config map[string]string
	// HBA holds lines for pg_hba.conf that come before the default ones.
	HBA []string
	// Password of Superuser. With it, connections over TCP need it (SCRAM).
	Password string
}

// Server is one data directory and the postmaster that may run on it.
type Server struct {
	opts    Options
	install Installation
	account account

	mu   sync.Mutex
	port int      // 0 until it first listened; kept over restarts
	proc *process // the last one started; nil: none yet
}

// Start makes a new cluster in opts.Dir, starts it and waits until it accepts
// connections. The server ends, as by Kill, when ctx does. Where $PG_TEMPLATES
// names a directory, the cluster is a copy of one that is kept there, with a
// system identifier of its own; initdb makes what is not there yet.
func Start(ctx context.Context, opts Options) (*Server, error) {
	s, err := newServer(ctx, opts)
	if err != nil {
		return nil, err
	}
	if err := s.initdb(ctx); err != nil {
		return nil, err
	}
	if err := s.Restart(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// StartExisting starts a server on a data directory that is there already: a
// base backup, or one that a Server left. As root it first gives the directory
// to the unprivileged user. It returns as soon as the server listens, since a
// recovery may take long: WaitReady and WaitPromoted tell how far it is. The
// server ends, as by Kill, when ctx does.
func StartExisting(ctx context.Context, opts Options) (*Server, error) {
	s, err := newServer(ctx, opts)
	if err != nil {
		return nil, err
	}
	if err := s.account.give(s.opts.Dir); err != nil {
		return nil, err
	}
	if err := s.launch(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// newServer finds the programs and the user; it starts nothing.
func newServer(ctx context.Context, opts Options) (*Server, error) {
	if opts.Dir == "" {
		return nil, errors.New("start PostgreSQL: Options.Dir is empty")
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	opts.Dir = dir
	acct, err := unprivileged()
	if err != nil {
		return nil, err
	}
	install, err := findIn(ctx, opts.BinDir)
	if err != nil {
		return nil, err
	}
	return &Server{opts: opts, install: install, account: acct, port: opts.Port}, nil
}

// Restart starts a server that is not running, on the port that it had, and
// waits until it accepts connections. It ends, as by Kill, when ctx does.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.launch(ctx); err != nil {
		return err
	}
	if err := s.WaitReady(ctx); err != nil {
		return errors.Join(err, s.Kill())
	}
	return nil
}

// Close ends the server as Kill does. The files stay.
func (s *Server) Close() error { return s.Kill() }

// Dir is the data directory.
func (s *Server) Dir() string { return s.opts.Dir }

// LogFile is where the server's log is written.
func (s *Server) LogFile() string { return s.opts.Dir + ".log" }

// Installation says which PostgreSQL this is.
func (s *Server) Installation() Installation { return s.install }

// Port that the server listens on, or last did.
func (s *Server) Port() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.port
}

// Running says whether the postmaster lives.
func (s *Server) Running() bool {
	p, err := s.running()
	return err == nil && !p.ended()
}

// running returns the last process started.
func (s *Server) running() (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil, ErrNotRunning
	}
	return s.proc, nil
}

// RemoveAll removes the data directory and the log, of a server that is not
// running.
func (s *Server) RemoveAll() error {
	if s.Running() {
		return fmt.Errorf("remove %s: PostgreSQL is running there", s.opts.Dir)
	}
	return errors.Join(os.RemoveAll(s.opts.Dir), os.RemoveAll(s.LogFile()))
}
