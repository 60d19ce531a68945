package telemetry

import (
	"bytes"
	"fmt"
	"strings"
)

// Markdown returns the catalogue as a document for people: docs/telemetry.md.
func (c Catalogue) Markdown() []byte {
	var b bytes.Buffer
	b.WriteString("<!-- Generated from telemetry.Catalog() by go generate ./telemetry; do not edit. -->\n\n# What a node tells\n")
	for _, tier := range []struct {
		tier        Tier
		title, text string
	}{
		{TierNode, "Metrics of the node", "Always there, at `/metrics`."},
		{TierVital, "Vital metrics of each timeline", "Of every timeline, always, at `/metrics`: alerts work with them."},
		{TierDetail, "Details of a timeline", "At `/metrics` of as many timelines as `telemetry.timeline_metrics_limit` says, the troubled ones first; at `/metrics/timelines` of all."},
	} {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n", tier.title, tier.text)
		for _, m := range c.Metrics {
			if m.Tier == tier.tier {
				fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Kind, code(m.Labels), m.Help)
			}
		}
	}
	b.WriteString("\nHistograms are classic and native at once, with exemplars where a trace was sampled. The metrics of the\nGo runtime (`go_`) and of the process (`process_`) are there, too.\n")
	b.WriteString("\n## Spans\n\nThe OpenTelemetry scope is `sluice`. What belongs to a timeline has the attributes `tenant`, `timeline` and\n`incarnation`. HTTP\nrequests have the spans of OpenTelemetry's own instrumentation, named by method and route.\n\n| span | attributes | links to | meaning |\n|---|---|---|---|\n")
	for _, s := range c.Spans {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.Name, code(s.Attributes), s.Links, s.Help)
	}
	return b.Bytes()
}

func code(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return "`" + strings.Join(words, "`, `") + "`"
}
