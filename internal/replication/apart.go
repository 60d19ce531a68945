package replication

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// Apart runs f on a goroutine of its own, and waits for it. A stack once grown is halved by a collection only while three quarters
// of it are free: what connects and asks needs 8 KiB or more, and who then waits for hours with 2 of them in use keeps all. Stacks
// are a third of what an idle source costs, so that what is deep and short is given one that ends with it. A panic in f is the
// caller's.
func Apart[T any](f func() (T, error)) (T, error) {
	type ending struct {
		value    T
		err      error
		panicked any
	}
	ended := make(chan ending, 1)
	go func() {
		e := ending{err: errors.New("goroutine exited")} // stands if f calls runtime.Goexit
		defer func() {
			if v := recover(); v != nil {
				e.panicked = fmt.Sprintf("%v\n%s", v, debug.Stack())
			}
			ended <- e
		}()
		e.value, e.err = f()
	}()
	e := <-ended
	if e.panicked != nil {
		panic(e.panicked)
	}
	return e.value, e.err
}
