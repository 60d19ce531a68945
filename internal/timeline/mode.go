package timeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/sluicewal/sluice/internal/pg"
)

// Mode says what a tenant does on this node.
type Mode string

// The modes.
const (
	ModeAttached  Mode = "attached"  // it streams from its sources
	ModeSecondary Mode = "secondary" // it keeps a warm copy of what is in object storage, and is no member of a quorum
	ModeDetached  Mode = "detached"  // it does nothing here; what is in object storage stays
)

// Modes lists all modes.
func Modes() []Mode { return []Mode{ModeAttached, ModeSecondary, ModeDetached} }

// ParseMode checks the name of a mode.
func ParseMode(s string) (Mode, error) {
	if m := Mode(s); slices.Contains(Modes(), m) {
		return m, nil
	}
	return "", fmt.Errorf("mode %q: want attached, secondary or detached", s)
}

// OpenStopped stands for the timeline in cfg.Dir while nothing is done with it:
// its control file is read and may be changed, its WAL is not opened, and nobody
// gets in. Why says so to whoever tries.
func OpenStopped(ctx context.Context, cfg Config, id ID, why error) (*Timeline, error) {
	t, err := load(ctx, cfg, id)
	if err != nil {
		return nil, err
	}
	t.move(StateStopped, why)
	return t, nil
}

// LeaveSource makes durable that this node ceases to stream from the source: from
// now on it may lack what others have, and what it does not hold may exist.
func (t *Timeline) LeaveSource(ctx context.Context) error {
	return t.update(ctx, func(c *Control) error {
		if c.Away || c.Start.TLI == 0 {
			return errNoChange
		}
		c.Away = true
		return nil
	})
}

// Returned makes durable that this node streams again, from a source that is at
// this position: once it holds all up to there, its word counts.
func (t *Timeline) Returned(ctx context.Context, source pg.Position) error {
	return t.update(ctx, func(c *Control) error {
		if !c.Away {
			return errNoChange
		}
		c.Away, c.JoinTLI, c.JoinLSN = false, source.TLI, source.LSN
		return nil
	})
}

// ErrOnlyHere says that this node has WAL that object storage does not.
var ErrOnlyHere = errors.New("this node has what object storage does not")

// DropWAL removes the WAL of a stopped timeline from this node, durably: from then
// on it is one that only met object storage. It is ErrOnlyHere, and nothing is
// removed, if object storage does not have all of it. What diverged stays: nobody
// else has that. It can be repeated.
func (t *Timeline) DropWAL(ctx context.Context) error {
	err := t.update(ctx, func(c *Control) error {
		if c.Start.TLI == 0 {
			return errNoChange
		}
		if err := c.onlyHere(); err != nil {
			return err
		}
		c.Start, c.Flush, c.RecordEnd, c.Clean = pg.Position{}, pg.Position{}, 0, true
		c.JoinTLI, c.JoinLSN, c.Away = 0, 0, false
		return nil
	})
	if err != nil {
		return err
	}
	return t.removeWAL()
}

// onlyHere fails if something that this node knows or holds is not in object
// storage. The bytes of a record that never became complete do not count.
func (c Control) onlyHere() error {
	s := c.Stored
	whole := s != nil && (s.Backup.TLI == c.Flush.TLI && s.Backup.LSN >= c.RecordEnd || s.Partial == pg.Position{TLI: c.Flush.TLI, LSN: c.RecordEnd})
	switch {
	case s == nil:
		return fmt.Errorf("%w: it was never backed up", ErrOnlyHere)
	case c.Ended != nil:
		return fmt.Errorf("%w: that life was deleted there", ErrOnlyHere)
	case c.Promised != 0 || slices.ContainsFunc(c.Seals, func(s Seal) bool { return s.Undelivered }):
		return fmt.Errorf("%w: a seal", ErrOnlyHere)
	case s.Conflict != 0 || c.Flush.TLI > max(s.Claimed, 1):
		return fmt.Errorf("%w: TLI %d, which is not claimed there", ErrOnlyHere, c.Flush.TLI)
	case !whole:
		return fmt.Errorf("%w: WAL up to %s; there it ends at %s, with the open segment at %s", ErrOnlyHere, c.Flush, s.Backup, s.Partial)
	}
	return nil
}

// removeWAL removes the files of the WAL directory, but not the directories in it.
func (t *Timeline) removeWAL() error {
	dir := filepath.Join(t.cfg.Dir, walDir)
	infos, err := t.cfg.FS.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove the WAL of timeline %s: %w", t.id, err)
	}
	for _, i := range infos {
		if i.IsDir() {
			continue
		}
		if err := t.cfg.FS.Remove(filepath.Join(dir, i.Name())); err != nil {
			return fmt.Errorf("remove the WAL of timeline %s: %w", t.id, err)
		}
	}
	return t.cfg.FS.SyncDir(dir)
}
