package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
)

// backup brings to object storage what is not there yet, until all is: what was
// decided, and the whole segments that are committed.
func (m *Member) backup(ctx context.Context) error {
	t, err := m.living(ctx)
	if err != nil {
		return fmt.Errorf("object storage: %w", err)
	}
	if err := m.deliverSeals(ctx, t); err != nil {
		return err
	}
	if err := m.claim(ctx, t); err != nil {
		return err
	}
	if err := m.confirm(ctx, t); err != nil {
		return err
	}
	return m.whileAlive(ctx, t, func(ctx context.Context) error { return m.uploadAll(ctx, t) })
}

// uploadAll uploads the whole segments that are committed, while it is this node's
// turn.
func (m *Member) uploadAll(ctx context.Context, t *backup.Timeline) error {
	uploader := backup.NewUploader(t, m.openWhole)
	for m.uploads() {
		line := m.Log().Lineage()
		r, more := rangeToUpload(line, m.Backup(), m.committed(), m.Control().SegmentSize)
		if !more {
			return m.cleanPartials(ctx, t)
		}
		err := uploader.Run(ctx, r, func(n pg.SegNo) {
			m.BackedUp(pg.Position{TLI: line.TLI, LSN: m.Control().SegmentSize.Start(n + 1)})
			tasks.Progress(ctx)
		})
		if err != nil {
			return fmt.Errorf("back up: %w", err)
		}
	}
	return m.cleanPartials(ctx, t)
}

// uploads reports whether this node brings WAL to object storage, and not another:
// it is its turn, or it lets go of the timeline and waits for nobody.
func (m *Member) uploads() bool {
	return m.manager.Turn().Mine || m.Snapshot().Draining && !m.keeper.leaving.Load()
}

// confirm looks for what another node says that it has brought to object storage.
// Its word alone lets no WAL go.
func (m *Member) confirm(ctx context.Context, t *backup.Timeline) error {
	heard := m.heard()
	said := heard.Backup()
	line, b, size := m.Log().Lineage(), m.Backup(), m.Control().SegmentSize
	if said.TLI != line.TLI || b.LSN == 0 {
		return nil
	}
	end, err := t.RunEnd(ctx, line, b.LSN, min(size.StartOf(said.LSN), size.StartOf(m.committed())))
	if end > b.LSN {
		m.BackedUp(pg.Position{TLI: line.TLI, LSN: end})
		tasks.Progress(ctx)
	}
	if err != nil {
		return fmt.Errorf("look for what another node has backed up: %w", err)
	}
	return nil
}

func (m *Member) openWhole(tli pg.TLI, n pg.SegNo) (backup.SourceSegment, error) {
	r, err := m.Log().OpenSegment(tli, n)
	if err != nil {
		return nil, err
	}
	return &checkedSegment{r: r, walker: pg.NewWalker(m.Control().SegmentSize)}, nil
}

// committed is the end of what may leave this node, on the newest TLI.
func (m *Member) committed() pg.LSN { return min(m.CommitEnd(), m.Log().Flushed().LSN) }

// rangeToUpload is the next run of whole segments of one TLI that are to be
// uploaded. It is pure. Of a TLI that is not claimed nothing goes: another
// promotion may have its number.
func rangeToUpload(h pg.History, b timeline.Backup, committed pg.LSN, size pg.SegmentSize) (backup.Range, bool) {
	from, to := size.SegNo(b.LSN), size.SegNo(committed)
	if from >= to {
		return backup.Range{}, false
	}
	r := backup.Range{TLI: backup.NewestAt(h, from, size), From: from}
	if r.TLI > 1 && r.TLI > b.Claimed {
		return backup.Range{}, false
	}
	for r.To = from + 1; r.To < to && backup.NewestAt(h, r.To, size) == r.TLI; r.To++ {
	}
	return r, true
}

// copies are the segments of which this node has put a copy into object storage
// while they were open. It is superfluous once the segment is there as a whole.
type copies struct {
	mu       sync.Mutex
	segments []pg.SegNo // guarded by mu; each once
}

func (c *copies) add(n pg.SegNo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.segments, n) {
		c.segments = append(c.segments, n)
	}
}

// takeBelow takes out those that lie below a segment.
func (c *copies) takeBelow(n pg.SegNo) []pg.SegNo {
	c.mu.Lock()
	defer c.mu.Unlock()
	var below, kept []pg.SegNo
	for _, s := range c.segments {
		if s < n {
			below = append(below, s)
		} else {
			kept = append(kept, s)
		}
	}
	c.segments = kept
	return below
}

// cleanPartials removes the copies of segments that are there as a whole now.
func (m *Member) cleanPartials(ctx context.Context, t *backup.Timeline) error {
	superfluous := m.copies.takeBelow(m.Control().SegmentSize.SegNo(m.Backup().LSN))
	if len(superfluous) == 0 {
		return nil
	}
	if err := t.CleanPartials(ctx); err != nil {
		for _, n := range superfluous {
			m.copies.add(n)
		}
		return fmt.Errorf("remove copies of open segments: %w", err)
	}
	return nil
}

// backupPartial brings what is committed of the open segment to object storage.
func (m *Member) backupPartial(ctx context.Context) error {
	t, err := m.living(ctx)
	if err != nil {
		return fmt.Errorf("object storage: %w", err)
	}
	// Its age counts from here, and not from the end of the upload: a partial_interval is how old the copy may become.
	at := time.Now()
	end := pg.Position{TLI: m.Log().Lineage().TLI, LSN: m.committed()}
	if err := m.putPartial(ctx, t, end); err != nil {
		return err
	}
	tasks.Progress(ctx)
	return m.PartialStored(ctx, end, at)
}

// putPartial uploads a segment up to a position within it; on a border there is
// nothing to do.
func (m *Member) putPartial(ctx context.Context, t *backup.Timeline, end pg.Position) error {
	size := m.Control().SegmentSize
	if size.Offset(end.LSN) == 0 {
		return nil
	}
	r, err := m.Log().OpenSegment(end.TLI, size.SegNo(end.LSN))
	if err != nil {
		return err
	}
	checked := &checkedSegment{r: r, walker: pg.NewWalker(size)}
	_, err = backup.NewUploader(t, nil).UploadPartial(ctx, end.TLI, size.SegNo(end.LSN), end.LSN, checked)
	if err := errors.Join(err, checked.Close()); err != nil {
		return fmt.Errorf("back up the open segment up to %s: %w", end, err)
	}
	m.copies.add(size.SegNo(end.LSN))
	return nil
}

// deliverSeals brings ends to object storage that were decided while it was away.
func (m *Member) deliverSeals(ctx context.Context, t *backup.Timeline) error {
	for _, s := range m.Control().Seals {
		if !s.Undelivered {
			continue
		}
		decided, err := t.DecideSeal(ctx, backup.Seal{TLI: s.TLI, End: s.End, DataLossAccepted: s.DataLossAccepted})
		if err != nil {
			return fmt.Errorf("bring the seal of TLI %d to object storage: %w", s.TLI, err)
		}
		if decided.End != s.End {
			m.keeper.cfg.Log.LogAttrs(ctx, slog.LevelError, "another end was decided: what this node has handed out or holds above it may be no part of the timeline",
				slog.String("timeline", m.ID().String()), slog.Any("tli", s.TLI), slog.String("here", s.End.String()), slog.String("decided", decided.End.String()))
		}
		if err := m.Delivered(ctx, s.TLI, decided.End); err != nil {
			return err
		}
	}
	return nil
}

// decideSeal decides an end in object storage, where the nodes of a timeline meet.
func (k *Keeper) decideSeal(ctx context.Context, id timeline.ID, s timeline.Seal) (timeline.Seal, error) {
	m, err := k.member(id)
	if err != nil {
		return timeline.Seal{}, err
	}
	t, err := m.living(ctx)
	if err != nil {
		return timeline.Seal{}, err
	}
	// Whoever restores from there alone must know of the TLI that ends.
	if err := m.claimAll(ctx, t, true); err != nil {
		return timeline.Seal{}, err
	}
	d, err := t.DecideSeal(ctx, backup.Seal{TLI: s.TLI, End: s.End, DataLossAccepted: s.DataLossAccepted})
	if err != nil {
		return timeline.Seal{}, err
	}
	return timeline.Seal{TLI: d.TLI, End: d.End, At: d.At, DataLossAccepted: d.DataLossAccepted}, nil
}

// claim claims the TLIs that were followed and that nobody has claimed yet. One
// whose first record did not come yet is left for later.
func (m *Member) claim(ctx context.Context, t *backup.Timeline) error {
	newest := m.Log().Lineage().TLI
	_, sealed := m.Control().SealOf(newest)
	err := m.claimAll(ctx, t, sealed)
	if errors.Is(err, wal.ErrNoRecord) {
		return nil
	}
	return err
}

// claimAll claims every TLI on the way to the newest, oldest first. With ended,
// the newest may have no record: none will come. One caller at a time: the second
// finds the work done.
func (m *Member) claimAll(ctx context.Context, t *backup.Timeline, ended bool) error {
	select {
	case m.claiming <- struct{}{}:
		defer func() { <-m.claiming }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	h := m.Log().Lineage()
	for _, tli := range append(passed(h), h.TLI) {
		if tli <= max(m.Backup().Claimed, 1) {
			continue
		}
		if err := m.claimOne(ctx, t, tli, ended || tli != h.TLI); err != nil {
			return fmt.Errorf("claim TLI %d in object storage: %w", tli, err)
		}
	}
	return nil
}

// passed lists the TLIs that a history has left, oldest first.
func passed(h pg.History) []pg.TLI {
	var all []pg.TLI
	for _, f := range h.Forks {
		all = append(all, f.TLI)
	}
	return all
}

func (m *Member) claimOne(ctx context.Context, t *backup.Timeline, tli pg.TLI, ended bool) error {
	raw, err := m.Log().History(tli)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // this node began on a later one
	}
	if err != nil {
		return err
	}
	h, err := pg.ParseHistory(tli, raw)
	if err != nil {
		return err
	}
	fork, _ := h.Parent()
	record, err := m.Log().FirstRecord(tli, fork.LSN)
	if err != nil && !(errors.Is(err, wal.ErrNoRecord) && ended) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = t.Claim(ctx, backup.Claim{TLI: tli, History: raw, Record: record})
	if claimed := new(backup.ClaimedError); errors.As(err, &claimed) {
		return errors.Join(err, m.SetConflict(ctx, tli, conflictText(claimed)))
	}
	if err != nil {
		return err
	}
	if err := m.storeEndOf(ctx, t, fork); err != nil {
		return err
	}
	if err := t.PutHistory(ctx, tli, raw); err != nil {
		return err
	}
	return m.Claimed(ctx, tli)
}

// conflictText says what to do where two servers were promoted to one TLI.
func conflictText(err *backup.ClaimedError) string {
	return err.Error() + ". If the one that was followed first is right: set the source to it, and, because this node has WAL of the other one, " +
		"stop the node, move the timeline's directory away and create the timeline again; it takes over from object storage. To keep the WAL of " +
		"the other one, give it a timeline of its own"
}

// storeEndOf brings the end of a TLI that was left to object storage: its last
// segment never becomes whole. Where this node began later it does not have it.
func (m *Member) storeEndOf(ctx context.Context, t *backup.Timeline, fork pg.Fork) error {
	err := m.putPartial(ctx, t, pg.Position{TLI: fork.TLI, LSN: fork.LSN})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// deleteObjects ends the timeline's life in object storage: its tombstone first,
// so that no configuration file and no other node brings it back. It is tried
// again, with pauses, until the node stops; then the next start goes on.
func (k *Keeper) deleteObjects(ctx context.Context, m *Member) error {
	if k.depot == nil || m.Control().Stored == nil {
		return nil // nothing of it was ever there
	}
	pause := objectsAgain
	for {
		err := m.deleteObjectsOnce(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		k.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "objects of a deleted timeline could not be removed yet, and are tried again",
			slog.String("timeline", m.ID().String()), slog.Duration("pause", pause), slog.Any("error", err))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		}
		pause = min(2*pause, objectsAgainAtMost)
	}
}

// The pauses between two tries of removing objects.
const (
	objectsAgain       = time.Second
	objectsAgainAtMost = 30 * time.Second
)

func (m *Member) deleteObjectsOnce(ctx context.Context) error {
	t, err := m.stored(ctx)
	if err != nil {
		return err
	}
	keep := m.Control().KeepObjects
	if keep {
		if err := m.leaveEnds(ctx, t); err != nil {
			return err
		}
	}
	kept, err := t.Bury(ctx, keep)
	if err != nil {
		return err
	}
	if !kept {
		_, err = t.DeleteObjects(ctx)
		return err
	}
	m.keeper.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "objects of a deleted timeline are kept: it can be created again with its incarnation",
		slog.String("timeline", m.ID().String()), slog.String("incarnation", string(m.Control().Incarnation)), slog.Bool("asked", keep))
	return nil
}

// leaveEnds brings the ends that only this node knows to object storage: whoever
// brings the timeline back must not acknowledge what was sealed.
func (m *Member) leaveEnds(ctx context.Context, t *backup.Timeline) error {
	for _, s := range m.Control().Seals {
		if !s.Undelivered {
			continue
		}
		if _, err := t.DecideSeal(ctx, backup.Seal{TLI: s.TLI, End: s.End, DataLossAccepted: s.DataLossAccepted}); err != nil {
			return fmt.Errorf("bring the seal of TLI %d to object storage: %w", s.TLI, err)
		}
	}
	return nil
}

// unsealStored takes the seal of the newest TLI back in object storage, before the
// node does: it is there that other nodes look. It is refused once somebody may
// have promoted from the tail, unless forced.
func (m *Member) unsealStored(ctx context.Context, force bool) error {
	t, err := m.living(ctx)
	if err != nil {
		return fmt.Errorf("the seal is in object storage, too: %w", err)
	}
	tli := m.Held().Position.TLI
	seal, err := t.Seal(ctx, tli)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !force {
		if err := unsealable(ctx, t, tli); err != nil {
			return err
		}
	}
	if err := t.Unseal(ctx, tli); err != nil || force {
		return err
	}
	// Whoever hands the tail out marks that, and looks for the seal once more; we do the reverse.
	if err := unsealable(ctx, t, tli); err != nil {
		_, again := t.DecideSeal(ctx, seal)
		return errors.Join(err, again)
	}
	return nil
}

// unsealable fails if somebody may have been promoted from what a seal let out.
func unsealable(ctx context.Context, t *backup.Timeline, tli pg.TLI) error {
	served, err := t.TailServed(ctx, tli)
	if err != nil {
		return err
	}
	if served {
		return fmt.Errorf("unseal TLI %d: %w; look for that server first, then use --force", tli, timeline.ErrTailServed)
	}
	claims, err := t.Claims(ctx)
	if err != nil {
		return err
	}
	for _, c := range claims {
		h, err := pg.ParseHistory(c.TLI, c.History)
		if err != nil {
			return err
		}
		if _, passed := h.End(tli); passed {
			return fmt.Errorf("unseal TLI %d: node %s followed a server that was promoted from it to TLI %d: %w", tli, c.By, c.TLI, timeline.ErrTailServed)
		}
	}
	return nil
}
