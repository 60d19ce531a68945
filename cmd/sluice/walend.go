package main

import (
	"fmt"

	"github.com/alecthomas/kong"

	"github.com/sluicewal/sluice/internal/keeper"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
)

// walEndCmd prints how far a node that does not run holds a timeline.
type walEndCmd struct {
	DataDir  string `required:"" placeholder:"DIR" help:"Data directory of the node."`
	Timeline string `arg:"" help:"TENANT/TIMELINE, such as acme/main."`
}

// Run prints the newest TLI and the end of its last complete record: "1 0/16B3748".
func (c *walEndCmd) Run(k *kong.Context) error {
	id, err := timeline.ParseID(c.Timeline)
	if err != nil {
		return err
	}
	o, err := keeper.OpenOffline(wal.OSFS{}, c.DataDir, id)
	if err != nil {
		return err
	}
	if o.RecordEnd == 0 {
		return fmt.Errorf("timeline %s in %s holds no complete record", id, c.DataDir)
	}
	_, err = fmt.Fprintf(k.Stdout, "%d %s\n", o.Position.TLI, o.RecordEnd)
	return err
}
