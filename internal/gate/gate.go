// Package gate refuses newcomers and waits for those inside.
//
// Prometheus and dskit call a limiter of concurrency a gate. This is the other
// kind, the shutdown gate of Seastar and Neon: an object with a lifetime has
// one, whoever uses the object holds a [Pass] for as long, and shutdown closes
// the gate before the object's files may be touched.
//
// Cancelling a context says "stop"; it does not say "it has stopped". So the two
// go together: cancel first, then [Gate.Close], which
//
//   - refuses newcomers from its first moment (entering is one atomic step: it
//     is counted, or it is refused, and nothing lies between);
//   - returns when the last pass was left, and not before;
//   - stays closed to newcomers when its context ends first, names those inside,
//     and may be called again to finish;
//   - says, while it waits, who is inside and since when ([Events]).
//
// All methods may be called from any goroutine. A pass may be left by another
// goroutine than the one that entered, and by one that ends later.
//
// A holder must leave when the object's context ends: every wait between Enter
// and Leave listens to it. It releases what it used first and leaves last.
package gate

import (
	"context"
	"errors"
	"sync"
	"time"
)

var (
	// ErrClosed is returned to whoever enters a gate that is closing or closed.
	// It means that the object shuts down, never that the request was wrong.
	ErrClosed = errors.New("gate is closed to newcomers")
	// ErrNotInside is returned to whoever clones a pass that was left.
	ErrNotInside = errors.New("pass was left")
)

// Holder is a kind of holder, such as "wal_download". Kinds are constants: they
// become values of a metric's label.
type Holder string

// Trace says where a holder's work can be looked up: the ids of its span as the
// W3C trace context has them. The zero value: it is not traced.
type Trace struct {
	TraceID [16]byte
	SpanID  [8]byte
}

// Config is what a gate may be told; the zero value will do.
type Config struct {
	// Kind says whose gate it is, such as "timeline"; a constant.
	Kind string
	// Name is the object's own name. Errors and events show it.
	Name string
	// Trace tells the trace of whoever enters with a context; nil: none is kept.
	// It runs at every Enter.
	Trace func(context.Context) Trace
	// Events reports what happens at the gate.
	Events Events
}

// Gate is one object's gate. Make one with [New].
type Gate struct {
	cfg     Config
	closing chan struct{} // closed when the first Close begins
	closed  chan struct{} // closed when nobody is inside any more, and nobody can come

	mu           sync.Mutex // held for a few instructions, never over a callback or a wait
	seats        seats      // guarded by mu
	refused      uint64     // guarded by mu; entries refused so far
	misused      uint64     // guarded by mu; misuses reported so far
	closingSince time.Time  // guarded by mu; zero while newcomers are let in
	nextReport   time.Time  // guarded by mu; when a waiting Close names the holders again
}

// New makes an open gate.
func New(cfg Config) *Gate {
	return &Gate{cfg: cfg, closing: make(chan struct{}), closed: make(chan struct{})}
}

// Pass is one holder's right to be inside. It is a value: copies are the same
// pass, and it is left once. The zero Pass was never inside, and leaving it does
// nothing.
type Pass struct {
	gate   *Gate
	holder Holder
	seat   int32  // where the gate keeps this pass's record
	serial uint64 // which of the passes that sat there it is; never 0
}

// Enter lets the caller in, or returns [ErrClosed]. It never waits. The context
// is only asked for its trace: a request whose context has ended may still have
// to clean up inside.
func (g *Gate) Enter(ctx context.Context, h Holder) (Pass, error) {
	var trace Trace
	if g.cfg.Trace != nil {
		trace = g.cfg.Trace(ctx)
	}
	pass, ok := g.admit(h, trace)
	if entered := g.cfg.Events.Entered; entered != nil {
		entered(ctx, Entry{Kind: g.cfg.Kind, Name: g.cfg.Name, Holder: h, Refused: !ok})
	}
	if !ok {
		return Pass{}, ErrClosed
	}
	return pass, nil
}

// admit is the one step that both looks whether the gate closes and counts.
func (g *Gate) admit(h Holder, trace Trace) (Pass, bool) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isClosing() {
		g.refused++
		return Pass{}, false
	}
	seat, serial := g.seats.take(h, now, trace)
	return Pass{gate: g, holder: h, seat: seat, serial: serial}, true
}

// Leave gives the pass back. Leaving twice does nothing the second time, and is
// reported as [LeftTwice]: somebody used the object without being inside.
func (p Pass) Leave() {
	if p.gate == nil {
		return
	}
	record, ok := p.gate.dismiss(p)
	if !ok {
		p.gate.misuse(LeftTwice, p.holder)
		return
	}
	p.gate.left(record)
}

// dismiss takes p's record out; whoever leaves last ends the close.
func (g *Gate) dismiss(p Pass) (seat, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	record, ok := g.seats.free(p.seat, p.serial)
	if ok && g.isClosing() && g.seats.taken == 0 {
		close(g.closed)
	}
	return record, ok
}

// isClosing needs mu.
func (g *Gate) isClosing() bool { return !g.closingSince.IsZero() }

// Clone enters once more, as the same kind of holder and with the trace of ctx.
// It is an entry like any other: a gate that is closing refuses it with
// [ErrClosed]. A pass that was left cannot be cloned: [ErrNotInside].
func (p Pass) Clone(ctx context.Context) (Pass, error) {
	if p.gate == nil {
		return Pass{}, ErrNotInside
	}
	if !p.gate.isInside(p) {
		p.gate.misuse(ClonedAfterLeave, p.holder)
		return Pass{}, ErrNotInside
	}
	return p.gate.Enter(ctx, p.holder)
}

// isInside reports whether p was not left yet.
func (g *Gate) isInside(p Pass) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.seats.at(p.seat, p.serial)
	return ok
}

// passKey is the key of a context's value: the pass that it holds for a gate.
type passKey struct{ gate *Gate }

// WithPass returns a context that knows that its user is inside, so that
// [Gate.Close] with it is an error, not a deadlock. A context can hold one pass
// for each gate.
func WithPass(ctx context.Context, p Pass) context.Context {
	return context.WithValue(ctx, passKey{p.gate}, p)
}

// Closing is closed when the first Close begins: shutdown began.
func (g *Gate) Closing() <-chan struct{} { return g.closing }

// Closed is closed when a close is complete: shutdown ended, and the object's
// storage may be used for something else.
func (g *Gate) Closed() <-chan struct{} { return g.closed }
