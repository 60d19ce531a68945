package dashboards

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/telemetry"
)

// sections are what each runbook has, in this order.
var sections = []string{"## Meaning", "## Impact", "## Diagnosis", "## Mitigation", "## When to wake somebody"}

func TestRunbooksHaveAllSections(t *testing.T) {
	alerts := alertsByName(t)
	for _, r := range runbooks(t) {
		alert := strings.TrimSuffix(r.name, ".md")
		if alerts[alert] == nil {
			t.Errorf("%s is of no alert", r.name)
		}
		if !strings.HasPrefix(r.text, "# "+alert+"\n") {
			t.Errorf("%s has another title", r.name)
		}
		var found []string
		for line := range strings.SplitSeq(r.text, "\n") {
			if strings.HasPrefix(line, "## ") {
				found = append(found, line)
			}
		}
		if !slices.Equal(found, sections) {
			t.Errorf("%s has the sections %v", r.name, found)
		}
		if len(r.queries()) == 0 || !strings.Contains(r.text, "\n1. ") {
			t.Errorf("%s has no query, or names no cause", r.name)
		}
	}
}

// A search for a span that is never emitted finds nothing, and looks as if nothing had happened.
func TestRunbooksSearchForSpansThatThereAre(t *testing.T) {
	spans := map[string][]string{}
	for _, s := range telemetry.Catalog().Spans {
		spans[s.Name] = append([]string{"tenant", "timeline", "error"}, s.Attributes...)
	}
	search := regexp.MustCompile("Traces: service `sluice`, operation `([a-z._]+)`(.*)")
	tag := regexp.MustCompile("`([a-z_.]+)(?:=[a-z_]+)?`")
	found := 0
	for _, r := range runbooks(t) {
		for _, m := range search.FindAllStringSubmatch(r.text, -1) {
			found++
			attributes, ok := spans[m[1]]
			if !ok {
				t.Errorf("%s searches for %s, which is no span", r.name, m[1])
			}
			tags, _, _ := strings.Cut(m[2], ".") // the rest is prose
			for _, name := range tag.FindAllStringSubmatch(tags, -1) {
				if !slices.Contains(attributes, name[1]) {
					t.Errorf("%s searches %s for %s, which it does not have", r.name, m[1], name[1])
				}
			}
		}
	}
	if found < 25 {
		t.Errorf("only %d searches were found", found)
	}
}

// A runbook that refers to another one refers to one that there is.
func TestRunbooksReferToAlertsThatThereAre(t *testing.T) {
	alerts := alertsByName(t)
	for _, r := range runbooks(t) {
		for _, name := range regexp.MustCompile(`\bSluice[A-Z]\w+`).FindAllString(r.text, -1) {
			if alerts[name] == nil {
				t.Errorf("%s refers to %s, which is no alert", r.name, name)
			}
		}
	}
}
