package replication

import (
	"fmt"
	"sync"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// batch is WAL that was appended, and is made durable together.
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

// syncs has the sink sync, one at a time: inline, or beside a caller who goes on appending. It has one owner.
type syncs struct {
	sink Sink
	// woken is called, by the goroutine of a sync that ran beside, when collect has something.
	woken func()

	pending batch           // appended since the last sync began
	covered batch           // of the sync that runs beside
	beside  chan syncResult // holds its one result; nil: none runs
	helper  sync.WaitGroup  // of its goroutine
	synced  batch           // made durable, and not taken out yet
	flushed pg.LSN          // the last result; 0: none yet
	failed  bool            // a sync has failed: none is tried again
}

type syncResult struct {
	flush pg.LSN
	err   error
}

// append passes WAL on to the sink. Where that fails, what was appended before is as good as it was, a part of this included, and
// to be synced. A sink for which that is not so says it again when it is to sync.
func (y *syncs) append(lsn pg.LSN, p []byte, readAt time.Time) error {
	y.pending.add(int64(len(p)), readAt)
	if err := y.sink.Append(lsn, p); err != nil {
		return fmt.Errorf("append %d bytes at %s: %w", len(p), lsn, err)
	}
	return nil
}

// due says whether a sync would tell anything new. The first does in any case: up to where all is durable already.
func (y *syncs) due() bool { return y.pending.bytes > 0 || y.flushed == 0 }

func (y *syncs) running() bool { return y.beside != nil }

// now syncs what is pending, and waits for it. None may be running.
func (y *syncs) now() error {
	y.covered, y.pending = y.pending, batch{}
	flush, err := y.sink.Sync()
	return y.settle(syncResult{flush, err})
}

// start syncs what is pending beside the caller, who must come back by collect or wait.
func (y *syncs) start() {
	y.covered, y.pending = y.pending, batch{}
	beside := make(chan syncResult, 1)
	y.beside = beside
	y.helper.Go(func() {
		flush, err := y.sink.Sync()
		beside <- syncResult{flush, err}
		y.woken()
	})
}

// collect takes up the result of a sync that has ended, if there is one.
func (y *syncs) collect() (bool, error) {
	select {
	case result := <-y.beside:
		return true, y.ended(result)
	default:
		return false, nil
	}
}

// wait waits for the sync that runs beside, if one does.
func (y *syncs) wait() error {
	if !y.running() {
		return nil
	}
	return y.ended(<-y.beside)
}

// ended takes up the result of the sync that ran beside.
func (y *syncs) ended(result syncResult) error {
	y.helper.Wait() // it has only to wake us yet
	y.beside = nil
	return y.settle(result)
}

// all makes durable whatever was appended, unless a sync has failed.
func (y *syncs) all() error {
	if err := y.wait(); err != nil {
		return err
	}
	if y.failed || !y.due() {
		return nil
	}
	return y.now()
}

// settle is the only place where flushed moves.
func (y *syncs) settle(result syncResult) error {
	if result.err != nil {
		y.failed = true
		return fmt.Errorf("sync: %w", result.err)
	}
	y.flushed = result.flush
	y.synced.add(y.covered.bytes, y.covered.readAt)
	return nil
}

// takeSynced returns what was made durable since it was last called.
func (y *syncs) takeSynced() batch {
	b := y.synced
	y.synced = batch{}
	return b
}
