package boards

import (
	"fmt"
	"slices"
	"strings"
)

// A Board is one dashboard.
type Board struct {
	File  string // without .json; the uid is "sluice-" and this
	Title string
	Text  string
	Rows  []Row
	// OneTimeline: it is about a single tenant and timeline, not about any number of them.
	OneTimeline bool
}

// A Row is a titled group of panels.
type Row struct {
	Title  string
	Panels []*Panel
}

// A Query is one expression of a panel.
type Query struct {
	Expr, Legend string
	Instant      bool
}

// A Panel is one of a dashboard's.
type Panel struct {
	Title, Unit, Text string
	Kind              string // Grafana's name of it
	Queries           []Query
	Alert             string // whose runbook it leads to; empty: none
	Empty             string // while what is the case the panel has no data; empty: it always has
	Seen              string // what has to happen for it to have data, where there is such a thing; see UnderLoad
	Operation         string // of the traces that it leads to; empty: none

	steps       []step
	states      []state
	perTimeline bool
	exemplars   bool
	stacked     bool
	signed      bool
	named       bool // a number shows whose it is, not how much
	columns     []string
	value       string // the header over a table's values; empty: they say nothing, and are left out
	w, h        int
}

// A step is the value from which on the panel shows a colour.
type step struct {
	value float64
	color string
}

// A state maps a value to a word.
type state struct {
	value       string
	word, color string
}

const (
	green  = "green"
	yellow = "yellow"
	orange = "orange"
	red    = "red"
	blue   = "blue"
)

// What has to happen for a panel to have data that may be empty. What test/observe lets happen, it tells dashboards/check, which
// then wants data.
const (
	UnderLoad       = "load"                    // sources commit, and WAL is uploaded
	StuckStop       = "a stop that waits"       // a node stops while a reader's disk read hangs
	SilentSource    = "a silent source"         // no node streams a timeline
	HandBack        = "WAL is handed back"      // by a node, or from object storage
	Deletion        = "a deletion that waits"   // of a timeline for which no commit waits, while a reader's disk read hangs
	FailedOperation = "an operation that fails" // a seal is taken back that is none
)

// selectors are what the short forms in braces stand for: {n} a node's series, {t} a timeline's.
var selectors = strings.NewReplacer(
	"{n}", `{instance=~"$node"}`, "{n,", `{instance=~"$node",`,
	"{t}", `{instance=~"$node",tenant=~"$tenant",timeline=~"$timeline"}`,
	"{t,", `{instance=~"$node",tenant=~"$tenant",timeline=~"$timeline",`,
	"[i]", "[$__rate_interval]",
)

// q is a query over time.
func q(expr, legend string) Query { return Query{Expr: selectors.Replace(expr), Legend: legend} }

// now is a query for the present value.
func now(expr, legend string) Query {
	return Query{Expr: selectors.Replace(expr), Legend: legend, Instant: true}
}

func newPanel(kind, title, unit, text string, w, h int, queries []Query) *Panel {
	return &Panel{Kind: kind, Title: title, Unit: unit, Text: text, Queries: queries, w: w, h: h}
}

// lines shows values over time.
func lines(title, unit, text string, queries ...Query) *Panel {
	return newPanel("timeseries", title, unit, text, 8, 8, queries)
}

// number shows one present value.
func number(title, unit, text string, queries ...Query) *Panel {
	return newPanel("stat", title, unit, text, 4, 4, queries)
}

// table shows the labels of present values; see values.
func table(title, unit, text string, query Query, columns ...string) *Panel {
	p := newPanel("table", title, unit, text, 12, 8, []Query{query})
	p.columns = columns
	return p
}

// values shows the values, too, in the last column of a table.
func (p *Panel) values(header string) *Panel { p.value = header; return p }

// timelineOf shows states over time.
func timelineOf(title, text string, queries ...Query) *Panel {
	return newPanel("state-timeline", title, "none", text, 12, 8, queries)
}

// alert names the alert that judges what the panel shows.
func (p *Panel) alert(name string) *Panel { p.Alert = name; return p }

// from colours values from v on.
func (p *Panel) from(v float64, color string) *Panel {
	p.steps = append(p.steps, step{v, color})
	return p
}

// word shows a value as a word.
func (p *Panel) word(value, word, color string) *Panel {
	p.states = append(p.states, state{value, word, color})
	return p
}

// empty says while what is the case there is no data, and in what of the run of all faults there is.
func (p *Panel) empty(while, seen string) *Panel { p.Empty, p.Seen = while, seen; return p }

// timelines says that each series is a timeline's, and leads to it.
func (p *Panel) timelines() *Panel { p.perTimeline = true; return p }

// traces leads to the traces of an operation.
func (p *Panel) traces(operation string) *Panel { p.Operation = operation; return p }

// latency shows exemplars.
func (p *Panel) latency() *Panel { p.exemplars = true; return p }

// stack shows parts of a whole.
func (p *Panel) stack() *Panel { p.stacked = true; return p }

// belowZero says that values may be negative, and matter then.
func (p *Panel) belowZero() *Panel { p.signed = true; return p }

// names shows whose the number is, instead of it.
func (p *Panel) names() *Panel { p.named = true; return p }

// tall sets the height; a graph has 8.
func (p *Panel) tall(h int) *Panel { p.h = h; return p }

// wide sets the width, of 24.
func (p *Panel) wide(w int) *Panel { p.w = w; return p }

// quantile asks for a quantile by labels (separated by commas; empty: none) in the classic or the native form: a Prometheus that takes
// native histograms stores no buckets of them. The selector is that of the series, in braces.
func quantile(of float64, metric, selector, by, legend string) Query {
	classic := by
	if by != "" {
		classic += ", "
	}
	return q(fmt.Sprintf("histogram_quantile(%[1]g, sum by (%[2]sle) (rate(%[4]s_bucket%[5]s[i])))\nor histogram_quantile(%[1]g, sum by (%[3]s) (rate(%[4]s%[5]s[i])))",
		of, classic, by, metric, selector), legend)
}

// countRate is the rate of a histogram's observations in both forms.
func countRate(metric, selector, by string) string {
	return fmt.Sprintf("(sum by (%[1]s) (rate(%[2]s_count%[3]s[i])) or sum by (%[1]s) (histogram_count(rate(%[2]s%[3]s[i]))))", by, metric, selector)
}

// sumRate is the rate of the sum of a histogram's observations in both forms.
func sumRate(metric, selector, by string) string {
	return fmt.Sprintf("(sum by (%[1]s) (rate(%[2]s_sum%[3]s[i])) or sum by (%[1]s) (histogram_sum(rate(%[2]s%[3]s[i]))))", by, metric, selector)
}

// quantiles are the usual three of a histogram, over all nodes that are chosen.
func quantiles(metric, selector string) []Query {
	list := make([]Query, 0, 3)
	for _, of := range []float64{0.5, 0.95, 0.99} {
		list = append(list, quantile(of, metric, selector, "", fmt.Sprintf("p%g", of*100)))
	}
	return list
}

// Thresholds are the values from which on the panel shows another colour than its first.
func (p *Panel) Thresholds() []float64 {
	var values []float64
	for _, s := range p.steps {
		values = append(values, s.value)
	}
	slices.Sort(values)
	return values
}

// Description is what the panel says about itself.
func (p *Panel) Description() string {
	if p.Empty == "" {
		return p.Text
	}
	return p.Text + " Empty while " + p.Empty + "."
}
