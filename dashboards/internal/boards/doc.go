// Package boards is the source of the dashboards: nine functions that say which panels there are, and what turns them
// into the JSON that Grafana reads.
//
// The builder is our own. Grafana's SDK for Go has a release below 1.0, generates some hundred packages, and would let
// each panel be written in fifteen lines of options; what these dashboards have in common (variables, links, the two
// forms of a quantile) is the greater part of them, and is written down once here.
package boards
