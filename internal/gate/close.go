package gate

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"
)

const (
	// firstReport is how long a Close waits before it names the holders: long
	// enough that a shutdown that goes well says nothing.
	firstReport = 100 * time.Millisecond
	// reportEvery is how often it names them after that.
	reportEvery = time.Second
	// namedHolders is how many holders an error's text names; the rest is counted.
	namedHolders = 8
)

// ErrClosedByHolder is returned to whoever closes a gate while being inside, as
// [WithPass] tells: it would wait for itself.
var ErrClosedByHolder = errors.New("the caller is inside and would wait for itself")

// Close refuses newcomers from now on and waits until nobody is inside. When ctx
// ends first it returns a [*CloseError] that lists the holders; the gate stays
// closed to newcomers, and a later Close can finish. Closing twice, or from many
// goroutines, is legal.
//
// A holder of the gate gets [ErrClosedByHolder], and the gate stays as it was.
func (g *Gate) Close(ctx context.Context) error {
	if p, ok := ctx.Value(passKey{g}).(Pass); ok && p.isInside() {
		g.misuse(ClosedByHolder, p.holder())
		return fmt.Errorf("close the gate of %s: %s: %w", g.name, p.holder(), ErrClosedByHolder)
	}
	began := time.Now()
	ctx = g.hooks.Events.closeStarted(ctx, CloseStart{Kind: g.kind, Name: g.name})
	r := g.inside()
	g.hooks.Closings.add(g)
	r.shut(began)
	err := g.drain(ctx, r, began)
	if err == nil {
		g.hooks.Closings.remove(g)
	}
	g.hooks.Events.closeEnded(ctx, CloseEnd{Kind: g.kind, Name: g.name, Waited: time.Since(began), Err: err})
	return err
}

// shut turns newcomers away from here on. Only now, with that said, it looks who
// is inside.
func (r *room) shut(now time.Time) {
	r.lock()
	defer r.mu.Unlock()
	if r.isClosing() {
		return
	}
	r.closingSince = now
	r.nextReport = now.Add(firstReport)
	r.pause.memory()
	r.closing.Store(true)
	close(r.begun)
	r.settleLocked()
}

// drain waits for those inside, and names them again and again.
func (g *Gate) drain(ctx context.Context, r *room, began time.Time) error {
	timer := time.NewTimer(firstReport)
	defer timer.Stop()
	for {
		r.pause.wait(r.ended, ctx.Done())
		if r.isClosed() { // also if its context ended at the same moment
			return nil
		}
		select {
		case <-r.ended:
			return nil
		case <-ctx.Done():
			return g.giveUp(ctx, r, began)
		case <-timer.C:
			timer.Reset(g.report(ctx, r, began))
		}
	}
}

// giveUp is the answer of a Close whose context has ended. Between two steps of
// entering or leaving a holder is neither listed nor gone: then it looks again.
func (g *Gate) giveUp(ctx context.Context, r *room, began time.Time) error {
	for {
		holders := g.Holders()
		if len(holders) > 0 {
			return &CloseError{Name: g.name, Waited: time.Since(began), Holders: holders, Cause: context.Cause(ctx)}
		}
		if r.isClosed() {
			return nil // it was complete at the same moment
		}
		r.pause.spin(r)
		runtime.Gosched()
	}
}

// report names the holders, unless another Close has done so less than
// reportEvery ago; it returns how long to wait before the next report.
func (g *Gate) report(ctx context.Context, r *room, began time.Time) time.Duration {
	holders, wait := r.takeReport(time.Now())
	if wait > 0 {
		return wait
	}
	g.hooks.Events.closeWaiting(ctx, CloseWait{Kind: g.kind, Name: g.name, Waited: time.Since(began), Holders: holders})
	return reportEvery
}

// takeReport gives the caller the report that is due, or how long until one is.
func (r *room) takeReport(now time.Time) (holders []HolderInfo, wait time.Duration) {
	r.lock()
	defer r.mu.Unlock()
	if wait := r.nextReport.Sub(now); wait > 0 {
		return nil, wait
	}
	r.nextReport = now.Add(reportEvery)
	return r.holdersLocked(), 0
}

// CloseError says who kept a gate from closing.
type CloseError struct {
	Name    string        // the object's
	Waited  time.Duration // by this Close
	Holders []HolderInfo  // when it gave up, the oldest first
	// Known is what somebody who knows more of the holders calls each of them, as for which client it is inside; nil: nobody
	// does, and they are called by their kind.
	Known []string
	Cause error // why its context ended
}

// Error names the oldest holders, with the time that each has been inside.
func (e *CloseError) Error() string {
	now := time.Now()
	var held strings.Builder
	for i, h := range e.Holders[:min(namedHolders, len(e.Holders))] {
		if i > 0 {
			held.WriteString(", ")
		}
		fmt.Fprintf(&held, "%s (%s)", e.nameOf(i), now.Sub(h.Since).Round(10*time.Millisecond))
	}
	if more := len(e.Holders) - namedHolders; more > 0 {
		fmt.Fprintf(&held, " and %d more", more)
	}
	return fmt.Sprintf("gate of %s is not empty after %s: held by %s: %v",
		e.Name, e.Waited.Round(time.Millisecond), held.String(), e.Cause)
}

func (e *CloseError) nameOf(i int) string {
	if i < len(e.Known) {
		return e.Known[i]
	}
	return string(e.Holders[i].Name)
}

// Unwrap returns why the close gave up, such as [context.DeadlineExceeded].
func (e *CloseError) Unwrap() error { return e.Cause }
