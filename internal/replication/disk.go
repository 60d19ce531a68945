package replication

import (
	"fmt"
	"sync"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// batch is WAL that was received, and is made durable together.
type batch struct {
	bytes  int64
	readAt time.Time // when the first of it was read off the socket
}

// add lets more into the batch.
func (b *batch) add(bytes int64, readAt time.Time) {
	if b.bytes == 0 {
		b.readAt = readAt
	}
	b.bytes += bytes
}

// disk has the sink write and sync what the stream receives: inline, or, while the stream catches up, by goroutines of its own
// beside a caller who goes on reading. It has one owner.
//
// WAL lies in a block until it is written. Inline, it is appended as soon as what was read is worked through. Beside, it is
// checked at once, and handed over when its block is full; the stream then fills the next one, as long as there are any.
type disk struct {
	sink    Sink
	segment pg.SegmentSize // of the source
	// woken is called, by a goroutine beside, when collect has something that matters.
	woken func()

	block *block
	from  pg.LSN    // what is in the block from here to end was not handed on yet
	end   pg.LSN    // where the next byte belongs
	last  pg.Walker // beside: at end

	beside *beside // nil: all is done inline

	pending batch  // received since a sync was last begun, or asked for
	synced  batch  // made durable, and not taken out yet
	flushed pg.LSN // the last result of a sync; 0: none yet
	failed  bool   // a sync has failed: none is tried again
}

// beside is what goes on in other goroutines: one writes, one syncs.
type beside struct {
	jobs    chan job
	written chan result // to be synced
	results chan result
	helpers sync.WaitGroup
	running int // jobs without a result
	syncs   int // of them, those with a sync
	blocks  int // that are in use, the one that is being filled included
	free    []*block
}

// job is a piece of WAL to be written.
type job struct {
	data  []byte    // may be empty
	end   pg.Walker // behind data
	full  *block    // that data is the last of; nil: more will come in the same
	sync  bool      // and then all is to be synced
	batch batch     // that the sync covers
}

type result struct {
	job
	flush pg.LSN // of a sync
	err   error

	synced bool // the sync was tried, and err is its
}

// begin says where the next byte belongs.
func (d *disk) begin(lsn pg.LSN) { d.from, d.end = lsn, lsn }

// room is where the next byte is to be put, and what follows it of the block. It waits for nothing: see makeRoom.
func (d *disk) room() []byte {
	if d.block == nil {
		d.block = takeBlock(d.end)
	}
	d.block.move(d.end)
	return d.block.from(d.end)
}

// add takes WAL in, which may lie in its room already.
func (d *disk) add(p []byte, readAt time.Time) error {
	d.pending.add(int64(len(p)), readAt)
	for len(p) > 0 {
		if err := d.makeRoom(); err != nil {
			return err
		}
		room := d.room()
		n := min(len(room), len(p))
		if &room[0] != &p[0] {
			copy(room, p[:n])
		}
		if err := d.took(room[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// took notes that p is in the block now. A full block is handed on.
func (d *disk) took(p []byte) error {
	if d.beside != nil {
		end, err := d.sink.Check(d.end, p)
		if err != nil {
			return d.refuse(p)
		}
		d.last = end
	}
	d.end += pg.LSN(len(p))
	switch {
	case d.end%blockLen != 0:
		return nil
	case d.beside == nil:
		return d.write()
	default:
		d.submit(d.segment.Offset(d.end) == 0)
		return nil
	}
}

// refuse finds out what is wrong with WAL that did not pass the check, and how much of it may be kept.
func (d *disk) refuse(p []byte) error {
	if err := d.join(); err != nil {
		return err
	}
	d.end += pg.LSN(len(p))
	return d.write()
}

// write appends inline what was received. Where that fails, what was appended before is as good as it was, a part of this
// included, and to be synced. A sink for which that is not so says it again when it is to sync.
func (d *disk) write() error {
	if d.from == d.end {
		return nil
	}
	lsn, p := d.from, d.block.between(d.from, d.end)
	d.from = d.end
	if err := d.sink.Append(lsn, p); err != nil {
		return fmt.Errorf("append %d bytes at %s: %w", len(p), lsn, err)
	}
	return nil
}

// due says whether a sync would tell anything new. The first does in any case: up to where all is durable already.
func (d *disk) due() bool { return d.pending.bytes > 0 || d.flushed == 0 }

// now writes and syncs, inline.
func (d *disk) now() error {
	if err := d.write(); err != nil {
		return err
	}
	covered := d.pending
	d.pending = batch{}
	flush, err := d.sink.Sync()
	return d.vouched(covered, flush, err)
}

// all makes durable whatever was received, unless a sync has failed. The first error counts.
func (d *disk) all() error {
	err := d.join()
	if d.failed {
		return err
	}
	if writeErr := d.write(); err == nil {
		err = writeErr
	}
	if !d.due() {
		return err
	}
	if syncErr := d.now(); err == nil {
		err = syncErr
	}
	return err
}

// vouched is the only place where flushed moves: by the result of a sync that succeeded. One that failed is never repeated.
func (d *disk) vouched(covered batch, flush pg.LSN, err error) error {
	if err != nil {
		d.failed = true
		return fmt.Errorf("sync: %w", err)
	}
	d.flushed = flush
	d.synced.add(covered.bytes, covered.readAt)
	return nil
}

// takeSynced returns what was made durable since it was last called.
func (d *disk) takeSynced() batch {
	b := d.synced
	d.synced = batch{}
	return b
}

// release gives the memory back, if nothing is in it.
func (d *disk) release() {
	if d.block != nil && d.from == d.end && d.beside == nil {
		d.block.release()
		d.block = nil
	}
}
