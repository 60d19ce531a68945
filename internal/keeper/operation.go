package keeper

import (
	"context"
	"fmt"

	"github.com/sluicewal/sluice/internal/timeline"
)

// operation is work on one timeline that must not run beside other such work:
// create, delete. It belongs to the node, not to the request that asked for it:
// the client may go away, and a second request for the same joins.
type operation struct {
	name string
	done chan struct{}
	err  error // written before done is closed
}

// do runs work as the only operation on id, or joins the one of the same name
// that runs already. When ctx ends first, the error says so and the work goes
// on.
func (k *Keeper) do(ctx context.Context, id timeline.ID, name string, work func(context.Context) error) error {
	for {
		op, mine, err := k.begin(id, name)
		if err != nil {
			return err
		}
		if mine {
			k.running.Go(func() { k.finish(id, op, work(k.ctx)) })
		}
		select {
		case <-op.done:
		case <-ctx.Done():
			return fmt.Errorf("%s %s goes on: %w", op.name, id, context.Cause(ctx))
		}
		if op.name == name {
			return op.err
		}
	}
}

// begin returns the operation that runs on id, or a new one of that name.
func (k *Keeper) begin(id timeline.ID, name string) (op *operation, mine bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if op := k.operations[id]; op != nil {
		return op, false, nil
	}
	if k.stopping {
		return nil, false, fmt.Errorf("%s %s: the node stops: %w", name, id, timeline.ErrShuttingDown)
	}
	op = &operation{name: name, done: make(chan struct{})}
	k.operations[id] = op
	return op, true, nil
}

func (k *Keeper) finish(id timeline.ID, op *operation, err error) {
	op.err = err
	k.mu.Lock()
	delete(k.operations, id)
	k.mu.Unlock()
	close(op.done)
}
