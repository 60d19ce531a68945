package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/sluicewal/sluice/internal/api"
	"github.com/sluicewal/sluice/internal/api/client"
	"github.com/sluicewal/sluice/internal/keeper"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
)

// timelineCmds are the verbs about timelines.
type timelineCmds struct {
	Create timelineCreateCmd `cmd:"" help:"Create a timeline that streams from a source."`
	List   timelineListCmd   `cmd:"" help:"List timelines."`
	Show   timelineShowCmd   `cmd:"" help:"Show a timeline, and the line for synchronous_standby_names."`
	Set    timelineSetCmd    `cmd:"" help:"Set the source of a timeline: the end of a failover."`
	Check  timelineCheckCmd  `cmd:"" help:"Does the source really wait for this node, and what can be restored?"`
	Delete timelineDeleteCmd `cmd:"" help:"Delete a timeline."`
	Seal   timelineSealCmd   `cmd:"" help:"Never again acknowledge this TLI, and decide its end: the begin of a failover."`
	Unseal timelineUnsealCmd `cmd:"" help:"Take a seal back."`
	Trim   timelineTrimCmd   `cmd:"" help:"Remove old segments from object storage."`
}

// timelineName is the argument of all of them.
type timelineName struct {
	Timeline timelineArg `arg:"" help:"TENANT/TIMELINE, such as acme/main."`
}

// timelineCreateCmd creates a timeline.
type timelineCreateCmd struct {
	connection
	shown
	timelineName
	Source      string `required:"" placeholder:"CONNINFO" help:"PostgreSQL connection string of the server to stream from."`
	New         bool   `xor:"life" help:"No other node and no store has ever held this timeline."`
	Incarnation string `xor:"life" placeholder:"UUID" help:"Go on with this life of the timeline, which was deleted with --keep-objects."`
}

// Run creates it.
func (c *timelineCreateCmd) Run(ctx context.Context, k *kong.Context) error {
	return c.with(func(cl *client.Client) error {
		s, err := cl.CreateTimeline(ctx, c.Timeline.ID, api.CreateOptions{Source: c.Source, New: c.New, Incarnation: c.Incarnation})
		if err != nil {
			return hintSet(err, c.Timeline.ID)
		}
		if c.Output == "json" {
			return printJSON(k.Stdout, s)
		}
		node, err := cl.Node(ctx)
		if err != nil {
			return err
		}
		c.tell(k.Stdout, node.ID)
		return nil
	})
}

// tell says what comes next, in the order in which it has to be done.
func (c *timelineCreateCmd) tell(w io.Writer, nodeID string) {
	fmt.Fprintf(w, "timeline %s is created; whether it reaches its source: sluice timeline show %s\n", c.Timeline.ID, c.Timeline.ID)
	fmt.Fprintf(w, "Next: take a base backup of the source, with the tool that you have.\n")
	fmt.Fprintf(w, "Then: in the source's postgresql.conf, and reload: %s\n", standbyNamesLine(nodeID))
	fmt.Fprintf(w, "Then: sluice timeline check %s\n", c.Timeline.ID)
}

// hintSet says how the source of a timeline that exists is set.
func hintSet(err error, id timeline.ID) error {
	if api.KindOf(err) == api.KindExists {
		return fmt.Errorf("%w; `sluice timeline set %s --source …` sets its source", err, id)
	}
	return err
}

// timelineSetCmd sets a timeline's source.
type timelineSetCmd struct {
	connection
	shown
	timelineName
	Source         string `required:"" placeholder:"CONNINFO" help:"PostgreSQL connection string of the server to stream from."`
	AcceptDataLoss bool   `help:"Follow a source that lacks acknowledged commits."`
}

// Run sets it.
func (c *timelineSetCmd) Run(ctx context.Context, k *kong.Context) error {
	return c.with(func(cl *client.Client) error {
		s, err := cl.SetTimeline(ctx, c.Timeline.ID, api.SetOptions{Source: c.Source, AcceptDataLoss: c.AcceptDataLoss})
		if err != nil {
			return err
		}
		if c.Output == "json" {
			return printJSON(k.Stdout, s)
		}
		fmt.Fprintf(k.Stdout, "timeline %s has a new source\n", c.Timeline.ID)
		fmt.Fprintf(k.Stdout, "Next: sluice timeline check %s\n", c.Timeline.ID)
		return nil
	})
}

// timelineListCmd lists timelines.
type timelineListCmd struct {
	connection
	shown
	Tenant *tenantArg `arg:"" optional:"" help:"Only this tenant's."`
}

// Run lists them.
func (c *timelineListCmd) Run(ctx context.Context, k *kong.Context) error {
	return c.with(func(cl *client.Client) error {
		all, err := c.list(ctx, cl)
		if err != nil {
			return err
		}
		return c.print(k.Stdout, all, func(r *rows) { timelineRows(r, all...) })
	})
}

func (c *timelineListCmd) list(ctx context.Context, cl *client.Client) ([]timeline.Status, error) {
	if c.Tenant != nil {
		return cl.Timelines(ctx, c.Tenant.ID)
	}
	tenants, err := cl.Tenants(ctx)
	if err != nil {
		return nil, err
	}
	all := []timeline.Status{}
	for _, t := range tenants {
		some, err := cl.Timelines(ctx, timeline.TenantID(t.Name))
		if err != nil && api.KindOf(err) != api.KindNotFound { // deleted just now
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// timelineShowCmd shows a timeline.
type timelineShowCmd struct {
	connection
	shown
	timelineName
}

// Run shows it.
func (c *timelineShowCmd) Run(ctx context.Context, k *kong.Context) error {
	return c.with(func(cl *client.Client) error {
		s, err := cl.Timeline(ctx, c.Timeline.ID)
		if err != nil {
			return err
		}
		node, err := cl.Node(ctx)
		if err != nil {
			return err
		}
		return c.print(k.Stdout, s, func(r *rows) { timelineFields(r, s, node.ID) })
	})
}

// timelineCheckCmd checks a timeline.
type timelineCheckCmd struct {
	connection
	shown
	timelineName
}

// errCheck is a check that failed; what it found was printed.
var errCheck = exitStatus(exitFailed)

// Run checks it, and fails when the check did.
func (c *timelineCheckCmd) Run(ctx context.Context, k *kong.Context) error {
	return c.with(func(cl *client.Client) error {
		result, err := cl.Check(ctx, c.Timeline.ID)
		if err != nil {
			return err
		}
		err = c.print(k.Stdout, result, func(r *rows) {
			for _, line := range result.Lines {
				r.add(line.Result, line.Name, line.Text)
			}
		})
		if err == nil && !result.OK {
			return errCheck
		}
		return err
	})
}

// timelineDeleteCmd deletes a timeline.
type timelineDeleteCmd struct {
	connection
	deletion
	timelineName
}

// Run deletes it.
func (c *timelineDeleteCmd) Run(ctx context.Context, k *kong.Context) error {
	return c.with(func(cl *client.Client) error {
		kept, err := c.kept(ctx, cl)
		if err != nil {
			return err
		}
		c.warn(ctx, k.Stderr, cl)
		if err := c.run(ctx, k, cl, client.TimelinePath(c.Timeline.ID), lookAtTimeline(cl, c.Timeline.ID)); err != nil {
			return err
		}
		fmt.Fprintf(k.Stdout, "timeline %s is deleted\n%s", c.Timeline.ID, kept)
		return nil
	})
}

// warn says beforehand which commits wait for the node. It holds nothing up: where a source is gone for good, nobody can take the
// node out of its settings, and a deletion that goes on finds no timeline to look at any more.
func (c *timelineDeleteCmd) warn(ctx context.Context, w io.Writer, cl *client.Client) {
	s, err := cl.Timeline(ctx, c.Timeline.ID)
	if err != nil {
		return
	}
	node, err := cl.Node(ctx)
	if err != nil {
		return
	}
	if text := leftWaiting(s, node.ID); text != "" {
		fmt.Fprintf(w, "sluice: warning: %s\n", text)
	}
}

// leftWaiting says which commits of the source wait for a node that is about to leave it, as far as that is known; "" if none do.
func leftWaiting(s timeline.Status, nodeID string) string {
	q := s.Quorum
	if !slices.ContainsFunc(q.Names, func(name string) bool { return name == "*" || strings.EqualFold(name, nodeID) }) {
		return ""
	}
	known := "is"
	if !q.Synchronous {
		known = "was, when it was last read,"
	}
	return fmt.Sprintf("synchronous_standby_names of the source %s %q: once the timeline is deleted, commits there hang unless enough "+
		"others are connected; take %s out of it and reload", known, q.Text, pg.QuoteSyncName(nodeID))
}

// kept says how a timeline whose objects are kept comes back.
func (c *timelineDeleteCmd) kept(ctx context.Context, cl *client.Client) (string, error) {
	if !c.KeepObjects {
		return "", nil
	}
	s, err := cl.Timeline(ctx, c.Timeline.ID)
	if err != nil || s.Backup == nil {
		return "", err
	}
	return fmt.Sprintf("What object storage has is kept; to go on with it: sluice timeline create %s --incarnation %s --source …\n",
		c.Timeline.ID, s.Incarnation), nil
}

// timelineSealCmd seals a timeline, on a running node or in the data directory of one that is dead.
type timelineSealCmd struct {
	connection
	shown
	timelineName
	DataDir        string `placeholder:"DIR" help:"Seal in the data directory of a node that does not run; run it as the directory's owner."`
	AcceptDataLoss bool   `help:"Seal without the word of enough nodes."`
}

// Run seals it.
func (c *timelineSealCmd) Run(ctx context.Context, k *kong.Context) error {
	sealed, err := c.seal(ctx)
	if err != nil {
		return err
	}
	for _, w := range sealed.Warnings {
		fmt.Fprintf(k.Stderr, "sluice: warning: %s\n", w)
	}
	if c.Output == "json" {
		return printJSON(k.Stdout, sealed)
	}
	c.tell(k.Stdout, sealed)
	return nil
}

func (c *timelineSealCmd) seal(ctx context.Context) (sealed api.SealResult, err error) {
	if c.DataDir != "" {
		return sealOffline(ctx, c.DataDir, c.Timeline.ID, c.AcceptDataLoss)
	}
	err = c.with(func(cl *client.Client) error {
		sealed, err = cl.Seal(ctx, c.Timeline.ID, c.AcceptDataLoss)
		return err
	})
	return sealed, err
}

func sealOffline(ctx context.Context, dir string, id timeline.ID, acceptDataLoss bool) (api.SealResult, error) {
	node, err := keeper.NodeID(wal.OSFS{}, dir)
	if err != nil {
		return api.SealResult{}, err
	}
	res, err := timeline.SealOffline(ctx, dir, node, id, acceptDataLoss)
	if err != nil {
		return api.SealResult{}, err
	}
	sealed := api.SealResult{TLI: res.TLI, End: res.End, Nodes: []string{node}, Warnings: []string{}}
	if res.Warning != "" {
		sealed.Warnings = append(sealed.Warnings, res.Warning)
	}
	return sealed, nil
}

// tell says what is true now, and what comes next.
func (c *timelineSealCmd) tell(w io.Writer, s api.SealResult) {
	id := c.Timeline.ID
	fmt.Fprintf(w, "%s: TLI %d is sealed, its end is %s, says node %s\n", id, s.TLI, s.End, strings.Join(s.Nodes, ", "))
	fmt.Fprintf(w, "Next: restore a base backup with recovery.signal and restore_command = 'sluice wal-fetch %s %%f %%p'; it promotes at that end.\n", id)
	fmt.Fprintf(w, "Then: sluice timeline set %s --source 'CONNINFO OF THE NEW SERVER'\n", id)
}

// timelineUnsealCmd takes a seal back.
type timelineUnsealCmd struct {
	connection
	timelineName
	Force bool `help:"Although the tail was handed out: a server may have been promoted from it."`
}

// Run takes it back.
func (c *timelineUnsealCmd) Run(ctx context.Context, k *kong.Context) error {
	return c.with(func(cl *client.Client) error {
		if err := cl.Unseal(ctx, c.Timeline.ID, c.Force); err != nil {
			return err
		}
		fmt.Fprintf(k.Stdout, "timeline %s is not sealed any more\n", c.Timeline.ID)
		return nil
	})
}

// timelineTrimCmd removes segments from object storage.
type timelineTrimCmd struct {
	connection
	shown
	timelineName
	Before string `required:"" placeholder:"SEGMENT" help:"The first segment to keep: the one in which the oldest base backup that is kept began."`
}

// Run removes them.
func (c *timelineTrimCmd) Run(ctx context.Context, k *kong.Context) error {
	return c.with(func(cl *client.Client) error {
		res, err := cl.Trim(ctx, c.Timeline.ID, c.Before)
		if err != nil {
			return err
		}
		if c.Output == "json" {
			return printJSON(k.Stdout, res)
		}
		fmt.Fprintf(k.Stdout, "removed %d segments below %s, %d bytes, from object storage\n", res.Segments, res.Before, res.Bytes)
		return nil
	})
}
