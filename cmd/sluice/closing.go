package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluicewal/sluice/internal/api"
	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/timeline"
)

// gateHTTP is the kind of the gate that requests hold while they are answered.
const gateHTTP = "http"

// Gates implements api.Node: the stage of the shutdown that is under way, which is waited for like a gate,
// and the gates.
func (n *node) Gates() []api.ClosingGate {
	all := n.closingGates()
	if n.shutdown == nil {
		return all
	}
	if name, since, ok := n.shutdown.current(); ok {
		all = slices.Insert(all, 0, api.ClosingGate{Gate: api.GateStage, Stage: name, Since: since})
	}
	return all
}

// closingGates are the gates that are closing now, the oldest first.
func (n *node) closingGates() []api.ClosingGate {
	all := n.appendClosing([]api.ClosingGate{}, timeline.ID{}, n.requests)
	if k := n.keeper.Load(); k != nil {
		for _, g := range k.ClosingGates() {
			tenant, name, _ := strings.Cut(g.Name(), "/")
			all = n.appendClosing(all, timeline.ID{Tenant: timeline.TenantID(tenant), Name: name}, g)
		}
	}
	slices.SortFunc(all, func(a, b api.ClosingGate) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(whose(a), whose(b)))
	})
	return all
}

func (n *node) appendClosing(all []api.ClosingGate, id timeline.ID, g *gate.Gate) []api.ClosingGate {
	s := g.Stats()
	if s.ClosingSince.IsZero() || s.Closed {
		return all
	}
	return append(all, api.ClosingGate{
		Gate: g.Kind(), Tenant: string(id.Tenant), Timeline: id.Name, Since: s.ClosingSince, Holders: n.nameHolders(id, g.Holders()),
	})
}

// nameHolders tells what is known of those inside a gate: a timeline's, a tenant's, or, where the id is empty, the node's own.
func (n *node) nameHolders(id timeline.ID, holders []gate.HolderInfo) []timeline.GateHolder {
	if id == (timeline.ID{}) {
		return n.visits.Name(holders)
	}
	if k := n.keeper.Load(); k != nil {
		return k.NameHolders(id, holders)
	}
	return timeline.NameHolders(holders)
}

// admit lets a request in, until the node stops answering.
func (n *node) admit(ctx context.Context, route string) (leave func(), err error) {
	leave, err = n.visits.Enter(ctx, gate.Holder(route), "") // routes are a closed list
	if err != nil {
		return nil, api.Errorf(api.KindShuttingDown, "the node stops: %w", err)
	}
	return leave, nil
}

// insideClosing names those whom the closing gates wait for, the longest wait first.
func (n *node) insideClosing() []string {
	var names []string
	for _, g := range n.closingGates() {
		if len(g.Holders) > 0 {
			names = append(names, whose(g)+": "+holdersText(g.Holders))
		}
	}
	return names
}

// whose says what a gate, or a stage, is of.
func whose(g api.ClosingGate) string {
	switch {
	case g.Gate == api.GateStage:
		return "stage " + g.Stage
	case g.Tenant == "":
		return g.Gate
	}
	return g.Gate + " " + strings.TrimSuffix(g.Tenant+"/"+g.Timeline, "/")
}

// namedHolders is how many holders a line names; the rest is counted.
const namedHolders = 4

// holdersText names holders with what each wants, and the time that it has been inside, as "wal_download of
// 000000010000000000000007 for 127.0.0.1:40404 (12s), manager (3s)".
func holdersText(holders []timeline.GateHolder) string {
	var text strings.Builder
	for i, h := range holders[:min(namedHolders, len(holders))] {
		if i > 0 {
			text.WriteString(", ")
		}
		fmt.Fprintf(&text, "%s (%s)", h, time.Since(h.Since).Round(time.Second))
	}
	if more := len(holders) - namedHolders; more > 0 {
		fmt.Fprintf(&text, " and %d more", more)
	}
	return text.String()
}
