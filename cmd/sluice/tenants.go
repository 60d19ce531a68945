package main

import (
	"context"
	"fmt"

	"github.com/alecthomas/kong"

	"github.com/sluicewal/sluice/internal/api"
	"github.com/sluicewal/sluice/internal/api/client"
)

// tenantCmds are the verbs about tenants.
type tenantCmds struct {
	Create tenantCreateCmd `cmd:"" help:"Create a tenant, if it is not there."`
	List   tenantListCmd   `cmd:"" help:"List the tenants."`
	Show   tenantShowCmd   `cmd:"" help:"Show a tenant."`
	Mode   tenantModeCmd   `cmd:"" help:"Change what a tenant does on the node."`
	Delete tenantDeleteCmd `cmd:"" help:"Delete a tenant, with its timelines."`
}

// tenantCreateCmd creates a tenant.
type tenantCreateCmd struct {
	connection
	shown
	Name tenantArg `arg:"" help:"Its name, such as acme."`
}

// Run creates it.
func (c *tenantCreateCmd) Run(ctx context.Context, k *kong.Context) error {
	return c.with(func(cl *client.Client) error {
		t, err := cl.CreateTenant(ctx, c.Name.ID)
		if err != nil {
			return err
		}
		return c.print(k.Stdout, t, func(r *rows) { tenantRows(r, t) })
	})
}

// tenantListCmd lists the tenants.
type tenantListCmd struct {
	connection
	shown
}

// Run lists them.
func (c *tenantListCmd) Run(ctx context.Context, k *kong.Context) error {
	return c.with(func(cl *client.Client) error {
		all, err := cl.Tenants(ctx)
		if err != nil {
			return err
		}
		return c.print(k.Stdout, all, func(r *rows) { tenantRows(r, all...) })
	})
}

// tenantShowCmd shows a tenant.
type tenantShowCmd struct {
	connection
	shown
	Name tenantArg `arg:"" help:"Its name, such as acme."`
}

// Run shows it.
func (c *tenantShowCmd) Run(ctx context.Context, k *kong.Context) error {
	return c.with(func(cl *client.Client) error {
		t, err := cl.Tenant(ctx, c.Name.ID)
		if err != nil {
			return err
		}
		return c.print(k.Stdout, t, func(r *rows) { tenantRows(r, t) })
	})
}

// tenantModeCmd changes a tenant's mode.
type tenantModeCmd struct {
	connection
	shown
	Name    tenantArg `arg:"" help:"Its name, such as acme; for attached and secondary also of one that only object storage knows."`
	Mode    string    `arg:"" enum:"attached,secondary,detached" help:"attached (streams), secondary (keeps a warm copy of object storage) or detached (does nothing here)."`
	Force   bool      `help:"Although the source still waits for this node."`
	Timeout string    `placeholder:"DURATION" help:"How long to wait, such as 30s; the work goes on. Default: until it is done."`
}

// Run changes it.
func (c *tenantModeCmd) Run(ctx context.Context, k *kong.Context) error {
	return c.with(func(cl *client.Client) error {
		var t api.Tenant
		var done bool
		err := saying(ctx, k.Stderr, lookAtTenant(cl, c.Name.ID), func() (err error) {
			t, done, err = cl.SetTenantMode(ctx, c.Name.ID, api.Mode(c.Mode), c.Force, c.Timeout)
			return err
		})
		if err != nil {
			return err
		}
		if err := c.print(k.Stdout, t, func(r *rows) { tenantRows(r, t) }); err != nil || done {
			return err
		}
		return errGoesOn
	})
}

// deletion are the flags of the verbs that delete.
type deletion struct {
	KeepObjects bool   `help:"Keep what is in object storage."`
	Timeout     string `placeholder:"DURATION" help:"How long to wait, such as 30s; the work goes on. Default: until it is done."`
}

// errGoesOn is the end of a wait that was bounded.
var errGoesOn = fmt.Errorf("not done yet: the work goes on; the same command waits for it again")

// run deletes what is at a path, and says meanwhile what look finds out.
func (d deletion) run(ctx context.Context, k *kong.Context, cl *client.Client, path string, look func(context.Context) string) error {
	return saying(ctx, k.Stderr, look, func() error {
		done, err := cl.Delete(ctx, path, d.KeepObjects, d.Timeout)
		if err == nil && !done {
			return errGoesOn
		}
		return err
	})
}

// tenantDeleteCmd deletes a tenant.
type tenantDeleteCmd struct {
	connection
	deletion
	Name tenantArg `arg:"" help:"Its name, such as acme."`
}

// Run deletes it.
func (c *tenantDeleteCmd) Run(ctx context.Context, k *kong.Context) error {
	return c.with(func(cl *client.Client) error {
		if err := c.run(ctx, k, cl, client.TenantPath(c.Name.ID), lookAtTenant(cl, c.Name.ID)); err != nil {
			return err
		}
		fmt.Fprintf(k.Stdout, "tenant %s is deleted\n", c.Name.ID)
		return nil
	})
}

// with gives a client to work, and closes it.
func (c *connection) with(work func(*client.Client) error) error {
	cl, err := c.dial()
	if err != nil {
		return err
	}
	defer cl.Close()
	return work(cl)
}

func tenantRows(r *rows, all ...api.Tenant) {
	r.add("TENANT", "MODE", "STATE", "TIMELINES", "REASON")
	for _, t := range all {
		r.add(t.Name, t.Mode, t.State, t.Timelines, t.Reason)
	}
}
