package pgserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// WaitReady waits until the server accepts connections: at once, after crash
// recovery, or in a recovery as soon as it is a hot standby. Its error carries
// the end of the log if the server ended instead.
func (s *Server) WaitReady(ctx context.Context) error {
	return s.await(ctx, "ready", func(p *process) (bool, error) {
		return p.status() == "ready", nil
	})
}

// WaitPromoted waits until a recovery has ended and the server accepts writes.
func (s *Server) WaitPromoted(ctx context.Context) error {
	return s.await(ctx, "promoted", func(p *process) (bool, error) {
		if p.status() != "ready" || s.recovering() {
			return false, nil
		}
		inRecovery, err := s.Value(ctx, "SELECT pg_is_in_recovery()")
		return inRecovery == "f", err
	})
}

// recovering says whether a file that asks for recovery is still there; its
// removal comes shortly before the recovery's end.
func (s *Server) recovering() bool {
	for _, name := range []string{recoverySignal, standbySignal} {
		if _, err := os.Stat(filepath.Join(s.opts.Dir, name)); err == nil {
			return true
		}
	}
	return false
}

func (s *Server) await(ctx context.Context, what string, cond func(*process) (bool, error)) error {
	p, err := s.running()
	if err != nil {
		return err
	}
	if err := p.await(ctx, func() (bool, error) { return cond(p) }); err != nil {
		return fmt.Errorf("wait for PostgreSQL to be %s: %w\n%s", what, err, s.Log(logTailLines))
	}
	return nil
}

// Promote ends a recovery, as pg_ctl promote does, and waits until the server
// accepts writes.
func (s *Server) Promote(ctx context.Context) error {
	p, err := s.running()
	if err != nil {
		return err
	}
	// The file may be gone at once: any signal makes the postmaster look for it. Only the directory's owner has to remove it.
	if err := os.WriteFile(filepath.Join(s.opts.Dir, "promote"), nil, 0o600); err != nil {
		return fmt.Errorf("promote PostgreSQL: %w", err)
	}
	if err := p.signal(syscall.SIGUSR1); err != nil {
		return fmt.Errorf("promote PostgreSQL: %w", err)
	}
	return s.WaitPromoted(ctx)
}
