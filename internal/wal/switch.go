package wal

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/sluicewal/sluice/internal/pg"
)

// SwitchTLI goes over to a child of the newest TLI, at the point where the child's history leaves it, which must not lie
// above what is held. Raw is the child's history file. It is made durable first; from then on there is no way back, and if the
// rest is interrupted, the next [Open] or [Log.Recover] finishes it:
//
//   - If a complete record lies above the fork, what is above it is kept in a directory of its own. Half a record is not: a
//     source may take that back.
//   - What the parent has above the fork goes from the WAL directory. Its segment there stays, as a partial one.
//   - The child's first segment begins as a copy of the parent's up to the fork.
//
// It returns all that is kept aside, from earlier switches too. After an error that is not from looking at the arguments, the
// log is poisoned.
func (l *Log) SwitchTLI(child pg.History, raw []byte) ([]Diverged, error) {
	if err := l.checkChild(child, raw); err != nil {
		return nil, fmt.Errorf("switch to TLI %d: %w", child.TLI, err)
	}
	if _, err := l.Sync(); err != nil {
		return nil, fmt.Errorf("switch to TLI %d: %w", child.TLI, err)
	}
	if err := l.checkParent(child); err != nil {
		return nil, fmt.Errorf("switch to TLI %d: %w", child.TLI, err)
	}
	if err := l.switchTo(child.TLI, raw); err != nil {
		return nil, l.poison(fmt.Errorf("switch to TLI %d: %w", child.TLI, err))
	}
	return l.Stats().Diverged, nil
}

func (l *Log) switchTo(child pg.TLI, raw []byte) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if err := WriteFileAtomic(l.fs, l.path(pg.HistoryName(child)), raw); err != nil {
		return err
	}
	t := l.tip.Load()
	p := t.flushed.load()
	before := *l.counters.diverged.Load()
	if err := l.reload(Vouched{Position: t.at(p.end), RecordEnd: p.recordEnd, Clean: true}); err != nil {
		return err
	}
	for _, d := range *l.counters.diverged.Load() {
		if !slices.Contains(before, d) {
			l.events.diverged(d)
		}
	}
	return nil
}

// checkChild refuses a history that cannot be followed from here.
func (l *Log) checkChild(child pg.History, raw []byte) error {
	if err := l.usable(); err != nil {
		return err
	}
	parsed, err := pg.ParseHistory(child.TLI, raw)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(parsed, child) {
		return errors.New("its history file says something else than its history")
	}
	t := l.tip.Load()
	fork, found := child.End(t.tli())
	if !found {
		return fmt.Errorf("its history does not pass TLI %d", t.tli())
	}
	if parent, _ := child.Parent(); parent.LSN != fork {
		return fmt.Errorf("TLI %d lies between, from %s to %s: follow that first", parent.TLI, fork, parent.LSN)
	}
	if end := t.written.load().end; end < fork {
		return fmt.Errorf("it leaves TLI %d at %s: %w", t.tli(), fork, &GapError{Want: end, Got: fork})
	}
	return l.checkHistory(child.TLI, raw)
}

// checkParent refuses a child that leaves the newest TLI at a point up to which it cannot be read here: because that lies below
// everything that is held, or above damage. Once the child's history is durable there is no way back.
func (l *Log) checkParent(child pg.History) error {
	s, err := l.survey()
	if err != nil {
		return err
	}
	h := l.tip.Load().history
	fork, _ := child.End(h.TLI)
	_, err = l.findParent(lineage{segments: s.segments, history: h, size: l.size}, fork)
	return err
}

// checkHistory refuses another history of a TLI that is known: two promotions chose one number.
func (l *Log) checkHistory(tli pg.TLI, raw []byte) error {
	known, err := l.History(tli)
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(known, raw) {
		return fmt.Errorf("another history of TLI %d is held: two promotions chose one number", tli)
	}
	return nil
}

// StoreHistory keeps the history file of the newest TLI, or of an older one, for those who restore. A log that begins on a
// later TLI than 1 needs that TLI's own, which may be stored before Start.
func (l *Log) StoreHistory(tli pg.TLI, raw []byte) error {
	if _, err := pg.ParseHistory(tli, raw); err != nil {
		return fmt.Errorf("store history: %w", err)
	}
	if newest := l.Position().TLI; newest != 0 && tli > newest {
		return fmt.Errorf("store history: TLI %d is newer than %d; see SwitchTLI", tli, newest)
	}
	if err := l.checkHistory(tli, raw); err != nil {
		return fmt.Errorf("store history: %w", err)
	}
	if err := WriteFileAtomic(l.fs, l.path(pg.HistoryName(tli)), raw); err != nil {
		return fmt.Errorf("store history: %w", err)
	}
	return nil
}

// History returns the history file of a TLI, byte for byte; fs.ErrNotExist if none is held.
func (l *Log) History(tli pg.TLI) ([]byte, error) { return l.history(tli) }

func (d disk) history(tli pg.TLI) ([]byte, error) {
	raw, err := ReadFile(d.fs, d.path(pg.HistoryName(tli)), historyMaxBytes)
	if err != nil {
		return nil, fmt.Errorf("read history of TLI %d: %w", tli, err)
	}
	return raw, nil
}

// finishSwitch takes the steps of a switch behind the history file, each of which may have been taken before. It returns
// where the child begins. The child's own segment comes last: once it is there, all is done.
func (d disk) finishSwitch(s *survey, g lineage, parent pg.TLI, v Vouched) (pg.Position, error) {
	fork, _ := g.history.End(parent)
	at := pg.Position{TLI: g.history.TLI, LSN: fork}
	old := g.ancestor(parent)
	// A process that was killed may not have synced the history's name, and if nothing has to be moved, nobody else does.
	if err := d.fs.SyncDir(d.dir); err != nil {
		return at, err
	}
	end, err := d.findParent(old, fork)
	if err != nil {
		return at, err
	}
	if end > fork {
		if err := d.keepAside(s, old, fork, end); err != nil {
			return at, err
		}
	}
	closedThere := v.Clean && v.Position == pg.Position{TLI: parent, LSN: fork}
	if !closedThere {
		if err := d.cut(old, fork); err != nil {
			return at, err
		}
	}
	return at, d.beginChild(old, at)
}

// findParent returns the record end of the TLI that is left. Up to the fork it was durable before the child's history was; what
// was vouched for above may be gone from here already.
func (d disk) findParent(old lineage, fork pg.LSN) (pg.LSN, error) {
	v := Vouched{Position: pg.Position{TLI: old.history.TLI, LSN: fork}}
	f, err := d.find(old, v, false)
	if err != nil {
		return 0, err
	}
	return f.at.RecordEnd(), nil
}

// cut makes a TLI end at lsn.
func (d disk) cut(g lineage, lsn pg.LSN) error {
	if err := d.removeFrom(g, lsn); err != nil {
		return err
	}
	return d.copyTo(g, lsn, g.history.TLI)
}

// beginChild makes the child's first segment, unless that begins at the fork and has nothing yet.
func (d disk) beginChild(old lineage, at pg.Position) error { return d.copyTo(old, at.LSN, at.TLI) }

// copyTo copies the segment that holds lsn, up to there, as tli's.
func (d disk) copyTo(g lineage, lsn pg.LSN, tli pg.TLI) error {
	if d.size.Offset(lsn) == 0 {
		return nil
	}
	n := d.size.SegNo(lsn)
	w, err := d.approach(g, n)
	if err != nil {
		return err
	}
	info, found := g.file(n)
	if !found {
		return fmt.Errorf("segment %s: %w", d.name(segmentID{g.history.TLI, n}), errGone)
	}
	return d.copySegment(info, segmentID{tli, n}, lsn, w)
}
