package timeline

import (
	"context"
	"fmt"
	"path/filepath"
)

// Shutdown stops the timeline: it cancels with cause, closes the gate, and only
// then saves the control file and closes the files. When it returns nil, nobody
// touches the storage any more.
//
// When ctx ends first, the error is the gate's and lists who is still inside;
// the gate stays closed to newcomers, and a later Shutdown can finish. Shutting
// down twice is legal.
func (t *Timeline) Shutdown(ctx context.Context, cause error) error {
	t.setStopping()
	t.stop(cause)
	if err := t.gate.Close(ctx); err != nil {
		return fmt.Errorf("shut down timeline %s: %w", t.id, err)
	}
	if err := t.closeLog(ctx); err != nil {
		return fmt.Errorf("shut down timeline %s: %w", t.id, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state == StateStopping {
		t.state = StateStopped
	}
	return nil
}

func (t *Timeline) setStopping() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state == StateRunning || t.state == StateCreating {
		t.state = StateStopping
	}
}

// closeLog closes the log and vouches for its exact end.
func (t *Timeline) closeLog(ctx context.Context) error {
	l := t.Log()
	if l == nil {
		return nil
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("close wal: %w", err)
	}
	s := l.Stats()
	return t.update(ctx, func(c *Control) error {
		clean := s.Poisoned == nil && s.Write == s.Flush
		if c.Clean == clean && c.Flush == s.Flush {
			return errNoChange
		}
		c.Clean = clean
		return nil
	})
}

// RemoveFiles removes the timeline's directory. The timeline was shut down. A
// crash in between leaves a directory that begins with TempPrefix, which the
// next start removes.
func (t *Timeline) RemoveFiles() error {
	fsys, dir := t.cfg.FS, t.cfg.Dir
	gone := filepath.Join(filepath.Dir(dir), TempPrefix+string(t.Control().Incarnation))
	if err := fsys.Rename(dir, gone); err != nil {
		return fmt.Errorf("remove timeline %s: %w", t.id, err)
	}
	if err := fsys.SyncDir(filepath.Dir(dir)); err != nil {
		return fmt.Errorf("remove timeline %s: %w", t.id, err)
	}
	if err := fsys.RemoveAll(gone); err != nil {
		return fmt.Errorf("remove timeline %s: %w", t.id, err)
	}
	return nil
}
