package timeline

import (
	"slices"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Snapshot is what a manager plans by: values only, taken without waiting for
// any I/O.
type Snapshot struct {
	State State
	// HasSource says that there is a server to stream from.
	HasSource bool
	// SourceGeneration grows whenever the source changes: what runs for an
	// earlier one must end.
	SourceGeneration uint64
	// Sealing says that a seal's end is being decided: nothing may be received.
	Sealing bool

	TLI         pg.TLI
	SegmentSize pg.SegmentSize // 0 until a source was seen
	WriteLSN    pg.LSN
	FlushLSN    pg.LSN
	CommitLSN   pg.LSN // of what is held here; see [Timeline.CommitEnd]

	// TLIBegin is where the newest TLI left its parent; 0 for the first.
	TLIBegin pg.LSN
	// NewestSealed says that the newest TLI is sealed.
	NewestSealed bool

	// ControlSavedAt says when the control file was saved; ControlSaved and
	// BackupSaved are the positions that it knows.
	ControlSavedAt time.Time
	ControlSaved   pg.Position
	BackupSaved    pg.Position

	// Backup is what is in object storage. BackupUndelivered says that a seal is
	// to be brought there.
	Backup            Backup
	BackupUndelivered bool
	// Draining says that nothing is received any more, and that all that is held is
	// to be in object storage.
	Draining bool

	// Oldest is the start of the oldest segment that is held.
	Oldest     pg.Position
	LocalBytes int64
	// Poisoned says that a sync failed: the log has to recover before anything
	// is received.
	Poisoned bool
	// NodesUnsaved says that a node was heard that the control file does not have.
	NodesUnsaved bool
}

// Snapshot returns the state to plan by.
func (t *Timeline) Snapshot() Snapshot {
	c, saved := t.Control(), t.saved.Load()
	s := Snapshot{
		HasSource: c.Source != "", SourceGeneration: t.sourceGeneration.Load(), SegmentSize: c.SegmentSize,
		ControlSavedAt: saved.at, ControlSaved: saved.flush, BackupSaved: saved.backup,
		Backup: t.Backup(), BackupUndelivered: slices.ContainsFunc(c.Seals, func(s Seal) bool { return s.Undelivered }),
	}
	if l := t.Log(); l != nil {
		w := l.Stats()
		s.TLI, s.WriteLSN, s.FlushLSN, s.CommitLSN = w.Flush.TLI, w.Write.LSN, w.Flush.LSN, t.commitEnd(w.Flush, w.CommitEnd)
		s.LocalBytes, s.Poisoned = w.LocalBytes, w.Poisoned != nil
		s.Oldest = l.Oldest()
		fork, _ := l.Lineage().Parent()
		s.TLIBegin = fork.LSN
		_, s.NewestSealed = c.SealOf(s.TLI)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s.State, s.Sealing, s.Draining, s.NodesUnsaved = t.state, t.sealing > 0, t.draining, len(t.learned) > 0
	return s
}
