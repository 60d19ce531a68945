package keeper

import (
	"context"
	"fmt"

	"github.com/sluicewal/sluice/internal/timeline"
)

// The operations.
const (
	opCreate = "create"
	opDelete = "delete"
	opOpen   = "open" // again, what could not be opened
	opEnd    = "end"  // what was deleted elsewhere

	opAttach    = "attach"
	opSecondary = "secondary"
	opDetach    = "detach"

	// These exclude nothing.
	opSeal    = "seal"
	opUnseal  = "unseal"
	opTrim    = "trim"
	opDrain   = "drain"
	opRestore = "restore" // of what object storage knows of a timeline that holds nothing
)

// operation is work on one timeline, or on a tenant, that must not run beside
// other such work. It belongs to the node, not to the request that asked for it:
// the client may go away.
type operation struct {
	name string
	done chan struct{}
	err  error // written before done is closed
}

// do runs work as the only operation on id, which for a tenant has no name. When
// ctx ends first, the error says so and the work goes on.
//
// A second deletion joins the first. Whoever creates waits for the other, and then
// sees for itself: its source may be another.
func (k *Keeper) do(ctx context.Context, id timeline.ID, name string, work func(context.Context) error) error {
	for {
		op, mine, err := k.begin(ctx, id, name, work)
		if err != nil {
			return err
		}
		select {
		case <-op.done:
		case <-ctx.Done():
			return fmt.Errorf("%s %s goes on: %w", op.name, nameOf(id), context.Cause(ctx))
		}
		if mine || op.name == name && name == opDelete {
			return op.err
		}
	}
}

// begin returns the operation that runs on id, or begins one for whoever asked.
func (k *Keeper) begin(asked context.Context, id timeline.ID, name string, work func(context.Context) error) (op *operation, mine bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if op := k.inTheWayLocked(id, name); op != nil {
		return op, false, nil
	}
	if k.stopping {
		return nil, false, fmt.Errorf("%s %s: the node stops: %w", name, nameOf(id), timeline.ErrShuttingDown)
	}
	op = &operation{name: name, done: make(chan struct{})}
	k.operations[id] = op
	k.running.Go(func() {
		ctx, end := k.cfg.Events.operation(k.ctx, asked, id, name)
		err := work(ctx)
		end(err)
		k.finish(id, op, err)
	})
	return op, true, nil
}

// inTheWayLocked returns an operation that has to end first: another on id; and
// where a tenant goes over to another mode, any of the tenant and its timelines.
func (k *Keeper) inTheWayLocked(id timeline.ID, name string) *operation {
	if op := k.operations[id]; op != nil {
		return op
	}
	if op := k.operations[tenantKey(id.Tenant)]; op != nil && changesMode(op.name) {
		return op
	}
	if !changesMode(name) {
		return nil
	}
	for key, op := range k.operations {
		if key.Tenant == id.Tenant {
			return op
		}
	}
	return nil
}

// IsModeChange reports whether an operation of that name is a tenant's change of its mode.
func IsModeChange(name string) bool { return changesMode(name) }

func changesMode(name string) bool {
	return name == opAttach || name == opSecondary || name == opDetach
}

func (k *Keeper) finish(id timeline.ID, op *operation, err error) {
	op.err = err
	k.mu.Lock()
	delete(k.operations, id)
	k.mu.Unlock()
	close(op.done)
}

// tenantKey is the key of a tenant's own operations.
func tenantKey(id timeline.TenantID) timeline.ID { return timeline.ID{Tenant: id} }

// nameOf says what an operation is on.
func nameOf(id timeline.ID) string {
	if id.Name == "" {
		return "tenant " + string(id.Tenant)
	}
	return "timeline " + id.String()
}
