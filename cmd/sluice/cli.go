package main

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/alecthomas/kong"

	"github.com/sluicewal/sluice/cmd/sluice/internal/demo"
	"github.com/sluicewal/sluice/internal/api/client"
	"github.com/sluicewal/sluice/internal/timeline"
)

// cli has every verb.
type cli struct {
	Serve       serveCmd       `cmd:"" help:"Run a node."`
	Demo        demoCmd        `cmd:"" help:"Show the main job on a throw-away PostgreSQL: kill the primary, restore, count the rows."`
	Tenant      tenantCmds     `cmd:"" help:"Create, list and delete tenants."`
	Timeline    timelineCmds   `cmd:"" help:"Create, watch, seal and delete timelines."`
	WALFetch    walFetchCmd    `cmd:"" name:"wal-fetch" help:"Fetch a WAL file: a restore_command."`
	WALEnd      walEndCmd      `cmd:"" name:"wal-end" help:"Print TLI and LSN of the last record in a data directory, offline."`
	Gates       gatesCmd       `cmd:"" help:"List the gates that are closing: who is inside, since when."`
	Ready       readyCmd       `cmd:"" help:"Say whether the node serves: a health check where there is no HTTP client."`
	Diagnose    diagnoseCmd    `cmd:"" help:"Write one bundle for a report, without secrets."`
	Dashboards  dashboardsCmd  `cmd:"" help:"Write out the dashboards for Grafana, the alerts for Prometheus, and the runbooks."`
	CheckConfig checkConfigCmd `cmd:"" name:"check-config" help:"Check a configuration file."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
}

func newParser(stdout, stderr io.Writer) (*kong.Kong, error) {
	return kong.New(&cli{},
		kong.Name("sluice"),
		kong.Description("Sluice keeps PostgreSQL's write-ahead log: a synchronous standby that loses nothing and hands it back."),
		kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
	)
}

// timelineArg is a timeline as TENANT/TIMELINE.
type timelineArg struct{ timeline.ID }

// UnmarshalText parses it.
func (a *timelineArg) UnmarshalText(b []byte) (err error) {
	a.ID, err = timeline.ParseID(string(b))
	return err
}

// tenantArg is a tenant's name.
type tenantArg struct{ ID timeline.TenantID }

// UnmarshalText parses it.
func (a *tenantArg) UnmarshalText(b []byte) (err error) {
	a.ID, err = timeline.ParseTenantID(string(b))
	return err
}

// connection says which node a client verb speaks to.
type connection struct {
	Server []string `sep:"," env:"SLUICE_SERVER" default:"http://127.0.0.1:7070" placeholder:"URL" help:"Node to ask; several, separated by commas: the first that can be reached."`
	Token  string   `env:"SLUICE_TOKEN" help:"Bearer token for the node."`
}

// AfterApply refuses addresses that are none, as wrong usage.
func (c *connection) AfterApply() error {
	cl, err := c.dial()
	if err == nil {
		cl.Close()
	}
	return err
}

func (c *connection) dial() (*client.Client, error) { return client.New(c.Server, c.Token) }

// shown says how an answer is printed.
type shown struct {
	Output string `short:"o" enum:"table,json" default:"table" help:"How to print the answer: table or json."`
}

// versionCmd prints the version.
type versionCmd struct{}

// Run prints it.
func (versionCmd) Run(k *kong.Context) error {
	b := thisBuild()
	_, err := fmt.Fprintf(k.Stdout, "sluice %s (%s)\n", b.version, b.describe())
	return err
}

// build says what was built.
type build struct{ version, revision, goVersion string }

func (b build) describe() string {
	if b.revision == "" {
		return b.goVersion
	}
	return "revision " + b.revision + ", " + b.goVersion
}

// thisBuild reads what the linker and the toolchain wrote down.
func thisBuild() build {
	b := build{version: version}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.goVersion = info.GoVersion
	if b.version == "" {
		b.version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.revision = s.Value[:min(12, len(s.Value))]
		}
	}
	return b
}

// demoCmd shows the main job.
type demoCmd struct {
	Keep bool `env:"DEMO_KEEP" help:"Leave it running at the end, and print the addresses."`
}

// Run runs it.
func (c *demoCmd) Run(ctx context.Context, k *kong.Context) error {
	return demo.Run(ctx, demo.Options{Keep: c.Keep, Out: k.Stdout})
}
