package wal

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Config is what a log may be told. SegmentSize is required.
type Config struct {
	FS          FS             // nil: the operating system's
	SegmentSize pg.SegmentSize // the cluster's wal_segment_size
	Events      Events
}

// Log is the WAL of one timeline in one directory. Make one with [Open].
type Log struct {
	disk
	events   Events
	counters counters
	tip      atomic.Pointer[tip]    // never nil
	poisoned atomic.Pointer[Poison] // nil: all is well

	// The writer's own.
	walker  *pg.Walker // at the end of what was appended, or checked
	before  pg.Walker  // walker as it was before the bytes that are being looked at
	next    pg.LSN     // where the next Append must begin; below the end while what is held is compared with what comes
	rewound pg.LSN     // where the comparison began
	settled pg.Walker  // at the end of what was written; of the goroutine that writes

	expected atomic.Uint64 // the LSN up to which WAL is about to come; see Expect

	// What the comparison uses; nil when there is none.
	buf      []byte   // what is held, read
	compared *segment // that buf is read from, if that is not open

	verified atomic.Bool

	// syncing is held over a sync, and over a change of the files that syncs work on. It guards no other state, and is
	// taken before mu.
	syncing sync.Mutex

	mu       sync.Mutex // never held over I/O
	open     *segment   // guarded by mu; where the next byte goes; nil on a segment border
	full     []*segment // guarded by mu; full of bytes, not yet synced and named; oldest first
	spare    *spare     // guarded by mu; the next segment's file; nil: none was asked for
	files    map[segmentID]SegmentInfo
	oldest   pg.Position       // guarded by mu; start of the first of files; zero while there is none
	readers  map[segmentID]int // guarded by mu, as files is; how many keep a segment from being removed
	closed   bool              // guarded by mu
	closeErr error             // guarded by mu
}

// segment is a file that is being written.
type segment struct {
	id    segmentID
	file  File
	mark  point // what is known at its end; set when it is full
	named bool  // its name is durable; belongs to Sync
}

// Open opens the WAL in a directory, which it makes if need be, and gets it ready for more: see the package comment. What a
// crash left half-made is removed, so is what lies beyond the end and is no valid WAL. Files with foreign names are left
// alone.
//
// It fails with a [*DamagedError], and changes nothing, if less is there than v, the files' names or a newer TLI's fork vouch
// for, or if the newest history does not pass v's TLI. A damaged segment further back does not stop it.
func Open(dir string, cfg Config, v Vouched) (*Log, error) {
	if !cfg.SegmentSize.Valid() {
		return nil, fmt.Errorf("open WAL in %s: invalid segment size %d", dir, cfg.SegmentSize)
	}
	if cfg.FS == nil {
		cfg.FS = OSFS{}
	}
	l := &Log{disk: disk{fs: cfg.FS, dir: dir, size: cfg.SegmentSize}, events: cfg.Events, readers: map[segmentID]int{}}
	if err := l.fs.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("open WAL in %s: %w", dir, err)
	}
	loaded, err := l.load(v, v.Clean)
	if err != nil {
		return nil, fmt.Errorf("open WAL in %s: %w", dir, err)
	}
	if err := l.install(loaded); err != nil {
		return nil, fmt.Errorf("open WAL in %s: %w", dir, errors.Join(err, l.Close()))
	}
	return l, nil
}

// install makes what was loaded the log's state.
func (l *Log) install(n *loaded) error {
	kept, err := l.divergedBytes(n.survey.diverged)
	t := &tip{history: n.history}
	t.written.set(n.point)
	t.flushed.set(n.point)
	l.walker = n.walker
	if l.walker == nil {
		l.walker = pg.NewWalker(l.size)
	}
	l.settled = *l.walker
	local := int64(0)
	for _, i := range n.survey.segments {
		local += i.SizeBytes
	}
	l.counters.localBytes.Store(local)
	l.counters.segments.Store(int64(len(n.survey.segments)))
	l.counters.divergedBytes.Store(kept)
	l.counters.diverged.Store(&n.survey.diverged)

	l.mu.Lock()
	l.open, l.full, l.files = nil, nil, n.survey.segments
	l.noteOldestLocked()
	if n.open != nil {
		id := segmentID{n.history.TLI, l.size.SegNo(n.point.end)}
		l.open = &segment{id: id, file: n.open, named: true}
	}
	l.tip.Store(t)
	l.mu.Unlock()
	l.Rewind()
	return err
}

// reload goes through load again with what is known, exactly, to be durable. The caller holds syncing, and poisons the log if
// that fails: files may have changed then that the log's state does not know of.
func (l *Log) reload(v Vouched) error {
	err := l.closeFiles()
	loaded, loadErr := l.load(v, true)
	if err := errors.Join(err, loadErr); err != nil {
		return err
	}
	return l.install(loaded)
}

// closeFiles closes what is being written or compared, and does away with what was prepared.
func (l *Log) closeFiles() error {
	l.endComparison()
	l.mu.Lock()
	segments := l.full
	if l.open != nil {
		segments = append(segments, l.open)
	}
	spare := l.spare
	l.open, l.full, l.spare = nil, nil, nil
	l.mu.Unlock()
	var errs []error
	for _, s := range segments {
		errs = append(errs, s.file.Close())
	}
	return errors.Join(append(errs, l.discard(spare))...)
}

// Start gives a log that holds no byte its first position, the start of a segment, or another one than it was given before.
// Nothing is written yet.
func (l *Log) Start(at pg.Position) error {
	if err := l.usable(); err != nil && !errors.Is(err, ErrEmpty) {
		return err
	}
	if !l.HoldsNothing() {
		return fmt.Errorf("start log at %s: it holds WAL, up to %s", at, l.Position())
	}
	if at.TLI == 0 || l.size.Offset(at.LSN) != 0 {
		return fmt.Errorf("start log at %s: a log begins on a TLI, at the start of a segment of %s", at, l.size)
	}
	s, err := l.survey()
	if err != nil {
		return fmt.Errorf("start log at %s: %w", at, err)
	}
	h, err := l.readHistory(s, at.TLI)
	if err != nil {
		return fmt.Errorf("start log at %s: %w", at, err)
	}
	w := pg.NewWalker(l.size)
	w.Reset(at.LSN, 0)
	return l.install(&loaded{history: h, point: point{end: at.LSN}, walker: w, survey: s})
}

// HoldsNothing reports whether no byte was ever appended.
func (l *Log) HoldsNothing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.files) == 0
}

// Position returns the TLI and the end of what was appended; zero for a log that is empty.
func (l *Log) Position() pg.Position {
	t := l.tip.Load()
	return t.at(t.written.load().end)
}

// Lineage returns the history of the newest TLI; its TLI is 0 for a log that is empty. It is shared, and must not be changed.
func (l *Log) Lineage() pg.History { return l.tip.Load().history }

// Flushed returns the TLI and the end of what is durable.
func (l *Log) Flushed() pg.Position {
	t := l.tip.Load()
	return t.at(t.flushed.load().end)
}

// RecordEnd returns the end of the last complete record that is durable; zero if none is known. See [Stats].CommitEnd.
func (l *Log) RecordEnd() pg.LSN { return l.tip.Load().flushed.load().recordEnd }

// usable returns why the log cannot be written to, or nil.
func (l *Log) usable() error {
	if p := l.poisoned.Load(); p != nil {
		return p
	}
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if l.tip.Load().tli() == 0 {
		return ErrEmpty
	}
	return nil
}

// poison makes the log refuse everything until Recover, and returns what it answers from now on. The first reason stays.
func (l *Log) poison(err error) error {
	p := &Poison{Err: err, At: time.Now()}
	l.mu.Lock()
	p.Vouched = l.Flushed() // under mu: no sync vouches for more from here on
	first := l.poisoned.CompareAndSwap(nil, p)
	l.mu.Unlock()
	if first {
		l.events.poisoned(p)
	}
	return l.poisoned.Load()
}

// Recover makes a poisoned log usable: it goes on from what the last good sync vouched for. That is read back, verified, and copied
// to a new file; what came after is dropped, for a source to send again. It may be tried any number of times; without a poison
// it does nothing.
func (l *Log) Recover() error {
	if l.poisoned.Load() == nil {
		return nil
	}
	l.syncing.Lock()
	defer l.syncing.Unlock()
	t := l.tip.Load()
	p := t.flushed.load()
	if err := l.reload(Vouched{Position: t.at(p.end), RecordEnd: p.recordEnd}); err != nil {
		return fmt.Errorf("recover WAL in %s: %w", l.dir, err)
	}
	l.poisoned.Store(nil)
	l.events.recovered(l.Position())
	return nil
}

// Close syncs and closes the log; a poisoned one is only closed. It may be called more than once, and returns the same.
func (l *Log) Close() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	closed, err := l.closed, l.closeErr
	l.mu.Unlock()
	if closed {
		return err
	}
	if l.tip.Load() != nil && l.usable() == nil {
		_, err = l.sync()
	}
	err = errors.Join(err, l.closeFiles())
	l.mu.Lock()
	l.closed, l.closeErr = true, err
	l.mu.Unlock()
	return err
}
