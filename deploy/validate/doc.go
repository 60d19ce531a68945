// Package validate holds what is in deploy/ against the parsers that will read it: compose's own library, BuildKit's, promtool,
// amtool, systemd-analyze, and Sluice itself. What no parser sees is tested as well: a name in one file that another one has to
// know, a port that is open to the network. Nothing is started: that needs a container engine.
//
// The tests run bin/sluice, or what SLUICE_BINARY says. Of the other programs, those that are missing are skipped, unless
// this is CI.
package validate
