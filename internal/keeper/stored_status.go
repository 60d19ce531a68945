package keeper

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/timeline"
)

// Queue is what waits to be brought to object storage.
type Queue struct {
	LagBytes int64     // the commit LSN less the backup LSN
	Segments int64     // whole ones
	Since    time.Time // since when the oldest of them is whole; zero if there is none, or that is not known
}

// Queue returns what waits; false while it is not known what object storage has.
func (m *Member) Queue() (Queue, bool) {
	l, b := m.Log(), m.Backup()
	if l == nil || m.keeper.depot == nil || !b.Decided || b.LSN == 0 {
		return Queue{}, false
	}
	size, end := m.Control().SegmentSize, m.committed()
	if end <= b.LSN {
		return Queue{}, true
	}
	q := Queue{LagBytes: int64(end - b.LSN), Segments: int64(size.SegNo(end) - size.SegNo(b.LSN))}
	if q.Segments > 0 {
		n := size.SegNo(b.LSN)
		q.Since, _ = l.WholeSince(backup.NewestAt(l.Lineage(), n, size), n)
	}
	return q, true
}

// BackupStatus is what may be told of the timeline in object storage; nil without
// one.
func (m *Member) backupStatus() *timeline.BackupStatus {
	d := m.keeper.depot
	if d == nil {
		return nil
	}
	s := &timeline.BackupStatus{Store: d.shown()}
	s.Available, s.Error = m.storeAvailable()
	b := m.Backup()
	if q, known := m.Queue(); known {
		s.LagBytes, s.QueueSegments = &q.LagBytes, &q.Segments
	}
	s.HeldBack = m.heldBack()
	if b.Partial.LSN != 0 {
		s.Partial = &timeline.PartialStatus{TLI: b.Partial.TLI, End: b.Partial.LSN, At: b.PartialAt}
	}
	return s
}

// heldBack says why WAL that is durable here does not leave this node: too few
// others have said that they have it.
func (m *Member) heldBack() string {
	l := m.Log()
	if l == nil || m.keeper.broker == nil {
		return ""
	}
	size, commit, held := m.Control().SegmentSize, m.CommitEnd(), l.Stats().CommitEnd
	if size.StartOf(commit) >= size.StartOf(held) {
		return "" // no whole segment waits
	}
	text := fmt.Sprintf("what lies above %s is not known to be on enough nodes", commit)
	stats := m.keeper.broker.Stats()
	if stats.Connected {
		return text
	}
	if stats.Err != nil {
		return fmt.Sprintf("%s: the broker cannot be reached (%v)", text, stats.Err)
	}
	return text + ": the broker cannot be reached"
}

// storeAvailable tells what came of the last try.
func (m *Member) storeAvailable() (bool, string) {
	if err := m.keeper.depot.problem(); err != nil {
		return false, err.Error()
	}
	for _, t := range m.manager.Status().Tasks {
		if name := t.Status.Name; (name == manager.Backup || name == manager.BackupPartial) && t.Status.FruitlessRuns > 0 && t.Status.LastErr != nil {
			return !away(t.Status.LastErr), t.Status.LastErr.Error()
		}
	}
	return m.keeper.depot.store.Load() != nil, ""
}

// away reports whether an error says that object storage cannot be reached, and not
// that it has what it should not have.
func away(err error) bool {
	for _, here := range []any{new(*backup.ConflictError), new(*backup.DamagedError), new(*backup.ClaimedError), new(*pg.RecordError)} {
		if errors.As(err, here) {
			return false
		}
	}
	return !errors.Is(err, timeline.ErrOtherStore)
}

// shown is the store's URL as people may see it.
func (d *depot) shown() string {
	u, err := url.Parse(d.cfg.URL)
	if err != nil {
		return ""
	}
	u.RawQuery = "" // it may hold what signs requests
	return u.Redacted()
}

// Retained is why local WAL is there, in bytes; each counts once, for the first
// of these that keeps it.
type Retained struct {
	NotBackedUp int64 // object storage does not have it
	Configured  int64 // retain.local_bytes
	Reader      int64 // neither of them: somebody reads it, or it is about to go
}

// Retained tells why local WAL is kept; false while there is none.
func (m *Member) Retained() (Retained, bool) {
	l := m.Log()
	if l == nil || m.keeper.depot == nil {
		return Retained{}, false
	}
	flush, backedUp := l.Flushed().LSN, m.Backup().LSN
	keepFrom := flush - min(flush, pg.LSN(m.keeper.cfg.Retain))
	above := l.BytesAbove(0, backedUp, min(backedUp, keepFrom))
	return Retained{NotBackedUp: above[1], Configured: above[2] - above[1], Reader: above[0] - above[2]}, true
}
