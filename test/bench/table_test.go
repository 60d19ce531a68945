package bench

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// figure is one measurement.
type figure struct {
	value float64 // MB/s, or transactions per second
	usage usage
	work  float64 // GB drained, or transactions
	// How long a transaction took.
	p50, p99 time.Duration
	// What came to object storage.
	stored stored
}

// stored is what became of WAL that was brought to object storage; NaN is what
// was not measured.
type stored struct {
	rate  float64 // MB/s, until all whole segments were there
	lag   float64 // MiB, the largest that was seen
	ratio float64 // of what was stored to what was drained
}

// notStored is of a contender without object storage.
var notStored = stored{rate: math.NaN(), lag: math.NaN(), ratio: math.NaN()}

// results are the figures of all rounds; those of one round have the same index.
type results struct {
	names   []string
	figures map[string][]figure
}

// column is one column of a table.
type column struct {
	title  string
	format string
	of     func(figure) float64
}

// Columns of both kinds of table.
var (
	peak = column{"peak MiB", "%.0f", func(f figure) float64 {
		if f.usage.rss == 0 { // there was no process
			return math.NaN()
		}
		return float64(f.usage.rss) / (1 << 20)
	}}
	drainCPU = column{"CPU s/GB", "%.2f", func(f figure) float64 { return f.usage.cpu.Seconds() / f.work }}
	p50      = column{"p50 ms", "%.2f", func(f figure) float64 { return f.p50.Seconds() * 1e3 }}
	p99      = column{"p99 ms", "%.2f", func(f figure) float64 { return f.p99.Seconds() * 1e3 }}
	commits  = []column{
		p99,
		{"CPU µs a commit", "%.0f", func(f figure) float64 { return f.usage.cpu.Seconds() / f.work * 1e6 }},
		{"switches a commit", "%.2f", func(f figure) float64 { return float64(f.usage.switches) / f.work }},
		peak,
	}
	drains  = []column{drainCPU, peak}
	uploads = []column{
		{"MB/s backed up", "%.0f", func(f figure) float64 { return f.stored.rate }},
		{"largest lag, MiB", "%.0f", func(f figure) float64 { return f.stored.lag }},
		{"stored to raw", "%.3f", func(f figure) float64 { return f.stored.ratio }},
		drainCPU, peak,
	}
)

// markdown prints the medians with the extremes, and the ratio to the first
// contender's value, round by round.
func (r results) markdown(unit string, columns []column) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n| contender | %s, median (min–max) | ratio to %s |", unit, r.names[0])
	for _, c := range columns {
		fmt.Fprintf(&b, " %s |", c.title)
	}
	fmt.Fprintf(&b, "\n|---|%s\n", strings.Repeat("--:|", 2+len(columns)))
	value := func(f figure) float64 { return f.value }
	for _, name := range r.names {
		own := r.figures[name]
		fmt.Fprintf(&b, "| %s | %s | %s |", name, spread(own, "%.0f", value), r.ratio(name, value))
		for _, c := range columns {
			fmt.Fprintf(&b, " %s |", spread(own, c.format, c.of))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// ratio holds what a contender has of something against what the first has, round by
// round.
func (r results) ratio(name string, of func(figure) float64) string {
	ratios := make([]float64, 0, len(r.figures[name]))
	for i, own := range r.figures[name] {
		ratios = append(ratios, of(own)/of(r.figures[r.names[0]][i]))
	}
	return between(ratios, "%.2f")
}

func spread(figures []figure, format string, of func(figure) float64) string {
	values := make([]float64, len(figures))
	for i, f := range figures {
		values[i] = of(f)
	}
	return between(values, format)
}

// between is the median and the extremes, or nothing of what was not measured.
func between(v []float64, format string) string {
	if slices.ContainsFunc(v, math.IsNaN) {
		return ""
	}
	slices.Sort(v)
	return fmt.Sprintf(format+" ("+format+"–"+format+")", v[len(v)/2], v[0], v[len(v)-1])
}
