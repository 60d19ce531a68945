package wal

import (
	"fmt"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Sync makes durable what was appended before it began, and returns the flush LSN: the only number that may be acknowledged, and
// only while the log is [Log.Verified]. What is appended meanwhile is the next one's. A second caller waits for the first.
//
// Segments that are full get their final names on the way, oldest first, each of them moving the flush LSN. If anything fails,
// the log is poisoned; the flush LSN that is returned then is still true.
func (l *Log) Sync() (pg.LSN, error) {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	return l.sync()
}

// sync is Sync with syncing held.
func (l *Log) sync() (pg.LSN, error) {
	t := l.tip.Load()
	from := t.flushed.load().end
	if err := l.usable(); err != nil {
		return from, err
	}
	full, open, to := l.batch(t)
	if to.end == from {
		return from, nil
	}
	began := time.Now()
	l.counters.syncSince.Store(began.UnixNano())
	err := l.syncBatch(t, full, open, to)
	l.counters.syncSince.Store(0)
	l.counters.syncs.Add(1)
	if err != nil {
		l.counters.failedSyncs.Add(1)
		err = l.poison(err)
	}
	flush := t.flushed.load().end
	l.events.synced(SyncInfo{Flush: t.at(flush), Bytes: int64(flush - from), Duration: time.Since(began), Err: err})
	return flush, err
}

// batch returns what one sync covers.
func (l *Log) batch(t *tip) (full []*segment, open *segment, to point) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.full, l.open, t.written.load()
}

func (l *Log) syncBatch(t *tip, full []*segment, open *segment, to point) error {
	for _, s := range full {
		if err := l.complete(t, s); err != nil {
			return fmt.Errorf("complete segment %s: %w", l.name(s.id), err)
		}
	}
	if open == nil || l.size.Offset(to.end) == 0 {
		return nil
	}
	if err := open.file.Datasync(); err != nil {
		return fmt.Errorf("sync segment %s: %w", l.partialName(open.id), err)
	}
	if err := l.nameDurably(open); err != nil {
		return fmt.Errorf("sync the name of segment %s: %w", l.partialName(open.id), err)
	}
	return l.vouch(t, to)
}

// nameDurably makes an open segment's name durable, once. Nothing is vouched for before: a crash would leave the bytes under the
// temporary name, and the next start removes that.
func (l *Log) nameDurably(s *segment) error {
	if s.named {
		return nil
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	s.named = true
	return nil
}

// complete syncs a full segment, gives it its final name, and lets go of it.
func (l *Log) complete(t *tip, s *segment) error {
	if err := s.file.Datasync(); err != nil {
		return err
	}
	if err := l.rename(l.partialName(s.id), l.name(s.id)); err != nil {
		return err
	}
	if err := l.vouch(t, s.mark); err != nil {
		return err
	}
	l.mu.Lock()
	l.full = l.full[1:]
	info := l.files[s.id]
	info.Name, info.Partial, info.Whole = l.name(s.id), false, time.Now()
	l.files[s.id] = info
	l.mu.Unlock()
	l.counters.completed.Add(1)
	l.events.segmentComplete(s.id)
	return s.file.Close()
}

// vouch moves the flush LSN to what was just made durable, unless a write has failed meanwhile: a poisoned log vouches for
// nothing more.
func (l *Log) vouch(t *tip, to point) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.poisoned.Load(); p != nil {
		return p
	}
	t.flushed.set(to)
	return nil
}
