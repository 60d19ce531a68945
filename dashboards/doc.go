// Package dashboards has what an operator loads beside Sluice: dashboards for Grafana, alerts and recording rules for
// Prometheus, and a runbook for each alert. They are part of the binary, which writes them out.
//
// The dashboards are generated from internal/boards; the alerts and runbooks are written by hand. Tests hold all of them
// against telemetry's catalogue: a metric, a label or a value that no node emits is found before anybody waits for it.
package dashboards

import "embed"

//go:generate go test . -run TestDashboardsAreFresh -update

// Files are the dashboards (*.json), alerts.yaml, and runbooks/*.md.
//
//go:embed *.json alerts.yaml runbooks/*.md
var Files embed.FS
