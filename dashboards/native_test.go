package dashboards

import (
	"context"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/sluicewal/sluice/telemetry"
)

// TestHistogramsAnswerInBothForms: whatever asks for a histogram has the same answer from a Prometheus that takes native ones, and
// stores no buckets. promtool of Debian 12 knows no native histograms in its tests, so that the engine itself is asked.
func TestHistogramsAnswerInBothForms(t *testing.T) {
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, LookbackDelta: 5 * time.Minute})
	defer func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	}()
	compared := 0
	for _, p := range expressions(t) {
		if !asksForHistogram(t, p.expr) {
			continue
		}
		classic, native := answer(t, engine, classicSeries, p.expr), answer(t, engine, nativeSeries, p.expr)
		if len(classic) == 0 {
			t.Errorf("%s: no answer from classic histograms\n%s", p.at, p.expr)
			continue
		}
		compared++
		same := func(a, b float64) bool { return math.Abs(a-b) <= 0.1*math.Abs(a) } // within a bucket, native ones interpolate otherwise
		if !maps.EqualFunc(classic, native, same) {
			t.Errorf("%s: classic %v, native %v\n%s", p.at, classic, native, p.expr)
		}
	}
	if compared < 20 {
		t.Errorf("only %d expressions ask for a histogram", compared)
	}
}

// histograms are the names that a node's histograms have, in either form.
func histograms() (names []string) {
	for _, m := range telemetry.Catalog().Metrics {
		if m.Kind == telemetry.Histogram {
			names = append(names, m.Name, m.Name+"_bucket", m.Name+"_count", m.Name+"_sum")
		}
	}
	return names
}

func asksForHistogram(t *testing.T, expr string) (asks bool) {
	t.Helper()
	e, err := parser.ParseExpr(expr)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	all := histograms()
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		s, ok := n.(*parser.VectorSelector)
		asks = asks || ok && slices.Contains(all, s.Name)
		return nil
	})
	return asks
}

// answer evaluates an expression at the end of what the series tell.
func answer(t *testing.T, engine *promql.Engine, form func(telemetry.Metric, labels.Labels) []storage.Series, expr string) map[string]float64 {
	t.Helper()
	q, err := engine.NewInstantQuery(t.Context(), histogramsIn(form), nil, expr, time.UnixMilli(lastSample))
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	defer q.Close()
	result := q.Exec(t.Context())
	vector, err := result.Vector()
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	all := map[string]float64{}
	for _, s := range vector {
		if s.H != nil || math.IsNaN(s.F) {
			t.Errorf("%s answers with %v", expr, s)
		}
		all[s.Metric.String()] = s.F
	}
	return all
}

// Twenty minutes with a sample each 15 s; at each of them another ten observations from 0.25 to 0.5.
const (
	firstSample, lastSample, sampleEvery = 0, 20 * 60_000, 15_000
	atEach                               = 10
)

// opens are values of labels whose lists are not closed.
var opens = map[string][]string{"route": {"/v1/tenants/{t}/timelines/{l}/wal/{file}"}, "method": {"GET"}, "code": {"200", "500"}}

// histogramsIn has each histogram of the catalogue, with all values of its labels.
func histogramsIn(form func(telemetry.Metric, labels.Labels) []storage.Series) storage.Queryable {
	c := telemetry.Catalog()
	var all []storage.Series
	for _, m := range c.Metrics {
		if m.Kind != telemetry.Histogram {
			continue
		}
		each := []labels.Labels{labels.FromStrings("instance", "a", "job", "sluice")}
		for _, l := range m.Labels {
			each = with(each, l, append(c.Values[m.Name][l], opens[l]...))
		}
		for _, l := range each {
			all = append(all, form(m, l)...)
		}
	}
	return &storage.MockQueryable{MockQuerier: querier{all}}
}

// with has each of some labels with each value of one more.
func with(each []labels.Labels, name string, values []string) (all []labels.Labels) {
	for _, l := range each {
		for _, value := range values {
			all = append(all, labels.NewBuilder(l).Set(name, value).Labels())
		}
	}
	return all
}

func series(l labels.Labels, name string, at func(samples float64) point) storage.Series {
	var samples []chunks.Sample
	for t := int64(firstSample); t <= lastSample; t += sampleEvery {
		p := at(float64(t/sampleEvery + 1))
		p.t = t
		samples = append(samples, p)
	}
	return storage.NewListSeries(labels.NewBuilder(l).Set(labels.MetricName, name).Labels(), samples)
}

func classicSeries(m telemetry.Metric, l labels.Labels) []storage.Series {
	counting := func(each float64) func(float64) point {
		return func(samples float64) point { return point{f: each * samples} }
	}
	all := []storage.Series{series(l, m.Name+"_count", counting(atEach)), series(l, m.Name+"_sum", counting(atEach*0.375))}
	for le, each := range map[string]float64{"0.25": 0, "0.5": atEach, "1.0": atEach, "+Inf": atEach} {
		all = append(all, series(labels.NewBuilder(l).Set("le", le).Labels(), m.Name+"_bucket", counting(each)))
	}
	return all
}

func nativeSeries(m telemetry.Metric, l labels.Labels) []storage.Series {
	return []storage.Series{series(l, m.Name, func(samples float64) point {
		n := atEach * samples
		return point{h: &histogram.FloatHistogram{
			Count: n, Sum: n * 0.375, PositiveSpans: []histogram.Span{{Offset: -1, Length: 1}}, PositiveBuckets: []float64{n},
		}}
	})}
}

// point is a sample, of a number or a histogram.
type point struct {
	t int64
	f float64
	h *histogram.FloatHistogram
}

func (p point) T() int64                      { return p.t }
func (p point) F() float64                    { return p.f }
func (p point) H() *histogram.Histogram       { return nil }
func (p point) FH() *histogram.FloatHistogram { return p.h }
func (p point) Copy() chunks.Sample {
	if p.h != nil {
		p.h = p.h.Copy()
	}
	return p
}

func (p point) Type() chunkenc.ValueType {
	if p.h != nil {
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

// querier has some series.
type querier struct{ all []storage.Series }

func (q querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	set := &found{}
	for _, s := range q.all {
		if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(s.Labels().Get(m.Name)) }) {
			set.series = append(set.series, s)
		}
	}
	slices.SortFunc(set.series, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	return set
}

func (querier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (querier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}
func (querier) Close() error { return nil }

// found are the series that a selector chose.
type found struct {
	series []storage.Series
	next   int
}

func (f *found) Next() bool                        { f.next++; return f.next <= len(f.series) }
func (f *found) At() storage.Series                { return f.series[f.next-1] }
func (f *found) Err() error                        { return nil }
func (f *found) Warnings() annotations.Annotations { return nil }
