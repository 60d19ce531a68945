// Package explore runs the goroutines of a small case in every order of their
// steps. It is for tests of code that must be right in all of them, and where
// luck would have to be great for a stress test to meet the one that goes wrong.
//
// A case is real code that calls [Order.Step] before each step that others could
// see or disturb, such as an atomic operation, locking a mutex or waiting on a
// channel. Its goroutines are coroutines: one runs at a time, from one step to
// the next, and an explorer decides who, depth first, until all orders were
// tried. Go's atomics are sequentially consistent, so that orders of steps are
// all there is. Where there are millions, orders with more than a few
// interruptions are left out: nearly every bug needs one or two.
//
// What runs between two steps must not block, and must do the same each time: no
// clocks, no random numbers, no order of a map.
package explore

import (
	"fmt"
	"iter"
	"math"
	"strings"
)

// All is a number of interruptions that leaves no order out.
const All = math.MaxInt

// Order is one order of the steps of a case.
type Order struct {
	threads []*thread
	running *thread
	told    []string // the names of those who took the steps so far
	failed  error    // a goroutine has panicked
}

// thread is a goroutine of a case, stopped before its next step.
type thread struct {
	name   string
	resume func() (ready func() bool, more bool)
	stop   func()
	yield  func(func() bool) bool
	ready  func() bool // whether the next step would not block; nil: it never does
	ended  bool
}

func (th *thread) canGo() bool { return !th.ended && (th.ready == nil || th.ready()) }

// abandoned is what a thread panics with whose order is over.
type abandoned struct{}

// Go adds a goroutine to the case; also while it runs.
func (o *Order) Go(name string, body func()) {
	th := &thread{name: name}
	th.resume, th.stop = iter.Pull(func(yield func(func() bool) bool) {
		defer func() {
			r := recover()
			if _, over := r.(abandoned); r != nil && !over {
				o.failed = fmt.Errorf("%s panics: %v", name, r)
			}
		}()
		th.yield = yield
		body()
	})
	o.threads = append(o.threads, th)
}

// Step is called by the goroutine that runs, before a step; ready tells whether
// the step would not block, nil that it never does. Before the case runs, and
// once it has ended, Step does nothing.
func (o *Order) Step(ready func() bool) {
	if o.running != nil && !o.running.yield(ready) {
		panic(abandoned{})
	}
}

// choice is one decision of the explorer: which of so many went on.
type choice struct{ taken, of int }

// explorer tries the orders one after the other, depth first.
type explorer struct {
	path          []choice
	interruptions int
}

// Orders runs a case in all orders in which a goroutine that could go on lets
// another go first at most so many times. build makes the case, anew for each
// order; what it returns is called when all goroutines have ended, and judges.
// Orders returns how many there were, or the error of the first that goes wrong:
// what build's judge has said, who is stuck, or who panics.
func Orders(interruptions int, build func(*Order) (judge func() error)) (orders int, err error) {
	e := explorer{interruptions: interruptions}
	for {
		orders++
		o := new(Order)
		err := e.run(o, build(o))
		if err != nil {
			return orders, fmt.Errorf("%w, in the order %s", err, o)
		}
		if !e.next() {
			return orders, nil
		}
	}
}

// next turns to the next order; false: there is none left.
func (e *explorer) next() bool {
	for i := len(e.path) - 1; i >= 0; i-- {
		if e.path[i].taken+1 < e.path[i].of {
			e.path[i].taken++
			e.path = e.path[:i+1]
			return true
		}
	}
	return false
}

// decide follows the path where it was laid, and else takes the first way.
func (e *explorer) decide(depth, of int) int {
	if depth == len(e.path) {
		e.path = append(e.path, choice{0, of})
	}
	return e.path[depth].taken
}

// run takes a case through the order of e.path.
func (e *explorer) run(o *Order, judge func() error) error {
	defer o.abandon()
	left := e.interruptions
	for depth := 0; ; depth++ {
		ready := o.ready()
		if len(ready) == 0 {
			o.running = nil
			if err := o.stuck(); err != nil {
				return err
			}
			return judge()
		}
		last := o.running
		if ready[0] == last && left == 0 {
			ready = ready[:1]
		}
		th := ready[e.decide(depth, len(ready))]
		if ready[0] == last && th != last {
			left--
		}
		if o.take(th); o.failed != nil {
			return o.failed
		}
	}
}

// ready lists who can go on; the one who went last comes first.
func (o *Order) ready() []*thread {
	var ready []*thread
	if o.running != nil && o.running.canGo() {
		ready = append(ready, o.running)
	}
	for _, th := range o.threads {
		if th != o.running && th.canGo() {
			ready = append(ready, th)
		}
	}
	return ready
}

// take lets a thread go on to its next step.
func (o *Order) take(th *thread) {
	o.running = th
	o.told = append(o.told, th.name)
	ready, more := th.resume()
	th.ready, th.ended = ready, !more
}

// stuck names the goroutines that wait for ever.
func (o *Order) stuck() error {
	var names []string
	for _, th := range o.threads {
		if !th.ended {
			names = append(names, th.name)
		}
	}
	if names == nil {
		return nil
	}
	return fmt.Errorf("%s: stuck for ever", strings.Join(names, ", "))
}

// abandon ends the goroutines that have not ended.
func (o *Order) abandon() {
	for _, th := range o.threads {
		o.running = th
		th.stop()
	}
	o.running = nil
}

// String tells who took the steps.
func (o *Order) String() string { return strings.Join(o.told, " ") }
