package backup

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Names of operations; OperationNames lists them.
const (
	opGet    = "get"
	opHead   = "head"
	opPut    = "put"
	opList   = "list"
	opDelete = "delete"
)

// OperationNames lists the names of all operations.
func OperationNames() []string { return []string{opGet, opHead, opPut, opList, opDelete} }

// do runs one operation within its own time: the cloud libraries have none, and a server that takes a request and never
// answers it would hold an upload for ever. The time is the configured one, and what sizeBytes may take beside it.
func (s *Store) do(ctx context.Context, name, key string, sizeBytes int64, body func(context.Context) error) error {
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("%s %s: %w", name, key, err) // not begun: some of the libraries would not even look
	}
	limit := s.cfg.Timeout + time.Duration(float64(sizeBytes)/float64(s.cfg.MinRate)*float64(time.Second))
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	begin := time.Now()
	defer s.pending.add(begin)()
	outcome, err := classify(ctx, body(within))
	switch outcome {
	case OK, NotFound, Exists:
		s.silent.Store(false)
	case Denied, Cut, Failed:
		s.silent.Store(true)
	case Cancelled: // nothing was learned
	}
	s.cfg.Events.operation(ctx, Operation{Name: name, Outcome: outcome, Duration: time.Since(begin)})
	if err != nil {
		return fmt.Errorf("%s %s: %w", name, key, err)
	}
	return nil
}

// pending knows the operations that run.
type pending struct {
	mu    sync.Mutex
	next  int
	since map[int]time.Time // guarded by mu
}

func (p *pending) add(begin time.Time) (done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since == nil {
		p.since = map[int]time.Time{}
	}
	id := p.next
	p.next++
	p.since[id] = begin
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.since, id)
	}
}

func (p *pending) oldest() (n int, age time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, since := range p.since {
		age = max(age, time.Since(since))
	}
	return len(p.since), age
}

// limiter lets so many in at once, and the others wait.
type limiter chan struct{}

func newLimiter(n int) limiter { return make(limiter, n) }

// enter waits for a place. It is taken once for each upload, never inside one.
func (l limiter) enter(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err // also where there is a place
	}
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l limiter) leave()     { <-l }
func (l limiter) inUse() int { return len(l) }
func (l limiter) size() int  { return cap(l) }
