package telemetry

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// accounts count what became of each sampled span that ended:
// ended = exported + failed + dropped + inFlight, and inFlight is 0 after the shutdown.
type accounts struct {
	exported, failed, dropped atomic.Uint64
	inFlight                  atomic.Int64 // handed to the batch processor and not yet out of the exporter
}

// A processor is the SDK's batch processor with accounts. That one keeps the number of spans that it
// drops to itself, and its shutdown leaves an export running for as long as the collector hangs; this
// one decides itself what is dropped, and ends every export at the deadline of the shutdown.
type processor struct {
	sdktrace.SpanProcessor
	exporter *exporter
	accounts *accounts
	queue    int64 // how many spans wait at most

	mu     sync.RWMutex // held over OnEnd, so that no span slips in while the accounts are closed
	closed bool         // guarded by mu
}

// newProcessor exports in batches through next.
func newProcessor(next sdktrace.SpanExporter, b batching) *processor {
	a := &accounts{}
	e := &exporter{next: next, accounts: a}
	batch := sdktrace.NewBatchSpanProcessor(e, sdktrace.WithBatchTimeout(b.delay), sdktrace.WithExportTimeout(b.timeout),
		sdktrace.WithMaxQueueSize(b.queue), sdktrace.WithMaxExportBatchSize(b.batch))
	return &processor{SpanProcessor: batch, exporter: e, accounts: a, queue: int64(b.queue)}
}

// OnEnd queues a span, or drops it. With at most as many in flight as the queue takes, the batch processor's own queue
// cannot overflow.
func (p *processor) OnEnd(s sdktrace.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	switch {
	case p.closed:
		p.accounts.dropped.Add(1)
	case p.accounts.inFlight.Add(1) > p.queue:
		p.accounts.inFlight.Add(-1)
		p.accounts.dropped.Add(1)
	default:
		p.SpanProcessor.OnEnd(s)
	}
}

// Shutdown exports what is queued until ctx ends; the rest is dropped.
func (p *processor) Shutdown(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.SpanProcessor.Shutdown(ctx) // returns when ctx ends, and leaves the export that runs behind
	p.exporter.cut()
	p.exporter.running.Wait()
	p.accounts.dropped.Add(uint64(p.accounts.inFlight.Swap(0)))
	return err
}

// errTooLate is what the batch processor gets for batches that it still has when the time is over.
var errTooLate = errors.New("the time to export spans is over")

// An exporter counts what next does with each batch. The batch processor exports one at a time.
type exporter struct {
	next     sdktrace.SpanExporter
	accounts *accounts

	mu      sync.Mutex
	over    bool               // guarded by mu; no export begins any more
	cancel  context.CancelFunc // guarded by mu; of the export that runs, or ran last
	running sync.WaitGroup     // grows under mu only
}

// ExportSpans exports a batch.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !e.begin(cancel) {
		return errTooLate
	}
	defer e.running.Done()
	err := e.next.ExportSpans(ctx, spans)
	count := &e.accounts.exported
	if err != nil {
		count = &e.accounts.failed
	}
	count.Add(uint64(len(spans)))
	e.accounts.inFlight.Add(-int64(len(spans)))
	return err
}

func (e *exporter) begin(cancel context.CancelFunc) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return false
	}
	e.cancel = cancel
	e.running.Add(1)
	return true
}

// cut ends the export that runs, and lets no other begin.
func (e *exporter) cut() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
	if e.cancel != nil {
		e.cancel()
	}
}

// Shutdown ends next.
func (e *exporter) Shutdown(ctx context.Context) error { return e.next.Shutdown(ctx) }
