package dashboards

import (
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/sluicewal/sluice/dashboards/internal/boards"
	"github.com/sluicewal/sluice/telemetry"
)

// others' metrics: of Prometheus itself, of the Go runtime and of the process.
var others = regexp.MustCompile(`^(up|ALERTS|scrape_duration_seconds|scrape_samples_scraped|(go|process)_[a-z_]+)$`)

// scraped are the labels that Prometheus adds, and those of others' metrics.
var scraped = []string{"instance", "job", "alertname", "alertstate", "severity", "quantile"}

// declared is what may be asked for.
type declared struct {
	labels map[string][]string // by metric; of a histogram also by its classic series
	values map[string]map[string][]string
	base   map[string]string // the metric that a series is of
}

func catalogue() declared {
	c := telemetry.Catalog()
	d := declared{map[string][]string{}, c.Values, map[string]string{}}
	add := func(series, metric string, labels []string) { d.labels[series], d.base[series] = labels, metric }
	for _, m := range c.Metrics {
		add(m.Name, m.Name, m.Labels)
		if m.Kind == telemetry.Histogram {
			add(m.Name+"_bucket", m.Name, append(slices.Clone(m.Labels), "le"))
			add(m.Name+"_count", m.Name, m.Labels)
			add(m.Name+"_sum", m.Name, m.Labels)
		}
	}
	return d
}

// place is an expression with where it stands.
type place struct{ at, expr string }

// expressions are all that there are; a runbook may name alerts' recording rules, too.
func expressions(t *testing.T) []place {
	t.Helper()
	var all []place
	for _, b := range boards.All() {
		for _, p := range panelsOf(b) {
			for _, q := range p.Queries {
				all = append(all, place{b.File + ".json: " + p.Title, fill(q.Expr)})
			}
		}
		for _, expr := range boards.Annotations() {
			all = append(all, place{b.File + ".json: annotation", fill(expr)})
		}
	}
	for _, r := range rules(t) {
		all = append(all, place{"alerts.yaml: " + r.Record + r.Alert, r.Expr})
	}
	for _, book := range runbooks(t) {
		for _, q := range book.queries() {
			all = append(all, place{"runbooks/" + book.name, q})
		}
	}
	return all
}

// fill puts something for Grafana's variables that parses.
func fill(expr string) string {
	return strings.NewReplacer("$__rate_interval", "1m", "$node", ".*", "$tenant", ".*", "$timeline", ".*").Replace(expr)
}

func TestNothingUndeclaredIsAskedFor(t *testing.T) {
	d := catalogue()
	for _, r := range rules(t) {
		if r.Record != "" {
			d.labels[r.Record], d.base[r.Record] = recorded(t, r.Expr), r.Record
		}
	}
	all := expressions(t)
	if len(all) < 250 {
		t.Errorf("only %d expressions were found", len(all))
	}
	for _, p := range all {
		e, err := parser.ParseExpr(p.expr)
		if err != nil {
			t.Errorf("%s: %v\n%s", p.at, err, p.expr)
			continue
		}
		for _, problem := range d.check(e) {
			t.Errorf("%s: %s", p.at, problem)
		}
	}
}

// recorded are the labels by which a recording rule aggregates.
func recorded(t *testing.T, expr string) []string {
	t.Helper()
	e, err := parser.ParseExpr(expr)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	var by []string
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if a, ok := n.(*parser.AggregateExpr); ok {
			by = append(by, a.Grouping...)
		}
		return nil
	})
	return by
}

// check lists what an expression asks for that no node emits.
func (d declared) check(e parser.Expr) (problems []string) {
	known := slices.Clone(scraped)
	var grouped []string
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			problems = append(problems, d.checkSelector(n)...)
			known = append(known, d.labels[n.Name]...)
		case *parser.AggregateExpr:
			if n.Op == parser.COUNT_VALUES {
				known = append(known, n.Param.(*parser.StringLiteral).Val)
			}
			grouped = append(grouped, n.Grouping...)
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				grouped = append(append(grouped, n.VectorMatching.MatchingLabels...), n.VectorMatching.Include...)
			}
		}
		return nil
	})
	for _, l := range grouped {
		if !slices.Contains(known, l) {
			problems = append(problems, fmt.Sprintf("no metric of it has the label %s", l))
		}
	}
	return problems
}

func (d declared) checkSelector(s *parser.VectorSelector) (problems []string) {
	if others.MatchString(s.Name) {
		return nil
	}
	have, ok := d.labels[s.Name]
	if !ok {
		return []string{s.Name + " is no metric of the catalogue"}
	}
	for _, m := range s.LabelMatchers {
		if m.Name == labels.MetricName || slices.Contains(scraped, m.Name) {
			continue
		}
		if !slices.Contains(have, m.Name) {
			problems = append(problems, fmt.Sprintf("%s has no label %s", s.Name, m.Name))
			continue
		}
		if list, closed := d.values[d.base[s.Name]][m.Name]; closed {
			problems = append(problems, checkValues(s.Name, m, list)...)
		}
	}
	return problems
}

// checkValues: each value that a matcher names, each alternative of a regular expression too, is one that there is.
func checkValues(metric string, m *labels.Matcher, list []string) (problems []string) {
	alternatives := []string{m.Value}
	if m.Type == labels.MatchRegexp || m.Type == labels.MatchNotRegexp {
		alternatives = strings.Split(m.Value, "|")
	}
	for _, a := range alternatives {
		want := labels.MustNewMatcher(labels.MatchEqual, m.Name, a)
		if m.Type == labels.MatchRegexp || m.Type == labels.MatchNotRegexp {
			want = labels.MustNewMatcher(labels.MatchRegexp, m.Name, a)
		}
		if !slices.ContainsFunc(list, want.Matches) {
			problems = append(problems, fmt.Sprintf("%s never has %s=%q, but %v", metric, m.Name, a, list))
		}
	}
	return problems
}

func TestEachMetricIsUsed(t *testing.T) {
	d := catalogue()
	unused := maps.Clone(d.labels)
	for _, p := range expressions(t) {
		if strings.HasPrefix(p.at, "runbooks/") {
			continue
		}
		e, err := parser.ParseExpr(p.expr)
		if err != nil {
			continue // another test's
		}
		parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
			if s, ok := n.(*parser.VectorSelector); ok {
				delete(unused, d.base[s.Name])
			}
			return nil
		})
	}
	for name := range unused {
		if d.base[name] == name {
			t.Errorf("%s is on no dashboard and in no alert", name)
		}
	}
}

// A quantile that knows one form of histograms only is empty for whoever has the other.
func TestQuantilesAreClassicOrNative(t *testing.T) {
	histograms := map[string]bool{}
	for _, m := range telemetry.Catalog().Metrics {
		histograms[m.Name] = m.Kind == telemetry.Histogram
	}
	found := 0
	for _, p := range expressions(t) {
		e, err := parser.ParseExpr(p.expr)
		if err != nil {
			continue // another test's
		}
		classic, native := map[string]int{}, map[string]int{}
		parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
			s, ok := n.(*parser.VectorSelector)
			if !ok {
				return nil
			}
			base := regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(s.Name, "")
			if histograms[s.Name] {
				native[s.Name]++
			} else if histograms[base] {
				classic[base]++
			}
			return nil
		})
		found += len(classic)
		if !maps.Equal(classic, native) {
			t.Errorf("%s asks for the classic form of %v, and for the native one of %v", p.at, classic, native)
		}
	}
	if found < 30 {
		t.Errorf("only %d were found", found)
	}
}

// A state in which a source does not stream, and that no alert judges and no panel shows, is one that nobody hears of.
func TestEachStateOfASourceIsJudgedAndShown(t *testing.T) {
	const metric, shown, explained = "sluice_timeline_source_state", "receive: Which timelines do not stream?", "timeline: What is its source to it?"
	judged, panel := map[string]bool{}, map[string]*boards.Panel{}
	for _, r := range rules(t) {
		for _, state := range statesAskedFor(t, metric, r.Expr) {
			judged[state] = judged[state] || r.Alert != ""
		}
	}
	for _, b := range boards.All() {
		for _, p := range panelsOf(b) {
			panel[b.File+": "+p.Title] = p
		}
	}
	inTable := statesAskedFor(t, metric, fill(panel[shown].Queries[0].Expr))
	for _, state := range catalogue().values[metric]["state"] {
		if !regexp.MustCompile(`\b` + state + `\b`).MatchString(panel[explained].Text) {
			t.Errorf("%s: the description lacks %s", explained, state)
		}
		if state == "connected" || state == "none" {
			continue // all is well
		}
		if !judged[state] {
			t.Errorf("no alert asks for the state %s", state)
		}
		if !slices.Contains(inTable, state) {
			t.Errorf("%s: %s is left out", shown, state)
		}
	}
}

// statesAskedFor are the states that an expression names.
func statesAskedFor(t *testing.T, metric, expr string) (states []string) {
	t.Helper()
	e, err := parser.ParseExpr(expr)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		s, ok := n.(*parser.VectorSelector)
		if !ok || s.Name != metric {
			return nil
		}
		for _, m := range s.LabelMatchers {
			if m.Name == "state" {
				states = append(states, strings.Split(m.Value, "|")...)
			}
		}
		return nil
	})
	return states
}

// A misspelt name or value is what these tests are for.
func TestCatalogueTestFindsMistakes(t *testing.T) {
	d := catalogue()
	for _, expr := range []string{
		`sluice_timeline_sate{state="broken"}`,
		`sluice_timeline_state{status="broken"}`,
		`sluice_timeline_state{state="broke"}`,
		`sluice_timeline_source_state{state=~"refused|mising_wal"}`,
		`sum by (node) (sluice_timelines)`,
		`sluice_timelines{state="broken"} / on (instance, tenant) sluice_timelines`,
	} {
		e, err := parser.ParseExpr(expr)
		if err != nil {
			t.Fatal(err)
		}
		if len(d.check(e)) == 0 {
			t.Errorf("nothing is wrong with %s", expr)
		}
	}
}

// runbook is one of the runbooks.
type runbook struct{ name, text string }

func runbooks(t *testing.T) []runbook {
	t.Helper()
	files, err := fs.ReadDir(Files, "runbooks")
	if err != nil {
		t.Fatal(err)
	}
	var list []runbook
	for _, f := range files {
		text, err := fs.ReadFile(Files, "runbooks/"+f.Name())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, runbook{f.Name(), string(text)})
	}
	return list
}

// blocks are the fenced blocks of a language.
func (r runbook) blocks(language string) []string {
	var list []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(r.text, -1) {
		list = append(list, strings.TrimSpace(m[1]))
	}
	return list
}

// queries are the blocks of PromQL; an empty line separates two of them.
func (r runbook) queries() []string {
	var list []string
	for _, b := range r.blocks("promql") {
		list = append(list, strings.Split(b, "\n\n")...)
	}
	return list
}
