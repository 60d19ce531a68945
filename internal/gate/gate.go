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
//   - refuses newcomers from its first moment (an entry is counted, or it is
//     refused, and nothing lies between);
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
//
// # How it works
//
// What a holder occupies is what says that it is inside: there is no counter
// beside the names. A gate has a few seats (seat.go), each a cache line; one
// atomic operation takes a seat and writes down who has it and since when, and
// one leaves it. Whoever finds none free stands in the crowd (crowd.go), under a
// lock.
//
// Two rules make it safe. Whoever enters takes a seat and then looks whether the
// gate closes; Close first says that it closes and then looks at the seats. Go's
// atomics are sequentially consistent, so of the two stores one is first, and
// whoever stores second sees it: a Close cannot miss a holder that it did not
// turn away. (Who sees the close so late was as fast as it, and is let in, unless
// the close is complete; who comes later looks first, and is refused.) In the same
// way whoever leaves first gives the seat back and then looks whether the gate
// closes, so that somebody notices the last one. TestEveryOrder runs this code
// through the interleavings of small cases.
package gate

import (
	"context"
	"errors"
	"sync/atomic"
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
	// Hooks are shared by many gates; nil: none. They are not changed any more.
	Hooks *Hooks
}

// Hooks join gates with whoever watches them. Each field may be nil.
type Hooks struct {
	// Trace tells the trace of whoever enters with a context; nil: none is kept.
	// It runs at every Enter.
	Trace func(context.Context) Trace
	// Events reports what happens at the gate.
	Events Events
	// Closings list the gate while it closes; nil: nobody asks.
	Closings *Closings
	// Clock tells since when holders are inside; nil: the exact time, which costs
	// more than all the rest of an entry.
	Clock *Clock

	pause pause // of the model test
}

// noHooks are those of a gate without.
var noHooks = new(Hooks)

// Gate is one object's gate. Make one with [New]. It is kept small, because there
// is one for each object, used or not; all else is made for who comes first.
type Gate struct {
	kind, name string
	hooks      *Hooks
	room       atomic.Pointer[room] // nil until somebody enters or closes
}

// New makes an open gate.
func New(cfg Config) *Gate {
	g := &Gate{kind: cfg.Kind, name: cfg.Name, hooks: cfg.Hooks}
	if g.hooks == nil {
		g.hooks = noHooks
	}
	return g
}

// Kind says whose gate it is.
func (g *Gate) Kind() string { return g.kind }

// Name is the object's own name.
func (g *Gate) Name() string { return g.name }

// inside is the gate's room, made if need be.
func (g *Gate) inside() *room {
	if r := g.room.Load(); r != nil {
		return r
	}
	return g.furnish()
}

func (g *Gate) furnish() *room {
	r := newRoom(g.hooks, seatsOfAGate)
	if counts := g.hooks.Events.Counts; counts != nil {
		r.counts = counts(g.kind)
	}
	if r.counts != nil {
		r.counts.add(r)
	}
	g.hooks.pause.memory()
	if g.room.CompareAndSwap(nil, r) {
		return r
	}
	if r.counts != nil {
		r.counts.end(r, 0)
	}
	return g.room.Load() // somebody else was faster
}

// Pass is one holder's right to be inside. It is a value: copies are the same
// pass, and it is left once. The zero Pass was never inside, and leaving it does
// nothing.
type Pass struct {
	gate  *Gate
	token token // tells this pass from all others of its place
	place place
}

// Enter lets the caller in, or returns [ErrClosed]. It never waits. The context
// is only asked for its trace: a request whose context has ended may still have
// to clean up inside.
func (g *Gate) Enter(ctx context.Context, h Holder) (Pass, error) {
	if g.hooks.Trace != nil {
		if trace := g.hooks.Trace(ctx); trace != (Trace{}) {
			return g.enterTraced(ctx, h, &trace)
		}
	}
	return g.enter(h, nil)
}

func (g *Gate) enter(h Holder, trace *Trace) (Pass, error) {
	r := g.inside()
	where, t, ok := r.admit(firstTry(), h, trace)
	if !ok {
		r.refuse()
		return Pass{}, ErrClosed
	}
	return Pass{gate: g, token: t, place: where}, nil
}

func (g *Gate) enterTraced(ctx context.Context, h Holder, trace *Trace) (Pass, error) {
	pass, err := g.enter(h, trace)
	if entered := g.hooks.Events.Entered; entered != nil {
		entered(ctx, Entry{Kind: g.kind, Name: g.name, Holder: h, Refused: err != nil})
	}
	return pass, err
}

// Leave gives the pass back. Leaving twice does nothing the second time, and is
// reported as [LeftTwice]: somebody used the object without being inside.
func (p Pass) Leave() {
	if p.gate == nil {
		return
	}
	r := p.gate.room.Load()
	if events := &p.gate.hooks.Events; events.Left != nil && p.token.age(r.clock.since()) >= events.LongStay {
		p.leaveTold(r)
		return
	}
	if !r.dismiss(p.place, p.token, nil) {
		p.gate.misuse(LeftTwice, p.holder())
	}
}

// leaveTold is Leave where somebody wants to know of the stay.
func (p Pass) leaveTold(r *room) {
	var trace Trace
	if !r.dismiss(p.place, p.token, &trace) {
		p.gate.misuse(LeftTwice, p.holder())
		return
	}
	now := r.clock.since()
	p.gate.left(record{holder: p.holder(), since: p.token.since(now), trace: trace}, now)
}

// holder is the kind of holder that p was given to.
func (p Pass) holder() Holder { return p.gate.room.Load().holder(p.token) }

// Clone enters once more, as the same kind of holder and with the trace of ctx.
// It is an entry like any other: a gate that is closing refuses it with
// [ErrClosed]. A pass that was left cannot be cloned: [ErrNotInside].
func (p Pass) Clone(ctx context.Context) (Pass, error) {
	if p.gate == nil {
		return Pass{}, ErrNotInside
	}
	if !p.isInside() {
		p.gate.misuse(ClonedAfterLeave, p.holder())
		return Pass{}, ErrNotInside
	}
	return p.gate.Enter(ctx, p.holder())
}

// isInside reports whether p was not left yet.
func (p Pass) isInside() bool { return p.gate.room.Load().holds(p.place, p.token) }

// passKey is the key of a context's value: the pass that it holds for a gate.
type passKey struct{ gate *Gate }

// WithPass returns a context that knows that its user is inside, so that
// [Gate.Close] with it is an error, not a deadlock. A context can hold one pass
// for each gate.
func WithPass(ctx context.Context, p Pass) context.Context {
	return context.WithValue(ctx, passKey{p.gate}, p)
}

// Closing is closed when the first Close begins: shutdown began.
func (g *Gate) Closing() <-chan struct{} { return g.inside().begun }

// Closed is closed when a close is complete: shutdown ended, and the object's
// storage may be used for something else.
func (g *Gate) Closed() <-chan struct{} { return g.inside().ended }
