package telemetry

import (
	"io"
	"math"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/encoding/protowire"
)

// A family writes the series of one metric of the timelines, and then of the next. The client library could
// do it, and does for all that the node has once; of ten thousand timelines its objects, its sorting and its
// checks take several times as long as all the rest of a scrape.
type family struct {
	look     *look
	form     form
	metric   Metric
	timeline *TimelineStats // whose series are added

	labels []byte // of the series that is added
	series []byte // so far
}

// writeTimelines writes the metrics of the timelines.
func (l *look) writeTimelines(w io.Writer, format expfmt.Format) error {
	f := &family{look: l, form: formOf(format)}
	for _, m := range vitalMetrics {
		if err := f.write(w, m, l.timelines); err != nil {
			return err
		}
	}
	for _, m := range detailMetrics {
		if err := f.write(w, m, l.detailed); err != nil {
			return err
		}
	}
	return nil
}

// write writes one metric; nothing, if no timeline has it.
func (f *family) write(w io.Writer, m timelineMetric, of []*TimelineStats) error {
	f.metric, f.series = metric(m.name), f.series[:0]
	for _, s := range of {
		f.timeline = s
		m.add(f, s)
	}
	if len(f.series) == 0 {
		return nil
	}
	if _, err := w.Write(f.form.head(f.metric, len(f.series))); err != nil {
		return err
	}
	_, err := w.Write(f.series)
	return err
}

// add adds a series; more are the values of its labels beside tenant and timeline, in the catalogue's order.
func (f *family) add(v float64, more ...string) {
	f.labels = f.labels[:0]
	for i, value := range more {
		f.labels = f.form.appendLabel(f.labels, f.metric.Labels[len(perTimeline())+i], value)
	}
	f.labels = f.form.appendLabel(f.labels, "tenant", string(f.timeline.ID.Tenant))
	f.labels = f.form.appendLabel(f.labels, "timeline", f.timeline.ID.Name)
	f.series = f.form.appendSeries(f.series, f.metric, f.labels, v)
}

// A form is how series are written down.
type form interface {
	// head is what stands before the series of a metric, which are so long.
	head(m Metric, series int) []byte
	appendLabel(to []byte, name, value string) []byte
	appendSeries(to []byte, m Metric, labels []byte, v float64) []byte
}

// forms are those that are answered with, the one that is preferred first.
var forms = []expfmt.Format{expfmt.FmtOpenMetrics_1_0_0, expfmt.FmtOpenMetrics_0_0_1, expfmt.FmtProtoDelim, expfmt.FmtText}

func formOf(f expfmt.Format) form {
	switch f.FormatType() {
	case expfmt.TypeProtoDelim:
		return protoForm{}
	case expfmt.TypeOpenMetrics:
		return textForm{openMetrics: true}
	default:
		return textForm{}
	}
}

// textForm is Prometheus' text format, or OpenMetrics.
type textForm struct{ openMetrics bool }

var (
	escapeLabel = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
	escapeHelp  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
)

func (t textForm) head(m Metric, _ int) []byte {
	name, help := m.Name, escapeHelp
	if t.openMetrics {
		name, help = strings.TrimSuffix(name, "_total"), escapeLabel
	}
	return []byte("# HELP " + name + " " + help.Replace(m.Help) + "\n# TYPE " + name + " " + string(m.Kind) + "\n")
}

func (textForm) appendLabel(to []byte, name, value string) []byte {
	if len(to) > 0 {
		to = append(to, ',')
	}
	to = append(append(to, name...), `="`...)
	to = append(to, escapeLabel.Replace(value)...) // most have nothing to escape, and are returned as they are
	return append(to, '"')
}

func (textForm) appendSeries(to []byte, m Metric, labels []byte, v float64) []byte {
	to = append(append(to, m.Name...), '{')
	to = append(append(to, labels...), "} "...)
	if whole := int64(v); float64(whole) == v && whole < 1<<53 && whole > -1<<53 {
		to = strconv.AppendInt(to, whole, 10) // much faster than a float
	} else {
		to = strconv.AppendFloat(to, v, 'g', -1, 64)
	}
	return append(to, '\n')
}

// protoForm is the message MetricFamily of Prometheus' metrics.proto after its length. Prometheus asks for it
// where native histograms are switched on.
type protoForm struct{}

// The fields of the messages.
const (
	familyName, familyHelp, familyType, familyMetric protowire.Number = 1, 2, 3, 4
	metricLabel, metricGauge, metricCounter          protowire.Number = 1, 2, 3
	labelName, labelValue                            protowire.Number = 1, 2
	theValue                                         protowire.Number = 1 // of a gauge and of a counter
)

func (protoForm) head(m Metric, series int) []byte {
	kind := dto.MetricType_GAUGE
	if m.Kind == Counter {
		kind = dto.MetricType_COUNTER
	}
	var fields []byte
	fields = appendString(fields, familyName, m.Name)
	fields = appendString(fields, familyHelp, m.Help)
	fields = protowire.AppendVarint(protowire.AppendTag(fields, familyType, protowire.VarintType), uint64(kind))
	return append(protowire.AppendVarint(nil, uint64(len(fields)+series)), fields...)
}

func (protoForm) appendLabel(to []byte, name, value string) []byte {
	size := protowire.SizeTag(labelName) + protowire.SizeBytes(len(name)) + protowire.SizeTag(labelValue) + protowire.SizeBytes(len(value))
	to = protowire.AppendVarint(protowire.AppendTag(to, metricLabel, protowire.BytesType), uint64(size))
	return appendString(appendString(to, labelName, name), labelValue, value)
}

func (protoForm) appendSeries(to []byte, m Metric, labels []byte, v float64) []byte {
	kind := metricGauge
	if m.Kind == Counter {
		kind = metricCounter
	}
	value := protowire.SizeTag(theValue) + protowire.SizeFixed64()
	size := len(labels) + protowire.SizeTag(kind) + protowire.SizeBytes(value)
	to = protowire.AppendVarint(protowire.AppendTag(to, familyMetric, protowire.BytesType), uint64(size))
	to = append(to, labels...)
	to = protowire.AppendVarint(protowire.AppendTag(to, kind, protowire.BytesType), uint64(value))
	return protowire.AppendFixed64(protowire.AppendTag(to, theValue, protowire.Fixed64Type), math.Float64bits(v))
}

func appendString(to []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(to, field, protowire.BytesType), s)
}
