package pgserver

import "context"

// CopyBackup is what BaseBackup falls back to.
func (s *Server) CopyBackup(ctx context.Context, dst string) error {
	if err := s.account.makeDir(dst); err != nil {
		return err
	}
	return s.copyBackup(ctx, dst)
}
