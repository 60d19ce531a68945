package timeline

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"sync"

	"github.com/sluicewal/sluice/internal/gate"
)

// clientKey is the key of a context's value: the address that its request came from.
type clientKey struct{}

// WithClient returns the context of a request from an address, by which those inside a gate are told apart.
func WithClient(ctx context.Context, addr string) context.Context {
	return context.WithValue(ctx, clientKey{}, addr)
}

// ClientOf returns the address that a context's request came from; empty: it is nobody's.
func ClientOf(ctx context.Context) string {
	addr, _ := ctx.Value(clientKey{}).(string)
	return addr
}

// A visit is what somebody is inside a gate for: who asked, and for which file. It is for people, in status, spans and log records,
// and never a metric's label, as there are many.
type visit struct {
	holder       gate.Holder
	trace        gate.Trace // what the gate has of it, too; zero: it is not traced
	client, file string
}

// Visits are those inside one gate of whom more is known than their kind: one for each of their passes, which goes with it. The
// gate knows nothing of them: it is on the byte path, where nobody has anything to say.
type Visits struct {
	gate  *gate.Gate
	trace func(context.Context) gate.Trace // of the gate; nil: nobody is traced

	mu  sync.Mutex
	all []*visit // in the order in which they came; guarded by mu
}

// NewVisits knows of nobody yet; g was made with cfg.
func NewVisits(g *gate.Gate, cfg gate.Config) *Visits {
	v := &Visits{gate: g}
	if cfg.Hooks != nil {
		v.trace = cfg.Hooks.Trace
	}
	return v
}

// Enter lets a holder in that wants a file, or nothing that has a name; the error is the gate's. It is known from before it is inside until after it has left, so that nobody inside is
// unknown.
func (v *Visits) Enter(ctx context.Context, h gate.Holder, file string) (leave func(), err error) {
	one := &visit{holder: h, client: ClientOf(ctx), file: file}
	if v.trace != nil {
		one.trace = v.trace(ctx)
	}
	v.add(one)
	pass, err := v.gate.Enter(ctx, h)
	if err != nil {
		v.remove(one)
		return nil, err
	}
	return func() { pass.Leave(); v.remove(one) }, nil
}

func (v *Visits) add(one *visit) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all = append(v.all, one)
}

func (v *Visits) remove(one *visit) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if i := slices.Index(v.all, one); i >= 0 {
		v.all = slices.Delete(v.all, i, i+1)
	}
}

func (v *Visits) list() []*visit {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.all)
}

// Close closes the gate. Where somebody kept it from that, the error says for whom and for which file they are inside.
func (v *Visits) Close(ctx context.Context) error {
	err := v.gate.Close(ctx)
	if ce := new(gate.CloseError); errors.As(err, &ce) {
		for _, h := range v.Name(ce.Holders) {
			ce.Known = append(ce.Known, h.String())
		}
	}
	return err
}

// Name tells of each holder what is known of it. A traced one is found by its span. The others are told apart by nothing but the
// order in which they came, which both lists have.
func (v *Visits) Name(holders []gate.HolderInfo) []GateHolder {
	named, unnamed := NameHolders(holders), v.list()
	for i, h := range holders {
		at := slices.IndexFunc(unnamed, func(one *visit) bool { return one.holder == h.Name && one.trace == h.Trace })
		if at < 0 {
			continue
		}
		named[i].Client, named[i].File = unnamed[at].client, unnamed[at].file
		unnamed = slices.Delete(unnamed, at, at+1)
	}
	return named
}

// NameHolders tells what a gate itself knows of those inside.
func NameHolders(holders []gate.HolderInfo) []GateHolder {
	named := make([]GateHolder, len(holders)) // not nil: in JSON, nobody is an empty list
	for i, h := range holders {
		named[i] = GateHolder{Name: string(h.Name), Since: h.Since}
		if h.TraceID != [16]byte{} {
			named[i].TraceID = hex.EncodeToString(h.TraceID[:])
		}
	}
	return named
}
