package timeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/wal"
)

// Held is what the timeline holds and has promised, as a receiver needs it to
// judge a source.
type Held struct {
	SystemID    uint64 // 0: no source was ever seen, and nothing is decided
	SegmentSize pg.SegmentSize
	// Position is the raw end of what is held. Where nothing is, its LSN is 0, and
	// its TLI the newest that is known, if one is.
	Position  pg.Position
	RecordEnd pg.LSN
	// Stored is how far object storage has an unbroken run, on the history of its
	// TLI; zero: it has nothing.
	Stored pg.Position
	// Newest is the history of the newest TLI that was claimed in object storage; its
	// TLI is 0 where none was.
	Newest pg.History
	// Seal is the seal of Position.TLI, if there is one.
	Seal           *Seal
	AcceptDataLoss bool
}

// Held returns what is held now.
func (t *Timeline) Held() Held {
	c := t.Control()
	h := Held{SystemID: c.SystemID, SegmentSize: c.SegmentSize}
	if c.Stored != nil {
		h.Stored, h.Newest = c.Stored.Backup, c.Stored.Newest
	}
	if l := t.Log(); l != nil && !l.HoldsNothing() {
		s := l.Stats()
		h.Position, h.RecordEnd = s.Write, s.RecordEnd
	} else {
		h.Position.TLI = h.Newest.TLI
	}
	h.AcceptDataLoss = c.AcceptDataLossOn != 0 && c.AcceptDataLossOn == h.Position.TLI
	if seal, ok := c.SealOf(h.Position.TLI); ok {
		h.Seal = &seal
	} else if c.Promised != 0 && c.Promised == h.Position.TLI {
		h.Seal = &Seal{TLI: c.Promised}
	}
	return h
}

// BeginReceive lets one receiver in, and returns how it says that it has ended.
// It fails with ErrSealing while a seal is decided, so that nothing is
// acknowledged that the seal's end does not know.
func (t *Timeline) BeginReceive() (end func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sealing > 0 {
		return nil, ErrSealing
	}
	if t.ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", ErrShuttingDown, context.Cause(t.ctx))
	}
	end, busy := t.enterLogLocked()
	if busy != nil {
		return nil, fmt.Errorf("timeline %s: a receiver runs already", t.id)
	}
	return end, nil
}

// enterLogLocked makes the caller the log's one writer until it calls leave.
// Where there is one, busy is closed when that has left.
func (t *Timeline) enterLogLocked() (leave func(), busy <-chan struct{}) {
	if t.writing != nil {
		return nil, t.writing
	}
	done := make(chan struct{})
	t.writing = done
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		close(done)
		t.writing = nil
	}, nil
}

// unclean takes the mark of a clean close back, durably.
func (t *Timeline) unclean(ctx context.Context) error {
	return t.update(ctx, func(c *Control) error {
		if !c.Clean {
			return errNoChange
		}
		c.Clean = false
		return nil
	})
}

// PrepareReceive makes the log ready to be appended to: the mark of a clean
// close is taken back, and a poisoned writer recovers what a sync vouched for.
func (t *Timeline) PrepareReceive(ctx context.Context) error {
	if err := t.unclean(ctx); err != nil {
		return err
	}
	l := t.Log()
	if l == nil || l.Stats().Poisoned == nil {
		return nil
	}
	if err := l.Recover(); err != nil {
		return fmt.Errorf("recover the log: %w", err)
	}
	return nil
}

// Adoption is what a timeline becomes when it sees its first source.
type Adoption struct {
	SystemID    uint64
	SegmentSize pg.SegmentSize
	Start       pg.Position // the start of a segment
	SourceFlush pg.LSN      // the source's position at this moment
	Away        bool        // it is object storage, and no server
	// History is the history file of Start.TLI, byte for byte; nil on TLI 1.
	History []byte
}

// Adopt takes the identity of the first source, and begins to hold WAL; again,
// elsewhere, if the source had nothing to send from where it began before. The
// node is qualified once it holds everything from there to the source's position
// of this moment.
func (t *Timeline) Adopt(ctx context.Context, a Adoption) error {
	if id := t.Control().SystemID; id != 0 && id != a.SystemID || !t.HoldsNothing() {
		return fmt.Errorf("timeline %s has system identifier %d already", t.id, id)
	}
	dir := filepath.Join(t.cfg.Dir, walDir)
	if err := removeHistories(t.cfg.FS, dir); err != nil {
		return fmt.Errorf("remove what an adoption that failed left behind: %w", err)
	}
	l, err := t.emptyLog(dir, a.SegmentSize)
	if err != nil {
		return fmt.Errorf("open wal: %w", err)
	}
	err = begin(l, a)
	if err == nil {
		err = t.update(ctx, func(c *Control) error {
			c.SystemID, c.SegmentSize, c.JoinTLI, c.JoinLSN, c.Away = a.SystemID, a.SegmentSize, 0, a.SourceFlush, a.Away
			c.Start, c.Flush, c.RecordEnd, c.Clean = a.Start, a.Start, 0, false
			if s := c.Stored; s != nil && (s.Backup.LSN == 0 || a.Start.LSN > s.Backup.LSN) {
				s.Backup = a.Start // behind a hole, a run begins anew
			}
			return nil
		})
	}
	if err != nil && t.Log() == nil {
		return errors.Join(err, l.Close())
	}
	if err != nil {
		return err
	}
	t.log.Store(l)
	t.wake.Ring(ReasonTLIChanged)
	return nil
}

// emptyLog returns the log, which is made if it is not there yet.
func (t *Timeline) emptyLog(dir string, size pg.SegmentSize) (*wal.Log, error) {
	if l := t.Log(); l != nil {
		return l, nil
	}
	return wal.Open(dir, t.walConfig(size), wal.Vouched{})
}

// removeHistories durably removes the history files of a log that holds nothing
// yet: one of another cluster would be taken for the way that this one went.
func removeHistories(fsys wal.FS, dir string) error {
	infos, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, i := range infos {
		if _, err := pg.ParseHistoryName(i.Name()); err != nil {
			continue
		}
		if err := fsys.Remove(filepath.Join(dir, i.Name())); err != nil {
			return err
		}
	}
	return fsys.SyncDir(dir)
}

// begin gives an empty log its first position. A crash before the control file
// says so leaves a history file, which the next adoption removes.
func begin(l *wal.Log, a Adoption) error {
	if a.History != nil {
		if err := l.StoreHistory(a.Start.TLI, a.History); err != nil {
			return err
		}
	}
	return l.Start(a.Start)
}

// Synced tells the manager how far the log is durable now.
func (t *Timeline) Synced() {
	s := t.Log().Stats()
	t.wake.Flush.Set(uint64(s.Flush.LSN))
	t.wake.Commit.Set(uint64(t.commitEnd(s.Flush, s.CommitEnd)))
	if s.Poisoned != nil {
		t.wake.Ring(ReasonStateChanged)
	}
}

// Follow goes over to a child of the newest TLI, whose history leaves ours at or
// below what is held. What lies beyond the fork is kept aside, and said.
func (t *Timeline) Follow(ctx context.Context, child pg.History, raw []byte) error {
	l := t.Log()
	if l == nil {
		return ErrEmpty
	}
	if _, err := l.SwitchTLI(child, raw); err != nil {
		return err
	}
	err := t.SaveControl(ctx)
	if err == nil {
		t.wake.Ring(ReasonTLIChanged)
	}
	return err
}

// Qualified reports whether this node's "does not exist" counts.
func (t *Timeline) Qualified() bool {
	l := t.Log()
	return l != nil && t.Control().QualifiedAt(l.Stats().Flush)
}
