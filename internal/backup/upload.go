package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"

	"github.com/sluicewal/sluice/internal/pg"
)

// Source opens a whole segment on the local disk, and keeps it there until it is closed.
type Source func(tli pg.TLI, n pg.SegNo) (SourceSegment, error)

// SourceSegment is a segment on the local disk.
type SourceSegment interface {
	io.ReaderAt
	io.Closer
}

// Uploader puts whole segments of a timeline into the store. Several may run at once; how many segments are under way
// is limited for the store, not for each.
type Uploader struct {
	timeline *Timeline
	source   Source
}

// NewUploader returns one. It starts nothing.
func NewUploader(t *Timeline, source Source) *Uploader { return &Uploader{timeline: t, source: source} }

// Range is what an uploader is to upload: the segments of a TLI from From up to, but without, To.
type Range struct {
	TLI      pg.TLI
	From, To pg.SegNo
}

// maxAttempts is how often an upload that hangs is begun. What fails otherwise fails the run: when to come back is the plan's
// decision.
const maxAttempts = 3

// Run uploads a range, several segments at once. Progress is told in order: progress(n) says that all segments of the
// range up to and with n are in the store. It is called by the goroutine that called Run.
//
// The first error ends the run: no segment begins after it, those below it are finished and told, and it is returned.
// Run returns when nothing of it is left.
func (u *Uploader) Run(ctx context.Context, r Range, progress func(pg.SegNo)) error {
	run := &run{uploader: u, Range: r, next: r.From, stop: r.To}
	results := make(chan result)
	var workers sync.WaitGroup
	for range u.timeline.store.limit.size() {
		workers.Go(func() { run.work(ctx, results) })
	}
	go func() {
		workers.Wait()
		close(results)
	}()
	return collect(results, r, progress)
}

// collect tells progress in order, and returns the error of the lowest segment that failed.
func collect(results <-chan result, r Range, progress func(pg.SegNo)) error {
	done := map[pg.SegNo]bool{}
	reached := r.From
	var first result
	for res := range results {
		if res.err != nil {
			if first.err == nil || res.n < first.n {
				first = res
			}
			continue
		}
		for done[res.n] = true; done[reached]; reached++ {
			delete(done, reached)
			if progress != nil {
				progress(reached)
			}
		}
	}
	return first.err
}

type result struct {
	n   pg.SegNo
	err error
}

// run is one call of Run.
type run struct {
	uploader *Uploader
	Range

	mu   sync.Mutex
	next pg.SegNo // the next that begins; guarded by mu
	stop pg.SegNo // none begins from here on; guarded by mu
}

// take returns the next segment to upload.
func (r *run) take() (pg.SegNo, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next >= r.stop {
		return 0, false
	}
	n := r.next
	r.next++
	return n, true
}

// halt lets nothing begin any more.
func (r *run) halt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stop = r.next
}

func (r *run) work(ctx context.Context, results chan<- result) {
	for {
		n, more := r.take()
		if !more {
			return
		}
		err := r.upload(ctx, n)
		if err != nil {
			r.halt()
		}
		results <- result{n, err}
	}
}

// upload uploads a segment, and begins again where the store hangs.
func (r *run) upload(ctx context.Context, n pg.SegNo) error {
	for attempt := 1; ; attempt++ {
		err := r.once(ctx, n)
		if attempt == maxAttempts || !errors.Is(err, ErrCut) {
			return err
		}
		r.uploader.timeline.store.cfg.Events.retried(ctx, Retry{TLI: r.TLI, SegNo: n, Attempt: attempt, Err: err})
	}
}

// once takes its place among the node's uploads, and gives it back before anybody waits for anything else.
func (r *run) once(ctx context.Context, n pg.SegNo) (err error) {
	t := r.uploader.timeline
	if err := t.store.limit.enter(ctx); err != nil {
		return err
	}
	defer t.store.limit.leave()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	src, err := r.uploader.source(r.TLI, n)
	if err != nil {
		return err
	}
	_, err = t.PutSegment(ctx, r.TLI, n, src)
	return errors.Join(err, src.Close())
}

// UploadPartial uploads what is durable of an open segment, within the node's limit.
func (u *Uploader) UploadPartial(ctx context.Context, tli pg.TLI, n pg.SegNo, end pg.LSN, src io.ReaderAt) (Upload, error) {
	if err := u.timeline.store.limit.enter(ctx); err != nil {
		return Upload{}, err
	}
	defer u.timeline.store.limit.leave()
	return u.timeline.PutPartial(ctx, tli, n, end, src)
}
