package wal

import (
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Events is told what happens to a log. Any field may be nil. The functions run on the goroutine that did the work, with no
// lock held that another method needs, except that Sync and those that wait for it wait for Synced to return.
type Events struct {
	// Synced is called after each Sync that had something to do.
	Synced func(SyncInfo)
	// SegmentComplete is called when a segment is whole, durable, and has its final name.
	SegmentComplete func(tli pg.TLI, n pg.SegNo)
	// Poisoned is called when a write or a sync has failed.
	Poisoned func(*Poison)
	// Recovered is called when a poisoned log takes WAL again.
	Recovered func(pg.Position)
	// Diverged is called when WAL of a TLI that was left is kept aside.
	Diverged func(Diverged)
	// Removed is called after Remove has removed something, or could not.
	Removed func(Removal)
}

// SyncInfo is what one Sync did.
type SyncInfo struct {
	Flush    pg.Position // what is durable now
	Bytes    int64       // by how much that is more than before
	Duration time.Duration
	Err      error // nil, or what poisoned the log
}

// Removal is what one Remove did.
type Removal struct {
	Below    pg.LSN // it was asked to remove what lies below
	Segments int
	Bytes    int64
	Duration time.Duration
	Err      error // what could not be removed
}

func (e *Events) synced(i SyncInfo) {
	if e.Synced != nil {
		e.Synced(i)
	}
}

func (e *Events) segmentComplete(id segmentID) {
	if e.SegmentComplete != nil {
		e.SegmentComplete(id.tli, id.n)
	}
}

func (e *Events) poisoned(p *Poison) {
	if e.Poisoned != nil {
		e.Poisoned(p)
	}
}

func (e *Events) recovered(p pg.Position) {
	if e.Recovered != nil {
		e.Recovered(p)
	}
}

func (e *Events) diverged(d Diverged) {
	if e.Diverged != nil {
		e.Diverged(d)
	}
}

func (e *Events) removed(r Removal) {
	if e.Removed != nil && (r.Segments > 0 || r.Err != nil) {
		e.Removed(r)
	}
}
