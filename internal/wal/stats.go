package wal

import (
	"sync/atomic"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Stats is what a log knows about itself. Taking it waits for nothing. The numbers are read one after the other while the
// log goes on, except that each position is one of a single moment, and that Flush is never above Write.
type Stats struct {
	Write pg.Position // what was appended
	Flush pg.Position // what is durable

	// RecordEnd is the end of the last complete record below Write, CommitEnd that below Flush; zero: none is known.
	// From the moment that a switch record is there, its end is its segment's: that may be above Write and Flush.
	RecordEnd pg.LSN
	CommitEnd pg.LSN

	AppendedBytes     int64 // new bytes since Open
	Syncs             int64 // since Open, failed ones too
	FailedSyncs       int64
	CompletedSegments int64 // since Open
	RemovedSegments   int64

	// SyncSince is when the sync began that is running now; zero if none is. A disk that hangs is seen here only.
	SyncSince time.Time

	Segments      int   // files, of all TLIs
	LocalBytes    int64 // in them
	DivergedBytes int64 // in files kept aside, which may share their disk space with those

	Diverged []Diverged // what is kept aside; shared, not to be changed
	Poisoned *Poison    // nil: all is well
}

// tip is where the newest TLI ends. Each load makes a new one, so that no LSN is ever read with another's TLI. The writer and
// Sync store under Log.mu; anybody loads.
type tip struct {
	history pg.History
	written mark
	flushed mark
}

// mark is a point in the WAL with what is known about the records below it.
type mark struct {
	end        atomic.Uint64
	recordEnd  atomic.Uint64 // of the last complete record below end; zero: none is known
	lastRecord atomic.Uint64 // its start
}

// point is the value of a mark.
type point struct {
	end, recordEnd, lastRecord pg.LSN
}

// set moves the mark. The end goes first, and load reads it last: a record end that is read may be older than the end, and
// is never newer.
func (m *mark) set(p point) {
	m.end.Store(uint64(p.end))
	m.recordEnd.Store(uint64(p.recordEnd))
	m.lastRecord.Store(uint64(p.lastRecord))
}

func (m *mark) load() (p point) {
	p.lastRecord = pg.LSN(m.lastRecord.Load())
	p.recordEnd = pg.LSN(m.recordEnd.Load())
	p.end = pg.LSN(m.end.Load())
	return p
}

func (t *tip) tli() pg.TLI               { return t.history.TLI }
func (t *tip) at(lsn pg.LSN) pg.Position { return pg.Position{TLI: t.tli(), LSN: lsn} }

// counters are the parts of Stats that are not positions.
type counters struct {
	appended, syncs, failedSyncs, completed, removed atomic.Int64
	syncSince                                        atomic.Int64 // Unix time in ns; zero: no sync is running
	segments, localBytes, divergedBytes              atomic.Int64
	diverged                                         atomic.Pointer[[]Diverged]
}

// Stats returns the log's numbers.
func (l *Log) Stats() Stats {
	t, c := l.tip.Load(), &l.counters
	flushed := t.flushed.load() // before written, which is then at or above it
	written := t.written.load()
	s := Stats{
		Write: t.at(written.end), Flush: t.at(flushed.end),
		RecordEnd: written.recordEnd, CommitEnd: flushed.recordEnd,
		AppendedBytes: c.appended.Load(), Syncs: c.syncs.Load(), FailedSyncs: c.failedSyncs.Load(),
		CompletedSegments: c.completed.Load(), RemovedSegments: c.removed.Load(),
		Segments: int(c.segments.Load()), LocalBytes: c.localBytes.Load(), DivergedBytes: c.divergedBytes.Load(),
		Diverged: *c.diverged.Load(), Poisoned: l.poisoned.Load(),
	}
	if since := c.syncSince.Load(); since != 0 {
		s.SyncSince = time.Unix(0, since)
	}
	return s
}
