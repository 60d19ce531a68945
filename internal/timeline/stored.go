package timeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Stored is what is known, durably, of a timeline in object storage. It may lag
// what is there, never lead it.
type Stored struct {
	// StoreID is the id of the store where the identity was decided: another store
	// is not the place where the timeline's nodes meet.
	StoreID     string `json:"store_id"`
	Compression string `json:"compression"`

	// Backup is the end of the unbroken run of whole segments, on the history of
	// its TLI; see [Timeline.Backup].
	Backup pg.Position `json:"backup"`
	// Claimed is the newest TLI that was claimed there, with its history, and with
	// the end of the TLI that it left. 0: none was.
	Claimed pg.TLI `json:"claimed,omitempty"`
	// Partial is how far the newest open segment of this node reaches, and
	// PartialAt when it was read: what came later is not in it.
	Partial   pg.Position `json:"partial"`
	PartialAt time.Time   `json:"partial_at,omitzero"`
	// Newest is the history of the newest TLI that some node has claimed, when it
	// was last asked for; its TLI is 0 while none has.
	Newest pg.History `json:"newest,omitzero"`
	// Conflict is the TLI of which this node follows another promotion than the
	// one that was claimed: nothing of it is acknowledged or uploaded. 0: none.
	Conflict    pg.TLI `json:"conflict,omitempty"`
	ConflictWhy string `json:"conflict_why,omitempty"`
}

var (
	// ErrOtherStore says that object storage is another than the one where the
	// timeline's identity was decided.
	ErrOtherStore = errors.New("object storage is another than the one where this timeline was decided")
	// ErrIncarnation says that a timeline that holds WAL, or knows who it is there, is
	// another in object storage.
	ErrIncarnation = errors.New("object storage has another life of this timeline")
)

// Meeting is what object storage said of a timeline.
type Meeting struct {
	Incarnation Incarnation
	Revived     int // how often that life came back after its end
	SystemID    uint64
	SegmentSize pg.SegmentSize
	StoreID     string
	Compression string
	// Backup is the end of the unbroken run that is there; zero: nothing is.
	Backup pg.Position
	Newest pg.History // of the newest TLI that was claimed, or that has WAL; zero: none
	Seals  []Seal
}

// Meet takes what object storage has decided about this timeline. Where nothing
// is held yet, and nothing was decided there, the node takes the identity over;
// otherwise the two must be one life: of another, its positions and seals say nothing.
func (t *Timeline) Meet(ctx context.Context, m Meeting) error {
	err := t.update(ctx, func(c *Control) error {
		switch {
		case c.Stored != nil && c.Stored.StoreID != m.StoreID:
			return fmt.Errorf("%w: its id is %s, and was %s; set object_store.url back", ErrOtherStore, m.StoreID, c.Stored.StoreID)
		case c.Incarnation != m.Incarnation && (c.Stored != nil || !t.HoldsNothing()):
			return fmt.Errorf("%w: there %s, here %s; give one of them another name", ErrIncarnation, m.Incarnation, c.Incarnation)
		}
		before := c.clone()
		c.meet(m)
		if before.sameDecisions(*c) {
			return errNoChange
		}
		return nil
	})
	if err == nil {
		t.wake.Ring(ReasonStateChanged)
	}
	return err
}

func (c *Control) meet(m Meeting) {
	if c.Stored == nil {
		c.Stored = &Stored{StoreID: m.StoreID, Compression: m.Compression, Backup: m.Backup}
		c.Incarnation, c.Revived, c.SystemID, c.SegmentSize = m.Incarnation, m.Revived, m.SystemID, m.SegmentSize
		if m.Backup.LSN == 0 {
			c.Stored.Backup = c.Start // nothing is there; what is held begins here
		}
	} else if c.Start.TLI == 0 {
		c.Stored.Backup = later(c.Stored.Backup, m.Backup) // what others have brought there is not to be streamed again
	}
	if c.Incarnation == m.Incarnation && !c.Deleting { // what was to be deleted is the life that was known then
		c.Revived = max(c.Revived, m.Revived)
	}
	if m.Newest.TLI > c.Stored.Newest.TLI {
		c.Stored.Newest = m.Newest
	}
	for _, theirs := range m.Seals {
		c.takeSeal(theirs)
	}
}

// takeSeal takes an end that was decided where the nodes meet. A node's own word
// for it, given while that place could not be reached, gives way.
func (c *Control) takeSeal(theirs Seal) {
	i := slices.IndexFunc(c.Seals, func(s Seal) bool { return s.TLI == theirs.TLI })
	switch {
	case i < 0:
		c.Seals = append(c.Seals, theirs)
	case c.Seals[i].End == theirs.End:
		c.Seals[i].Undelivered = false
	case c.Seals[i].Undelivered && !c.Seals[i].TailServed:
		c.Seals[i] = theirs
	}
	if c.Promised == theirs.TLI {
		c.Promised = 0
	}
}

func (c Control) sameDecisions(o Control) bool {
	return c.Stored != nil && o.Stored != nil && c.Stored.Newest.TLI == o.Stored.Newest.TLI && c.Stored.Backup == o.Stored.Backup &&
		slices.Equal(c.Seals, o.Seals) && c.Promised == o.Promised && c.Revived == o.Revived
}

// HoldsNothing reports whether no byte of WAL was ever received.
func (t *Timeline) HoldsNothing() bool {
	l := t.Log()
	return l == nil || l.HoldsNothing()
}

// Backup is what is in object storage, as this node knows.
type Backup struct {
	// Decided says that the timeline's identity was decided there.
	Decided bool
	// LSN is the end of the unbroken run of whole segments, on the history of the
	// newest TLI that is held.
	LSN       pg.LSN
	At        pg.Position // the same, on the TLI of which it was noted
	Since     time.Time   // since when it is there; zero: since before this process
	Claimed   pg.TLI
	Partial   pg.Position
	PartialAt time.Time
	Conflict  pg.TLI // a TLI that another promotion has there; 0: none
}

// Backup returns what is in object storage. It may be newer than the control
// file.
func (t *Timeline) Backup() Backup {
	s := t.Control().Stored
	if s == nil {
		return Backup{}
	}
	t.mu.Lock()
	at, since := later(s.Backup, t.backedUp), t.backedUpAt
	t.mu.Unlock()
	return Backup{
		Decided: true, LSN: t.onLine(at), At: at, Since: since, Claimed: s.Claimed, Partial: s.Partial, PartialAt: s.PartialAt, Conflict: s.Conflict,
	}
}

// onLine returns how far the run up to at is a part of what is held: up to the
// segment in which its TLI was left, which has to be there as the child's.
func (t *Timeline) onLine(at pg.Position) pg.LSN {
	l := t.Log()
	if l == nil {
		return at.LSN
	}
	end, left := l.Lineage().End(at.TLI)
	if !left {
		return at.LSN
	}
	return min(at.LSN, t.Control().SegmentSize.StartOf(end))
}

// later returns the position that was reached later.
func later(a, b pg.Position) pg.Position {
	if b.TLI > a.TLI || b.TLI == a.TLI && b.LSN > a.LSN {
		return b
	}
	return a
}

// BackedUp notes that all below at.LSN, on the history of at.TLI, is in object
// storage. The control file takes it along when it is saved next.
func (t *Timeline) BackedUp(at pg.Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.backedUp = later(t.backedUp, at); t.backedUp == at {
		t.backedUpAt = t.cfg.now()
	}
}

// Claimed makes durable that a TLI was claimed in object storage.
func (t *Timeline) Claimed(ctx context.Context, tli pg.TLI) error {
	err := t.updateStored(ctx, func(s *Stored) error {
		if s.Claimed >= tli {
			return errNoChange
		}
		s.Claimed, s.Conflict, s.ConflictWhy = tli, 0, ""
		return nil
	})
	t.wake.Ring(ReasonBackupAdvanced)
	return err
}

// PartialStored makes durable how far the open segment in object storage reaches,
// and when that was all that was committed.
func (t *Timeline) PartialStored(ctx context.Context, end pg.Position, at time.Time) error {
	return t.updateStored(ctx, func(s *Stored) error {
		s.Partial, s.PartialAt = end, at.UTC()
		return nil
	})
}

// SetConflict makes durable that this node follows another promotion to a TLI than
// the one that was claimed: nothing of it is acknowledged any more.
func (t *Timeline) SetConflict(ctx context.Context, tli pg.TLI, why string) error {
	err := t.updateStored(ctx, func(s *Stored) error {
		if s.Conflict == tli {
			return errNoChange
		}
		s.Conflict, s.ConflictWhy = tli, why
		return nil
	})
	t.wake.Ring(ReasonStateChanged)
	return err
}

// Delivered makes durable that object storage knows of a seal, and the end that
// was decided there.
func (t *Timeline) Delivered(ctx context.Context, tli pg.TLI, end pg.LSN) error {
	return t.update(ctx, func(c *Control) error {
		i := slices.IndexFunc(c.Seals, func(s Seal) bool { return s.TLI == tli })
		if i < 0 || !c.Seals[i].Undelivered {
			return errNoChange
		}
		c.Seals[i].Undelivered, c.Seals[i].End = false, end
		return nil
	})
}

func (t *Timeline) updateStored(ctx context.Context, change func(*Stored) error) error {
	return t.update(ctx, func(c *Control) error {
		if c.Stored == nil {
			return fmt.Errorf("timeline %s: its identity was not decided in object storage", t.id)
		}
		return change(c.Stored)
	})
}

// SetDraining stops receiving, or goes on, and asks for all that is held to be
// backed up, the open segment included.
func (t *Timeline) SetDraining(draining bool) {
	t.mu.Lock()
	t.draining = draining
	t.mu.Unlock()
	t.wake.Ring(ReasonRequest)
}
