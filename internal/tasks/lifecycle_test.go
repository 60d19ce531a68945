package tasks

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"

	"github.com/sluicewal/sluice/internal/explore"
	"github.com/sluicewal/sluice/internal/gate"
)

// This file runs the protocol of a timeline's life through the interleavings of
// small cases: the gate, the tasks and the contexts are the real ones, and each
// call to them is a step (that the gate is right inside of one, its own model
// shows). What a timeline and its node do with them is written down once more
// here, without disks and networks, so that bugs can be seeded in it:
// timeline.Shutdown and the keeper's deletion take the same steps.

// node is what all goroutines of a case share.
type node struct {
	order   *explore.Order
	owner   int   // the life whose files are on the disk; 0: none
	current *life // who has the name; nil: it is free
	lives   int
	parent  context.Context // of the lives' contexts: the tenant's
	wrong   error           // the first thing that was seen to be wrong

	// What follows is right, or a bug that a test seeds instead.
	shutdown []func(*node, *life) // the steps of a deletion, in order
	use      func(*node, *life)
	spawn    func(*node, *life, func(context.Context) error) error
	listen   func(*node, *life, context.Context) context.Context // the context that a task waits on
}

// life is one incarnation of a timeline.
type life struct {
	number int
	ctx    context.Context
	cancel context.CancelCauseFunc
	gate   *gate.Gate
	tasks  *Group
}

func newNode(parent context.Context, o *explore.Order) *node {
	n := &node{
		order: o, parent: parent,
		shutdown: []func(*node, *life){(*node).cancel, (*node).closeGate, (*node).removeFiles, (*node).freeName},
		use:      (*node).request,
		spawn: func(_ *node, l *life, body func(context.Context) error) error {
			return l.tasks.Go(l.ctx, Task{Name: "receive", Run: body})
		},
		listen: func(_ *node, _ *life, ctx context.Context) context.Context { return ctx },
	}
	n.create()
	return n
}

func (n *node) fail(format string, args ...any) {
	if n.wrong == nil {
		n.wrong = fmt.Errorf(format, args...)
	}
}

// create begins another life under the name, which is free.
func (n *node) create() {
	n.lives++
	l := &life{number: n.lives, gate: gate.New(gate.Config{})}
	l.ctx, l.cancel = context.WithCancelCause(n.parent)
	l.tasks = New(l.gate, Config{})
	l.tasks.start = func(run func()) { n.order.Go("task", run) }
	n.owner, n.current = l.number, l
}

// write is what only a life may do whose files they are.
func (n *node) write(l *life) {
	n.order.Step(nil)
	if n.owner != l.number {
		n.fail("life %d writes to the files of life %d", l.number, n.owner)
	}
}

// request uses the timeline for a while, also if it was looked up long ago.
func (n *node) request(l *life) {
	n.order.Step(nil)
	pass, err := l.gate.Enter(context.Background(), "request")
	if err != nil {
		return
	}
	n.write(l)
	n.write(l)
	n.order.Step(nil)
	pass.Leave()
}

// work spawns a task that writes, waits until it is told to end, and says goodbye.
func (n *node) work(l *life) {
	n.order.Step(nil)
	err := n.spawn(n, l, func(ctx context.Context) error {
		n.write(l)
		heard := n.listen(n, l, ctx)
		n.order.Step(func() bool { return heard.Err() != nil })
		n.write(l)
		return context.Cause(heard)
	})
	if err != nil && !errors.Is(err, gate.ErrClosed) && !errors.Is(err, ErrRunning) {
		n.fail("spawn: %w", err)
	}
}

var errDeleted = errors.New("deleted")

// remove deletes a life.
func (n *node) remove(l *life) {
	for _, step := range n.shutdown {
		n.order.Step(nil)
		step(n, l)
	}
}

func (n *node) cancel(l *life) { l.cancel(errDeleted) }

// closeGate closes in two calls, as whoever runs out of time does: a close that
// waits would stop the explorer.
func (n *node) closeGate(l *life) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if l.gate.Close(ctx) == nil {
		return
	}
	n.order.Step(func() bool {
		select {
		case <-l.gate.Closed():
			return true
		default:
			return false
		}
	})
	if err := l.gate.Close(ctx); err != nil {
		n.fail("it is closed, and a close says: %w", err)
	}
}

func (n *node) removeFiles(l *life) {
	if s := l.tasks.Status(); len(s) > 0 && s[0].Running {
		n.fail("the files go while a task runs")
	}
	n.owner = 0
}

func (n *node) freeName(*life) { n.current = nil }

// recreate waits until the name is free.
func (n *node) recreate() {
	n.order.Step(func() bool { return n.current == nil })
	n.create()
	n.use(n, n.current)
}

// judge looks at the end.
func (n *node) judge() error {
	switch {
	case n.wrong != nil:
		return n.wrong
	case n.owner != n.lives || n.current == nil || n.current.number != n.lives:
		return fmt.Errorf("the name belongs to %+v, the files to life %d of %d", n.current, n.owner, n.lives)
	}
	return nil
}

// lifeCases are the small cases. change seeds a bug, or does nothing.
var lifeCases = []struct {
	name          string
	interruptions int // explore.All, or enough for every test run
	build         func(o *explore.Order, change func(*node)) func() error
}{
	{"a request, a deletion, another life", explore.All, func(o *explore.Order, change func(*node)) func() error {
		n := newNode(context.Background(), o)
		change(n)
		first := n.current
		o.Go("request", func() { n.use(n, first) })
		o.Go("delete", func() { n.remove(first) })
		o.Go("create", n.recreate)
		return n.judge
	}},
	{"a task, a deletion, another life", explore.All, func(o *explore.Order, change func(*node)) func() error {
		n := newNode(context.Background(), o)
		change(n)
		first := n.current
		o.Go("manager", func() { n.work(first) })
		o.Go("delete", func() { n.remove(first) })
		o.Go("create", n.recreate)
		return n.judge
	}},
	{"a task that panics, a deletion, another life", explore.All, func(o *explore.Order, change func(*node)) func() error {
		n := newNode(context.Background(), o)
		change(n)
		first := n.current
		o.Go("manager", func() {
			o.Step(nil)
			_ = n.spawn(n, first, func(context.Context) error { n.write(first); panic("bug") }) // refused while it shuts down
		})
		o.Go("delete", func() { n.remove(first) })
		o.Go("create", n.recreate)
		return n.judge
	}},
	{"two deletions at once", 1, func(o *explore.Order, change func(*node)) func() error {
		n := newNode(context.Background(), o)
		change(n)
		first := n.current
		o.Go("request", func() { n.use(n, first) })
		o.Go("delete", func() { n.remove(first) })
		o.Go("stop", func() { // of the process, at the same time
			o.Step(nil)
			first.cancel(errors.New("the node stops"))
			o.Step(nil)
			n.closeGate(first)
		})
		o.Go("create", n.recreate)
		return n.judge
	}},
	{"everybody", 1, func(o *explore.Order, change func(*node)) func() error {
		n := newNode(context.Background(), o)
		change(n)
		first := n.current
		o.Go("manager", func() { n.work(first); n.work(first) }) // the second finds the first, or nothing
		o.Go("request", func() { n.use(n, first) })
		o.Go("delete", func() { n.remove(first) })
		o.Go("create", n.recreate)
		return n.judge
	}},
	{"a tenant that is shut down after its timeline", explore.All, func(o *explore.Order, change func(*node)) func() error {
		tenant := gate.New(gate.Config{})
		ctx, cancel := context.WithCancel(context.Background())
		inside, err := tenant.Enter(ctx, "timeline")
		n := newNode(ctx, o)
		change(n)
		first := n.current
		o.Go("manager", func() { n.work(first) })
		o.Go("shutdown", func() {
			n.cancel(first)
			n.order.Step(nil)
			n.closeGate(first)
			n.order.Step(nil)
			inside.Leave()
			cancel()
			if err := errors.Join(err, tenant.Close(context.Background())); err != nil {
				n.fail("the tenant's gate: %w", err)
			}
		})
		return n.judge
	}},
}

// interruptions makes the larger cases larger than every test run can afford. All
// orders of all of them:
//
//	go test ./internal/tasks -run TestEveryOrderOfALife -tasks.interruptions=1000 -timeout 0 -v
var interruptions = flag.Int("tasks.interruptions", 0, "how often, at least, a goroutine is interrupted in the model of a life")

// TestEveryOrderOfALife deletes a timeline and makes it again under the same name,
// beside those who use it.
func TestEveryOrderOfALife(t *testing.T) {
	for _, c := range lifeCases {
		t.Run(c.name, func(t *testing.T) {
			orders, err := explore.Orders(max(c.interruptions, *interruptions), func(o *explore.Order) func() error {
				return c.build(o, func(*node) {})
			})
			if err != nil {
				t.Fatalf("order %d: %v", orders, err)
			}
			t.Logf("%d orders", orders)
		})
	}
}

// TestModelOfALifeFindsSeededBugs shows that the model could find what it looks
// for. Most of them somebody had.
func TestModelOfALifeFindsSeededBugs(t *testing.T) {
	steps := func(steps ...func(*node, *life)) func(*node) {
		return func(n *node) { n.shutdown = steps }
	}
	for name, change := range map[string]func(*node){
		"the files go before the gate is closed": steps((*node).cancel, (*node).removeFiles, (*node).closeGate, (*node).freeName),
		"it is cancelled after the gate":         steps((*node).closeGate, (*node).cancel, (*node).removeFiles, (*node).freeName),
		"it is never cancelled":                  steps((*node).closeGate, (*node).removeFiles, (*node).freeName),
		"it is cancelled, and nobody waits":      steps((*node).cancel, (*node).removeFiles, (*node).freeName),
		"the name is free before the gate is closed": steps((*node).cancel, (*node).freeName, (*node).closeGate,
			(*node).removeFiles),
		"a close that ran out of time counts as one": steps((*node).cancel, func(_ *node, l *life) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = l.gate.Close(ctx) // the bug
		}, (*node).removeFiles, (*node).freeName),
		"a request does not enter": func(n *node) {
			n.use = func(n *node, l *life) { n.write(l) }
		},
		"a request only looks whether it is cancelled": func(n *node) {
			n.use = func(n *node, l *life) {
				n.order.Step(nil)
				if l.ctx.Err() == nil {
					n.write(l)
				}
			}
		},
		"a request writes after it has left": func(n *node) {
			n.use = func(n *node, l *life) {
				if pass, err := l.gate.Enter(context.Background(), "request"); err == nil {
					pass.Leave()
					n.write(l)
				}
			}
		},
		"a request that is refused goes on": func(n *node) {
			n.use = func(n *node, l *life) {
				n.order.Step(nil)
				pass, _ := l.gate.Enter(context.Background(), "request")
				n.write(l)
				pass.Leave()
			}
		},
		"a task is spawned without a pass": func(n *node) {
			n.spawn = func(n *node, l *life, body func(context.Context) error) error {
				n.order.Go("task", func() { _ = body(l.ctx) })
				return nil
			}
		},
		"a task enters when it runs, not when it is spawned, and goes on if it is refused": func(n *node) {
			n.spawn = func(n *node, l *life, body func(context.Context) error) error {
				n.order.Go("task", func() {
					n.order.Step(nil)
					pass, _ := l.gate.Enter(l.ctx, "receive")
					_ = body(l.ctx)
					pass.Leave()
				})
				return nil
			}
		},
		"a task listens to its owner's parent": func(n *node) {
			n.listen = func(n *node, _ *life, _ context.Context) context.Context { return n.parent }
		},
		"a task starts a goroutine and does not wait for it": func(n *node) {
			n.spawn = func(n *node, l *life, body func(context.Context) error) error {
				return l.tasks.Go(l.ctx, Task{Name: "receive", Run: func(ctx context.Context) error {
					n.order.Go("stray", func() { _ = body(ctx) })
					return nil
				}})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range lifeCases {
				orders, err := explore.Orders(2, func(o *explore.Order) func() error { return c.build(o, change) })
				if err != nil {
					t.Logf("%s, order %d: %v", c.name, orders, err)
					return
				}
			}
			t.Fatal("not found")
		})
	}
}
