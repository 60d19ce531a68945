package timeline

import "iter"

// This file runs the real code of Wake through every interleaving of a small
// case: each goroutine stops before each step on shared memory, and an explorer
// decides who takes the next one, until all orders were tried. Go's atomics are
// sequentially consistent, so that orders of steps are all there is. Where there
// are millions, orders with more than a few interruptions are left out.

// model is one small case: a cell, and the goroutines that use it.
type model struct {
	wake    *Wake
	threads []func()
	// verify is called once nobody can go on.
	verify func() error
}

// thread is a goroutine of a model, stopped before its next step.
type thread struct {
	resume func() (step, bool)
	stop   func()
	at     step
	ended  bool
}

// canGo reports whether the thread's next step would not block.
func (th *thread) canGo(w *Wake) bool {
	return !th.ended && (th.at != stepBell || len(w.bell) > 0)
}

// choice is one decision of the explorer: which of so many went on.
type choice struct{ taken, of int }

// explorer tries the orders one after the other, depth first.
type explorer struct {
	path      []choice
	schedules int
	// interruptions is how often, in one order, a goroutine that could go on has
	// to let another go first.
	interruptions int
}

// explore runs a model in all orders with so many interruptions; it returns how
// many there are, or the error of the first that goes wrong.
func explore(build func() model, interruptions int) (schedules int, err error) {
	e := explorer{interruptions: interruptions}
	for {
		e.schedules++
		if err := e.run(build()); err != nil {
			return e.schedules, err
		}
		if !e.next() {
			return e.schedules, nil
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

// abandoned is what a thread panics with whose order is over.
type abandoned struct{}

// run takes a model through the order of e.path.
func (e *explorer) run(m model) error {
	var yield func(step) bool // of the thread that runs
	m.wake.pause = func(s step) {
		if !yield(s) {
			panic(abandoned{})
		}
	}
	threads := make([]*thread, len(m.threads))
	for i, body := range m.threads {
		threads[i] = start(body, func(y func(step) bool) { yield = y })
		defer threads[i].stop()
	}
	var last *thread
	left := e.interruptions
	for depth := 0; ; depth++ {
		ready := readyThreads(m.wake, threads, last)
		if len(ready) == 0 {
			m.wake.pause = nil
			return m.verify()
		}
		if ready[0] == last && left == 0 {
			ready = ready[:1]
		}
		th := ready[e.decide(depth, len(ready))]
		if ready[0] == last && th != last {
			left--
		}
		s, more := th.resume()
		th.at, th.ended = s, !more
		last = th
	}
}

// readyThreads lists who can go on; the one who went last comes first.
func readyThreads(w *Wake, threads []*thread, last *thread) []*thread {
	var ready []*thread
	if last != nil && last.canGo(w) {
		ready = append(ready, last)
	}
	for _, th := range threads {
		if th != last && th.canGo(w) {
			ready = append(ready, th)
		}
	}
	return ready
}

// start makes a thread that waits for its first step. Whenever it is resumed it
// says how it yields.
func start(body func(), enter func(yield func(step) bool)) *thread {
	var own func(step) bool
	resume, stop := iter.Pull(func(yield func(step) bool) {
		defer func() {
			r := recover()
			if _, over := r.(abandoned); r != nil && !over {
				panic(r)
			}
		}()
		own = yield
		enter(own)
		body()
	})
	return &thread{
		resume: func() (step, bool) {
			if own != nil {
				enter(own)
			}
			return resume()
		},
		stop: stop,
	}
}
