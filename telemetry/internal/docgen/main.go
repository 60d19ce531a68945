// Command docgen writes docs/telemetry.md from the catalogue.
package main

import (
	"fmt"
	"os"

	"github.com/sluicewal/sluice/telemetry"
)

func main() {
	if err := os.WriteFile(os.Args[1], telemetry.Catalog().Markdown(), 0o644); err != nil {
		fmt.Fprintf(os.Stderr, "docgen: %v\n", err)
		os.Exit(1)
	}
}
