package timeline

import (
	"context"
	"errors"
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
	t.move(StateStopping, t.Control().ended())
	t.stop(cause)
	if err := t.visits.Close(ctx); err != nil {
		return fmt.Errorf("shut down timeline %s: %w", t.id, err)
	}
	if err := t.close(ctx); err != nil {
		return fmt.Errorf("shut down timeline %s: %w", t.id, err)
	}
	return nil
}

// close closes the log, vouches for its exact end, and lets nobody write any
// more. A log that failed at its last sync is closed all the same: that is said
// once, and no mark claims that it was clean.
func (t *Timeline) close(ctx context.Context) error {
	if err := t.lockControl(ctx); err != nil {
		return err
	}
	defer t.unlockControl()
	if t.closed {
		return nil
	}
	err := t.closeLog()
	if saveErr := t.updateLocked(t.markEnd); saveErr != nil {
		return errors.Join(err, saveErr) // the next Shutdown tries again
	}
	t.closed = true
	t.move(StateStopped, t.Control().ended())
	return err
}

func (t *Timeline) closeLog() error {
	l := t.Log()
	if l == nil {
		return nil
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("close wal: %w", err)
	}
	return nil
}

// markEnd notes whether the log was closed at exactly its end.
func (t *Timeline) markEnd(c *Control) error {
	l := t.Log()
	if l == nil {
		return errNoChange
	}
	s := l.Stats()
	clean := s.Poisoned == nil && s.Write == s.Flush
	if c.Clean == clean && c.Flush == s.Flush {
		return errNoChange
	}
	c.Clean = clean
	return nil
}

// RemoveFiles removes the timeline's directory. The timeline was shut down. A
// crash in between leaves a directory that begins with TempPrefix, which the
// next start removes; after an error it can be called again.
func (t *Timeline) RemoveFiles() error {
	dir := t.cfg.Dir
	tmp := filepath.Join(filepath.Dir(dir), TempPrefix+t.id.Name+"-"+string(t.Control().Incarnation))
	if err := removeDir(t.cfg.FS, dir, tmp); err != nil {
		return fmt.Errorf("remove timeline %s: %w", t.id, err)
	}
	return nil
}
