package main

import (
	"context"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/sluicewal/sluice/internal/api"
	"github.com/sluicewal/sluice/internal/api/client"
)

// gatesCmd lists the gates that are closing.
type gatesCmd struct {
	connection
	shown
}

// Run lists them, with a row for each holder; of a node that stops the stage, too.
func (c *gatesCmd) Run(ctx context.Context, k *kong.Context) error {
	return c.with(func(cl *client.Client) error {
		gates, err := cl.Gates(ctx)
		if err != nil {
			return err
		}
		return c.print(k.Stdout, gates, func(r *rows) { gateRows(r, gates) })
	})
}

func gateRows(r *rows, gates []api.ClosingGate) {
	r.add("GATE", "OF", "CLOSING FOR", "INSIDE", "FOR", "FILE", "CLIENT", "TRACE")
	for _, g := range gates {
		of := strings.TrimSuffix(g.Tenant+"/"+g.Timeline, "/")
		switch {
		case g.Gate == api.GateStage:
			r.add(g.Gate, g.Stage, since(g.Since))
		case len(g.Holders) == 0:
			r.add(g.Gate, of, since(g.Since), "nobody")
		}
		for _, h := range g.Holders {
			r.add(g.Gate, of, since(g.Since), h.Name, since(h.Since), h.File, h.Client, h.TraceID)
		}
	}
}

// readyCmd says by its exit status whether the node serves.
type readyCmd struct {
	connection
}

// Run asks.
func (c *readyCmd) Run(ctx context.Context) error {
	return c.with(func(cl *client.Client) error { return cl.Ready(ctx) })
}
