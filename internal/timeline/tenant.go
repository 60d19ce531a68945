package timeline

import (
	"context"
	"fmt"

	"github.com/sluicewal/sluice/internal/gate"
)

// Tenant is one customer's namespace on this node: the context that its
// timelines' contexts derive from, and the gate that each of them holds for as
// long as it is open.
type Tenant struct {
	id   TenantID
	ctx  context.Context //nolint:containedctx // this type is a lifetime
	stop context.CancelCauseFunc
	gate *gate.Gate

	visits *Visits
}

// NewTenant returns a tenant whose context ends with ctx.
func NewTenant(ctx context.Context, id TenantID, cfg gate.Config) *Tenant {
	t := &Tenant{id: id, gate: gate.New(cfg)}
	t.visits = NewVisits(t.gate, cfg)
	t.ctx, t.stop = context.WithCancelCause(ctx)
	return t
}

// ID returns the tenant's name.
func (t *Tenant) ID() TenantID { return t.id }

// Context is cancelled, with a cause, when the tenant's shutdown begins. Its
// timelines were shut down before.
func (t *Tenant) Context() context.Context { return t.ctx }

// Gate is closed when the tenant's shutdown has ended.
func (t *Tenant) Gate() *gate.Gate { return t.gate }

// Enter lets a user in; the error wraps ErrShuttingDown.
func (t *Tenant) Enter(ctx context.Context, h gate.Holder) (gate.Pass, error) {
	pass, err := t.gate.Enter(ctx, h)
	if err != nil {
		return gate.Pass{}, t.refused(err)
	}
	return pass, nil
}

// EnterFor is Enter for a holder that wants a file, or nothing that has a name; see [Timeline.EnterFor].
func (t *Tenant) EnterFor(ctx context.Context, h gate.Holder, file string) (leave func(), err error) {
	leave, err = t.visits.Enter(ctx, h, file)
	if err != nil {
		return nil, t.refused(err)
	}
	return leave, nil
}

// NameHolders tells what is known of those inside the tenant's gate.
func (t *Tenant) NameHolders(holders []gate.HolderInfo) []GateHolder { return t.visits.Name(holders) }

func (t *Tenant) refused(err error) error {
	return fmt.Errorf("tenant %s: %w: %w", t.id, ErrShuttingDown, err)
}

// Shutdown cancels with cause and closes the gate; see [Timeline.Shutdown],
// which was called for each timeline before.
func (t *Tenant) Shutdown(ctx context.Context, cause error) error {
	t.stop(cause)
	if err := t.visits.Close(ctx); err != nil {
		return fmt.Errorf("shut down tenant %s: %w", t.id, err)
	}
	return nil
}
