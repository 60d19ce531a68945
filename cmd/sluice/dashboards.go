package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/alecthomas/kong"

	"github.com/sluicewal/sluice/dashboards"
)

// dashboardsCmd writes out what is loaded beside the nodes, as it fits this version.
type dashboardsCmd struct {
	Dir string `arg:"" help:"Where to; it is made if it is not there. Files of the same names are overwritten."`
}

// Run writes them.
func (c *dashboardsCmd) Run(k *kong.Context) error {
	count := 0
	err := fs.WalkDir(dashboards.Files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(c.Dir, filepath.FromSlash(path))
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		text, err := fs.ReadFile(dashboards.Files, path)
		if err != nil {
			return err
		}
		count++
		return os.WriteFile(to, text, 0o644)
	})
	if err != nil {
		return fmt.Errorf("write the dashboards: %w", err)
	}
	fmt.Fprintf(k.Stdout, "%s: %d files: dashboards (*.json), alerts.yaml, runbooks\n", c.Dir, count)
	return nil
}
