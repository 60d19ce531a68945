package gate

import (
	"context"
	"errors"
	"fmt"
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
	if p, ok := ctx.Value(passKey{g}).(Pass); ok && g.isInside(p) {
		g.misuse(ClosedByHolder, p.holder)
		return fmt.Errorf("close the gate of %s: %s: %w", g.cfg.Name, p.holder, ErrClosedByHolder)
	}
	began := time.Now()
	ctx = g.cfg.Events.closeStarted(ctx, CloseStart{Kind: g.cfg.Kind, Name: g.cfg.Name})
	g.shut(began)
	err := g.drain(ctx, began)
	g.cfg.Events.closeEnded(ctx, CloseEnd{
		Kind: g.cfg.Kind, Name: g.cfg.Name, Waited: time.Since(began), Err: err,
	})
	return err
}

// shut turns newcomers away from here on.
func (g *Gate) shut(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isClosing() {
		return
	}
	g.closingSince = now
	g.nextReport = now.Add(firstReport)
	close(g.closing)
	if g.seats.taken == 0 {
		close(g.closed)
	}
}

// drain waits for those inside, and names them again and again.
func (g *Gate) drain(ctx context.Context, began time.Time) error {
	if g.isClosed() {
		return nil
	}
	timer := time.NewTimer(firstReport)
	defer timer.Stop()
	for {
		select {
		case <-g.closed:
			return nil
		case <-ctx.Done():
			return g.giveUp(ctx, began)
		case <-timer.C:
			timer.Reset(g.report(ctx, began))
		}
	}
}

func (g *Gate) isClosed() bool {
	select {
	case <-g.closed:
		return true
	default:
		return false
	}
}

// giveUp is the answer of a Close whose context has ended.
func (g *Gate) giveUp(ctx context.Context, began time.Time) error {
	if g.isClosed() {
		return nil // it was complete at the same moment
	}
	return &CloseError{
		Name: g.cfg.Name, Waited: time.Since(began), Holders: g.Holders(), Cause: context.Cause(ctx),
	}
}

// report names the holders, unless another Close has done so less than
// reportEvery ago; it returns how long to wait before the next report.
func (g *Gate) report(ctx context.Context, began time.Time) time.Duration {
	holders, wait := g.takeReport(time.Now())
	if wait > 0 {
		return wait
	}
	g.cfg.Events.closeWaiting(ctx, CloseWait{
		Kind: g.cfg.Kind, Name: g.cfg.Name, Waited: time.Since(began), Holders: holders,
	})
	return reportEvery
}

// takeReport gives the caller the report that is due, or how long until one is.
func (g *Gate) takeReport(now time.Time) (holders []HolderInfo, wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if wait := g.nextReport.Sub(now); wait > 0 {
		return nil, wait
	}
	g.nextReport = now.Add(reportEvery)
	return g.holdersLocked(), 0
}

// CloseError says who kept a gate from closing.
type CloseError struct {
	Name    string        // the object's
	Waited  time.Duration // by this Close
	Holders []HolderInfo  // when it gave up, the oldest first
	Cause   error         // why its context ended
}

// Error names the oldest holders, with the time that each has been inside.
func (e *CloseError) Error() string {
	now := time.Now()
	var held strings.Builder
	for i, h := range e.Holders[:min(namedHolders, len(e.Holders))] {
		if i > 0 {
			held.WriteString(", ")
		}
		fmt.Fprintf(&held, "%s (%s)", h.Name, now.Sub(h.Since).Round(time.Millisecond))
	}
	if more := len(e.Holders) - namedHolders; more > 0 {
		fmt.Fprintf(&held, " and %d more", more)
	}
	return fmt.Sprintf("gate of %s is not empty after %s: held by %s: %v",
		e.Name, e.Waited.Round(time.Millisecond), held.String(), e.Cause)
}

// Unwrap returns why the close gave up, such as [context.DeadlineExceeded].
func (e *CloseError) Unwrap() error { return e.Cause }
