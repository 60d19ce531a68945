package telemetry

import (
	"cmp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// A sample is one value of one series. It is client_golang's constant metric with labels that were made
// before: with 10,000 timelines, making them anew takes longer than all the rest of a scrape.
type sample struct {
	desc   *prometheus.Desc
	kind   Kind
	labels []*dto.LabelPair // sorted by name
	value  float64
}

// Desc implements prometheus.Metric.
func (s *sample) Desc() *prometheus.Desc { return s.desc }

// Write implements prometheus.Metric.
func (s *sample) Write(m *dto.Metric) error {
	m.Label = s.labels
	if s.kind == Counter {
		m.Counter = &dto.Counter{Value: &s.value}
	} else {
		m.Gauge = &dto.Gauge{Value: &s.value}
	}
	return nil
}

// A labelCache has the label pairs of one timeline.
type labelCache struct {
	base []*dto.LabelPair
	more map[string][]*dto.LabelPair // by the names and values beside tenant and timeline
	used bool                        // in the scrape under way
}

func newLabelCache(tenant, timeline string) *labelCache {
	base := []*dto.LabelPair{pair("tenant", tenant), pair("timeline", timeline)}
	return &labelCache{base: base, more: map[string][]*dto.LabelPair{}}
}

func pair(name, value string) *dto.LabelPair {
	return &dto.LabelPair{Name: proto.String(name), Value: proto.String(value)}
}

// with returns the pairs of the timeline and one more.
func (c *labelCache) with(name, value string) []*dto.LabelPair {
	key := name + "=" + value
	if pairs, ok := c.more[key]; ok {
		return pairs
	}
	pairs := sortPairs(append(slices.Clone(c.base), pair(name, value)))
	c.more[key] = pairs
	return pairs
}

func sortPairs(pairs []*dto.LabelPair) []*dto.LabelPair {
	slices.SortFunc(pairs, func(a, b *dto.LabelPair) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return pairs
}

// labelPairs makes the sorted pairs of a metric's labels.
func labelPairs(names, values []string) []*dto.LabelPair {
	pairs := make([]*dto.LabelPair, len(names))
	for i := range names {
		pairs[i] = pair(names[i], values[i])
	}
	return sortPairs(pairs)
}
