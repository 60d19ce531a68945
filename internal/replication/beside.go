package replication

import "fmt"

// aheadBlocks is how much WAL may be under way to the disk: enough that reading goes on while a segment is synced. Measured from
// 1 to 32 MiB: less makes the two wait for each other, more falls out of the processor's caches.
const aheadBlocks = 8

// besideThreads is how many threads are in system calls most of the time: the reader's, the writer's, and now and then the
// syncer's.
const besideThreads = 2

// start begins to write and sync beside the caller, who must come back by join. Writing and syncing do not wait for each other
// either: a disk that takes its time to sync a segment goes on to be given the next.
func (d *disk) start() {
	// Neither side ever waits to be rid of something: there are never as many jobs, since one that does not fill its block has a
	// sync, and no other sync is asked for meanwhile.
	b := &beside{
		jobs:    make(chan job, 2*aheadBlocks),
		written: make(chan result, 2*aheadBlocks),
		results: make(chan result, 2*aheadBlocks),
	}
	if d.block != nil {
		b.blocks = 1
	}
	d.beside = b
	hot.add(besideThreads)
	b.helpers.Go(func() { d.writeJobs(b) })
	b.helpers.Go(func() { d.syncJobs(b) })
}

// writeJobs writes in order. After an error nothing more is written. Like syncJobs, it uses nothing of d but what never changes.
func (d *disk) writeJobs(b *beside) {
	defer close(b.written)
	var failed error
	var turns turns
	for j := range b.jobs {
		r := result{job: j, err: failed}
		if failed == nil && len(j.data) > 0 {
			failed = d.sink.Write(j.data, &j.end)
			turns.yield()
		}
		if failed != nil && r.err == nil {
			failed = fmt.Errorf("write %d bytes up to %s: %w", len(j.data), j.end.Position(), failed)
			r.err = failed
		}
		if j.sync && r.err == nil {
			b.written <- r
			continue
		}
		b.results <- r
		if r.err != nil {
			d.woken()
		}
	}
}

// syncJobs syncs what was written. After an error nothing more is synced.
func (d *disk) syncJobs(b *beside) {
	var failed error
	for r := range b.written {
		r.err = failed
		if failed == nil {
			r.flush, r.err = d.sink.Sync()
			r.synced, failed = true, r.err
		}
		b.results <- r
		d.woken()
	}
}

// syncing says whether a sync runs beside, or is about to.
func (d *disk) syncing() bool { return d.beside != nil && d.beside.syncs > 0 }

// busy says whether anything is under way beside.
func (d *disk) busy() bool { return d.beside != nil && d.beside.running > 0 }

// submit hands over what was received, if anything was, and asks for a sync.
func (d *disk) submit(sync bool) {
	b := d.beside
	j := job{end: d.last, sync: sync}
	if d.from != d.end {
		j.data = d.block.between(d.from, d.end)
		d.from = d.end
		if d.end%blockLen == 0 {
			j.full, d.block = d.block, nil
		}
	}
	if sync {
		j.batch, d.pending = d.pending, batch{}
		b.syncs++
	}
	b.running++
	b.jobs <- j
}

// makeRoom sees to it that there is a block. Beside, it may have to wait for the disk.
func (d *disk) makeRoom() error {
	b := d.beside
	for b != nil && d.block == nil {
		if n := len(b.free); n > 0 {
			d.block, b.free = b.free[n-1], b.free[:n-1]
			return nil
		}
		if b.blocks < aheadBlocks {
			b.blocks++
			d.block = takeBlock(d.end)
			return nil
		}
		if err := d.ended(<-b.results); err != nil {
			return err
		}
	}
	return nil
}

// collect takes up the results that are there, and says whether one of them was a sync's.
func (d *disk) collect() (synced bool, err error) {
	for d.busy() {
		select {
		case r := <-d.beside.results:
			synced = synced || r.sync
			if err := d.ended(r); err != nil {
				return synced, err
			}
		default:
			return synced, nil
		}
	}
	return synced, nil
}

// ended takes up one result.
func (d *disk) ended(r result) error {
	b := d.beside
	b.running--
	if r.sync {
		b.syncs--
	}
	if r.full != nil {
		b.free = append(b.free, r.full)
	}
	if r.synced {
		return d.vouched(r.batch, r.flush, r.err)
	}
	if r.sync {
		d.pending.add(r.batch.bytes, r.batch.readAt) // it was not begun
	}
	return r.err
}

// join has everything written that was received, and ends the goroutines. The first error counts; what came after it was not
// tried.
func (d *disk) join() error {
	b := d.beside
	if b == nil {
		return nil
	}
	if d.from != d.end {
		d.submit(false)
	}
	close(b.jobs)
	var first error
	for b.running > 0 {
		if err := d.ended(<-b.results); first == nil {
			first = err
		}
	}
	b.helpers.Wait()
	hot.add(-besideThreads)
	d.beside = nil
	for _, free := range b.free {
		free.release()
	}
	return first
}
