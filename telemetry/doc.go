// Package telemetry is where Sluice's metrics, spans and log records are made. It alone knows their
// names, and alone uses the OpenTelemetry SDK and the Prometheus client: domain packages keep numbers and
// emit events, and know nothing of this package.
//
// What it promises:
//
//   - [Catalog] lists every metric and every span. Nothing undeclared is emitted; docs/telemetry.md is
//     generated from it.
//   - It never blocks the work, and never breaks it: a panic in the collector is a failed scrape, a
//     collector of spans that is down, slow or hanging costs spans and not a shutdown.
//   - It never loses silently: of the spans that ended, each one is counted as exported, failed or
//     dropped.
//   - Levels and totals are pulled at scrape, from snapshots that take no lock; a timeline's series
//     vanish with the timeline.
//   - No label holds an LSN, a path, an error text, an address or an id of a trace.
//
// All methods may be called at once.
package telemetry

//go:generate go test . -run TestDocumentIsFresh -update
