package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/sluicewal/sluice/internal/config"
)

// checkConfigCmd checks a configuration file.
type checkConfigCmd struct {
	File string `arg:"" help:"The file."`
}

// Run prints what is wrong with it, a line each.
func (c *checkConfigCmd) Run(k *kong.Context) error {
	cfg, err := config.Load(c.File)
	if err != nil {
		return err
	}
	fmt.Fprintf(k.Stdout, "%s: ok\n", c.File)
	if keys := config.WithoutEffect(cfg); len(keys) > 0 {
		fmt.Fprintf(k.Stdout, "%s: without effect in this version: %s\n", c.File, strings.Join(keys, ", "))
	}
	return nil
}
