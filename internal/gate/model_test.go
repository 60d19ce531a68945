package gate

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/sluicewal/sluice/internal/explore"
)

// house is a gate with whoever goes in and out in a small case, and what they
// know better than the gate. The functions are the real code, or a bug that a
// test seeds instead.
type house struct {
	gate *Gate
	room *room

	enter func(*house) (Pass, bool)
	leave func(*house, Pass)
	close func(*house, context.Context) error

	step     func(func() bool)
	trace    *Trace // of visitors
	inside   int    // passes that were given out and not yet given back
	admitted int    // passes that were given out
	begun    bool   // somebody was refused, or a close was given up: shutdown has begun
	closed   bool   // a close was complete
	counted  uint64 // the last count
	misused  uint64
	wrong    error // the first thing that was seen to be wrong
}

// newHouse has a gate with so many seats.
func newHouse(o *explore.Order, seats int, events Events) *house {
	hooks := &Hooks{Events: events, pause: o.Step}
	h := &house{
		gate:  New(Config{Hooks: hooks}),
		enter: func(h *house) (Pass, bool) { return h.pass(h.room.admit(0, "visitor", h.trace)) },
		leave: func(_ *house, p Pass) { p.Leave() },
		close: func(h *house, ctx context.Context) error { return h.gate.Close(ctx) },
		step:  o.Step,
	}
	h.room = newRoom(hooks, seats)
	h.gate.room.Store(h.room)
	return h
}

func (h *house) pass(where place, t token, ok bool) (Pass, bool) {
	return Pass{gate: h.gate, token: t, place: where}, ok
}

func (h *house) fail(format string, args ...any) {
	if h.wrong == nil {
		h.wrong = fmt.Errorf(format, args...)
	}
}

// come enters, and notes what nobody may ever see.
func (h *house) come() (Pass, bool) {
	begun := h.begun
	p, ok := h.enter(h)
	switch {
	case !ok:
		h.begun = true
		return p, false
	case begun:
		h.fail("somebody is let in after the shutdown began")
	case h.closed:
		h.fail("somebody is let into a closed gate")
	}
	h.inside++
	h.admitted++
	return p, true
}

// visit enters, uses what is inside, and leaves.
func (h *house) visit() {
	p, ok := h.come()
	if !ok {
		return
	}
	h.step(nil)
	if h.closed {
		h.fail("a holder uses what was closed")
	}
	h.inside--
	h.leave(h, p)
}

func (h *house) shut(ctx context.Context) {
	err := h.close(h, ctx)
	h.begun = true
	stuck := new(CloseError)
	switch {
	case err == nil && h.inside > 0:
		h.fail("closed with %d inside", h.inside)
	case err == nil:
		h.closed = true
	case !errors.As(err, &stuck) || len(stuck.Holders) == 0:
		h.fail("a close gives up, and names nobody: %w", err)
	}
}

// list asks who is inside.
func (h *house) list(most int) {
	holders := h.gate.Holders()
	if len(holders) > most {
		h.fail("%d are listed", len(holders))
	}
	for _, one := range holders {
		if h.trace != nil && one.Trace != *h.trace {
			h.fail("listed with another's trace: %v", one)
		}
	}
}

// count asks how many came.
func (h *house) count() {
	before, admitted := h.counted, uint64(h.admitted)
	h.counted = h.gate.Stats().Entered
	if h.counted < max(before, admitted) {
		h.fail("%d were counted and %d admitted, and now it is %d", before, admitted, h.counted)
	}
}

// judge looks at the end, when nobody is there any more.
func (h *house) judge() error {
	s := h.gate.Stats()
	switch {
	case h.wrong != nil:
		return h.wrong
	case s.Inside != h.inside || s.Entered != uint64(h.admitted) || s.Misused != h.misused:
		return fmt.Errorf("%d of %d are inside, %d misuses, and the gate says %+v", h.inside, h.admitted, h.misused, s)
	case h.closed && !s.Closed:
		return errors.New("it is not closed")
	}
	return nil
}

// ended is a context that has ended.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// listened makes a holder's record be read when it leaves.
var listened = Events{Left: func(Exit) {}}

// cases are the small cases. change seeds a bug, or does nothing.
var cases = []struct {
	name          string
	interruptions int // explore.All, or enough for every test run
	build         func(o *explore.Order, change func(*house)) *house
}{
	{"a visitor and a close", explore.All, func(o *explore.Order, change func(*house)) *house {
		h := newHouse(o, 1, Events{})
		change(h)
		o.Go("visitor", h.visit)
		o.Go("closer", func() { h.shut(context.Background()) })
		return h
	}},
	{"a visitor of whom is told, and a close", explore.All, func(o *explore.Order, change func(*house)) *house {
		h := newHouse(o, 1, listened)
		change(h)
		o.Go("visitor", h.visit)
		o.Go("closer", func() { h.shut(context.Background()) })
		return h
	}},
	{"a visitor with a trace, of whom is told, and a close", explore.All, func(o *explore.Order, change func(*house)) *house {
		h := newHouse(o, 1, listened)
		h.trace = &Trace{SpanID: [8]byte{1}}
		change(h)
		o.Go("visitor", h.visit)
		o.Go("closer", func() { h.shut(context.Background()) })
		return h
	}},
	{"a seat, a crowd and a close", 1, func(o *explore.Order, change func(*house)) *house {
		h := newHouse(o, 1, Events{})
		change(h)
		o.Go("visitor", h.visit)
		o.Go("other", h.visit)
		o.Go("closer", func() { h.shut(context.Background()) })
		return h
	}},
	{"two seats and a close", 1, func(o *explore.Order, change func(*house)) *house {
		h := newHouse(o, 2, Events{})
		change(h)
		o.Go("visitor", h.visit)
		o.Go("other", h.visit)
		o.Go("closer", func() { h.shut(context.Background()) })
		return h
	}},
	{"a close that gives up, and another", 1, func(o *explore.Order, change func(*house)) *house {
		h := newHouse(o, 1, Events{})
		change(h)
		o.Go("visitor", h.visit)
		o.Go("impatient", func() { h.shut(ended()); h.visit() })
		o.Go("closer", func() { h.shut(context.Background()) })
		return h
	}},
	{"a list while somebody leaves twice", 1, func(o *explore.Order, change func(*house)) *house {
		h := newHouse(o, 1, Events{})
		change(h)
		first, _ := h.come()
		h.inside, h.misused = 0, 1
		o.Go("careless", func() { h.leave(h, first); h.leave(h, first) })
		o.Go("visitor", h.visit)
		o.Go("list", func() { h.list(2) })
		return h
	}},
	{"a list and a close while somebody leaves", 1, func(o *explore.Order, change func(*house)) *house {
		h := newHouse(o, 1, listened)
		change(h)
		o.Go("visitor", h.visit)
		o.Go("list", func() { h.gate.Holders() })
		o.Go("closer", func() { h.shut(context.Background()) })
		return h
	}},
	{"a clone and a close", 1, func(o *explore.Order, change func(*house)) *house {
		h := newHouse(o, 1, Events{})
		change(h)
		p, _ := h.come()
		o.Go("holder", func() {
			// A clone is an entry: what came of it, the gate has to know.
			if clone, err := p.Clone(context.Background()); err == nil {
				h.admitted++
				h.leave(h, clone)
			}
			h.inside--
			h.leave(h, p)
		})
		o.Go("list", func() { h.gate.Holders() })
		o.Go("closer", func() { h.shut(context.Background()) })
		return h
	}},
	{"two visitors with traces, a list and a close", 1, func(o *explore.Order, change func(*house)) *house {
		h := newHouse(o, 1, listened)
		h.trace = &Trace{SpanID: [8]byte{1}}
		change(h)
		o.Go("visitor", h.visit)
		o.Go("other", h.visit)
		o.Go("list", func() { h.list(2) })
		o.Go("closer", func() { h.shut(context.Background()) })
		return h
	}},
	{"a seat that begins another round, while it is counted", 2, func(o *explore.Order, change func(*house)) *house {
		h := newHouse(o, 1, Events{})
		change(h)
		h.room.seats[0].token.Store(uint64(onePass) * (passesEach - 1))
		h.admitted = passesEach - 1
		o.Go("visitor", func() { h.visit(); h.visit() })
		o.Go("count", func() { h.count(); h.count() })
		o.Go("closer", func() { h.shut(context.Background()) })
		return h
	}},
}

// interruptions makes the larger cases larger than every test run can afford. All
// orders of all of them:
//
//	go test ./internal/gate -run TestEveryOrder -gate.interruptions=1000 -timeout 0 -v
var interruptions = flag.Int("gate.interruptions", 0, "how often, at least, a goroutine is interrupted in the model of the gate")

// TestEveryOrder runs the gate through the interleavings of small cases. In a
// bubble the timer of a close that waits never fires.
func TestEveryOrder(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				orders, err := explore.Orders(max(c.interruptions, *interruptions), func(o *explore.Order) func() error {
					return c.build(o, func(*house) {}).judge
				})
				if err != nil {
					t.Fatalf("order %d: %v", orders, err)
				}
				t.Logf("%d orders", orders)
			})
		})
	}
}

// TestModelFindsSeededBugs shows that the model could find what it looks for:
// each bug is found by one of the cases.
func TestModelFindsSeededBugs(t *testing.T) {
	for name, change := range map[string]func(*house){
		"an entry looks whether the gate closes before it takes a seat": func(h *house) {
			h.enter = func(h *house) (Pass, bool) {
				return h.enterBut(func(*seat, token) bool { return true })
			}
		},
		"a close looks at the seats before it says that it closes": func(h *house) {
			h.close = func(h *house, _ context.Context) error {
				for {
					h.step(func() bool { return h.room.seats[0].peek().is(empty) && len(h.room.crowd.traces) == 0 })
					if _, none := h.room.enteredIfEmpty(); none {
						h.room.shut(h.room.clock.base)
						return nil
					}
				}
			}
		},
		"whoever leaves looks whether the gate closes before the seat is given back": func(h *house) {
			h.leave = func(h *house, p Pass) {
				closing := h.room.isClosing()
				h.room.seats[p.place].swap(h.room.pause, p.token, p.token.with(empty))
				if closing {
					h.room.settle()
				}
			}
		},
		"a newcomer that is refused tells nobody that the seat is free": func(h *house) {
			h.enter = func(h *house) (Pass, bool) {
				return h.enterBut(func(s *seat, seen token) bool {
					closing := h.room.isClosing()
					if closing {
						s.store(h.room.pause, seen)
					}
					return !closing
				})
			}
		},
		"a newcomer that is late does not look whether the close is complete": func(h *house) {
			h.enter = func(h *house) (Pass, bool) {
				return h.enterBut(func(*seat, token) bool {
					if h.room.isClosing() {
						h.room.lock()
						h.room.mu.Unlock()
					}
					return true
				})
			}
		},
		"a round begins before it is counted": func(h *house) {
			h.enter = func(h *house) (Pass, bool) {
				s := &h.room.seats[0]
				seen := s.peek()
				t := seen.next(visitor(h.room.kind("visitor"), 0))
				if t.passes() != 0 || !seen.is(empty) || !s.swap(h.room.pause, seen, t) {
					return h.pass(h.room.admit(0, "visitor", h.trace))
				}
				h.step(nil)
				s.rounds.Add(1)
				return h.pass(0, t, !h.room.isClosing() || h.room.admitLate(s, seen))
			}
		},
		"a trace is written after the seat was taken": func(h *house) {
			h.enter = func(h *house) (Pass, bool) {
				if h.trace == nil {
					return h.pass(h.room.admit(0, "visitor", nil))
				}
				p, ok := h.enterBut(func(s *seat, seen token) bool {
					return !h.room.isClosing() || h.room.admitLate(s, seen)
				})
				if ok && p.place != inCrowd {
					h.step(nil)
					h.room.seats[p.place].trace = *h.trace
				}
				return p, ok
			}
		},
		"a pass that was left throws out who came after": func(h *house) {
			h.leave = func(h *house, p Pass) {
				s := &h.room.seats[0]
				s.store(h.room.pause, s.load(h.room.pause).with(empty))
				if h.room.isClosing() {
					h.room.settle()
				}
			}
		},
		"whoever leaves while it is listed is said to have left twice": func(h *house) {
			h.leave = func(h *house, p Pass) {
				switch {
				case p.place == inCrowd:
					p.Leave()
				case !h.room.seats[p.place].swap(h.room.pause, p.token, p.token.with(empty)):
					h.gate.misuse(LeftTwice, p.holder())
				case h.room.isClosing():
					h.room.settle()
				}
			}
		},
		"a close forgets the crowd": func(h *house) {
			h.close = func(h *house, _ context.Context) error {
				h.room.shut(h.room.clock.base)
				h.step(func() bool { return h.room.seats[0].peek().is(empty) })
				return nil
			}
		},
		"a close that gives up opens the gate again": func(h *house) {
			h.close = func(h *house, ctx context.Context) error {
				err := h.gate.Close(ctx)
				if err != nil {
					h.step(nil)
					h.room.closing.Store(false)
				}
				return err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { findBug(t, change) })
		})
	}
}

// findBug looks in the small cases first.
func findBug(t *testing.T, change func(*house)) {
	for interruptions := 1; interruptions <= 2; interruptions++ {
		for _, c := range cases {
			orders, err := explore.Orders(interruptions, func(o *explore.Order) func() error { return c.build(o, change).judge })
			if err != nil {
				t.Logf("%s, order %d: %v", c.name, orders, err)
				return
			}
		}
	}
	t.Fatal("not found")
}

// enterBut is admit with another look whether the gate closes, once the seat is taken.
func (h *house) enterBut(look func(s *seat, seen token) bool) (Pass, bool) {
	if h.room.isClosing() {
		return Pass{}, false
	}
	s := &h.room.seats[0]
	seen := s.peek()
	t := seen.next(visitor(h.room.kind("visitor"), 0))
	if h.trace != nil {
		t |= traced
	}
	if !seen.is(empty) || !s.swap(h.room.pause, seen, t) {
		return h.pass(h.room.admit(0, "visitor", h.trace))
	}
	return h.pass(0, t, look(s, seen))
}
