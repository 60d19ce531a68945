package telemetry

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/klauspost/compress/gzhttp"
	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// A scraper answers scrapes, in whichever of the forms that Prometheus asks for.
type scraper struct {
	tel   *Telemetry
	limit int // of timelines with detail series

	// Nil at /metrics/timelines, which says nothing of the node as a whole.
	registry *prometheus.Registry // what is counted as events come
	wakeups  *wakeupTotals
	descs    described

	mu sync.Mutex // one scrape at a time
}

// Metrics serves /metrics.
func (t *Telemetry) Metrics() http.Handler { return compressed(t.scrapes) }

// TimelineMetrics serves /metrics/timelines: the series of every timeline, without a limit.
func (t *Telemetry) TimelineMetrics() http.Handler {
	return compressed(&scraper{tel: t, limit: noLimit})
}

func (t *Telemetry) newScraper(limit int) *scraper {
	return &scraper{tel: t, limit: limit, registry: t.registry, wakeups: newWakeupTotals(), descs: describe()}
}

// compressed lets those who can have the answer compressed: fast rather than well, since the same few words
// are said of each timeline.
func compressed(h http.Handler) http.Handler {
	wrap, err := gzhttp.NewWrapper(gzhttp.CompressionLevel(gzip.BestSpeed))
	if err != nil {
		panic(err) // the options are constants
	}
	return wrap(h)
}

// ServeHTTP implements http.Handler.
func (s *scraper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	format := expfmt.NegotiateAccept(r.Header, forms...)
	l, node, err := s.collect(format)
	if err != nil {
		s.tel.errors.report("scrape", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", string(format))
	w.Header().Add("Vary", "Accept")
	s.answer(w, l, node, format)
}

// collect looks at the node, and writes down what is said of it as a whole.
func (s *scraper) collect(format expfmt.Format) (*look, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.look()
	if err != nil || s.registry == nil {
		return l, nil, err
	}
	families, err := s.gather(l)
	if err != nil {
		return nil, nil, fmt.Errorf("collect metrics: %w", err)
	}
	var node bytes.Buffer
	e := expfmt.NewEncoder(&node, format)
	for _, f := range families {
		if err := e.Encode(f); err != nil {
			return nil, nil, fmt.Errorf("write metrics: %w", err)
		}
	}
	return l, node.Bytes(), nil
}

// look returns nil while there is no node yet.
func (s *scraper) look() (*look, error) {
	src := s.tel.watched()
	if src == nil {
		return nil, nil
	}
	return lookAt(src, s.limit)
}

// gather gathers what is counted, and what the look has shown of the node.
func (s *scraper) gather(l *look) ([]*dto.MetricFamily, error) {
	if l == nil {
		return s.registry.Gather()
	}
	s.tel.keepScoped(l.timelines)
	looked := prometheus.NewRegistry()
	looked.MustRegister(&nodeCollector{look: l, descs: s.descs, wakeups: s.wakeups})
	return prometheus.Gatherers{s.registry, looked}.Gather()
}

// answer writes the whole answer, or breaks it off: a part must not pass for the whole.
func (s *scraper) answer(w io.Writer, l *look, node []byte, format expfmt.Format) {
	defer func() {
		if p := recover(); p != nil {
			s.tel.errors.report("scrape", fmt.Errorf("write metrics: panic: %v", p))
			panic(http.ErrAbortHandler)
		}
	}()
	_, err := w.Write(node)
	if err == nil && l != nil {
		err = l.writeTimelines(w, format)
	}
	if err == nil && format.FormatType() == expfmt.TypeOpenMetrics {
		_, err = expfmt.FinalizeOpenMetrics(w)
	}
	if err != nil { // whoever asked is gone
		s.tel.errors.report("scrape", fmt.Errorf("answer a scrape: %w", err))
	}
}
