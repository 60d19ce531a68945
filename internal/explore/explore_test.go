package explore

import (
	"errors"
	"strings"
	"testing"
)

// counters is two goroutines that add to a number in two steps each.
func counters(o *Order) func() error {
	n := 0
	for _, name := range []string{"a", "b"} {
		o.Go(name, func() {
			o.Step(nil)
			read := n
			o.Step(nil)
			n = read + 1
		})
	}
	return func() error {
		if n != 2 {
			return errors.New("an addition is lost")
		}
		return nil
	}
}

func TestLostAdditionIsFound(t *testing.T) {
	orders, err := Orders(All, counters)
	if err == nil || !strings.Contains(err.Error(), "lost, in the order a") {
		t.Fatalf("after %d orders: %v", orders, err)
	}
	// Without an interruption nothing is lost: a, then b, or the other way round.
	if orders, err := Orders(0, counters); err != nil || orders != 2 {
		t.Fatalf("%d orders: %v", orders, err)
	}
}

// TestAllOrdersAreTried counts those of two goroutines with two steps and an end: 6 over 3.
func TestAllOrdersAreTried(t *testing.T) {
	seen := map[string]bool{}
	orders, err := Orders(All, func(o *Order) func() error {
		counters(o)
		return func() error { seen[o.String()] = true; return nil }
	})
	if err != nil || orders != 20 || len(seen) != 20 {
		t.Fatalf("%d orders, %d of them different: %v", orders, len(seen), err)
	}
}

func TestDeadlockIsFound(t *testing.T) {
	_, err := Orders(All, func(o *Order) func() error {
		var held [2]bool
		take := func(i int) {
			o.Step(func() bool { return !held[i] })
			held[i] = true
		}
		both := func(first, second int) func() {
			return func() {
				take(first)
				take(second)
				held[first], held[second] = false, false
			}
		}
		o.Go("left", both(0, 1))
		o.Go("right", both(1, 0))
		return func() error { return nil }
	})
	if err == nil || !strings.Contains(err.Error(), "left, right: stuck for ever") {
		t.Fatal(err)
	}
}

func TestGoroutinesMayStartOthers(t *testing.T) {
	ran := 0
	_, err := Orders(All, func(o *Order) func() error {
		ran = 0
		o.Go("parent", func() {
			o.Go("child", func() { o.Step(nil); ran++ })
			o.Step(nil)
		})
		return func() error {
			if ran != 1 {
				return errors.New("the child did not run")
			}
			return nil
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPanicIsFound(t *testing.T) {
	_, err := Orders(All, func(o *Order) func() error {
		done := false
		o.Go("quick", func() { done = true })
		o.Go("late", func() {
			if done {
				panic("too late")
			}
		})
		return func() error { return nil }
	})
	if err == nil || !strings.Contains(err.Error(), "late panics: too late") {
		t.Fatal(err)
	}
}
