package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics serves /metrics.
func (t *Telemetry) Metrics() http.Handler { return t.scrapeHandler(t.registry) }

// TimelineMetrics serves /metrics/timelines: the series of every timeline, without a limit.
func (t *Telemetry) TimelineMetrics() http.Handler { return t.scrapeHandler(t.all) }

func (t *Telemetry) scrapeHandler(r *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{
		EnableOpenMetrics: true, // and with it exemplars
		ErrorLog:          scrapeErrors{t.errors},
		ErrorHandling:     promhttp.HTTPErrorOnError,
	})
}

// scrapeErrors reports what went wrong while a scrape was answered.
type scrapeErrors struct{ *reporter }

// Println implements promhttp.Logger.
func (s scrapeErrors) Println(v ...any) { s.report("scrape", fmt.Errorf("%s", fmt.Sprint(v...))) }

// HTTPAnswered accounts for an answered request; it is api.Events.Answered.
func (t *Telemetry) HTTPAnswered(ctx context.Context, route, method string, status int, took time.Duration) {
	if route == "" {
		route = "none"
	}
	observe(ctx, t.counts.httpDuration.WithLabelValues(route, methodLabel(method), strconv.Itoa(status)), took.Seconds())
	t.log.LogAttrs(ctx, slog.LevelDebug, "http request", slog.String("route", route), slog.String("method", method),
		slog.Int("status", status), slog.Duration("took", took))
}

// methodLabel keeps the label's values a closed list: a client may invent methods.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodPatch, http.MethodOptions:
		return method
	}
	return "other"
}

// WALAnswered counts an answer to a request for a WAL file.
func (t *Telemetry) WALAnswered(answer string) { t.counts.restoreAnswers.WithLabelValues(answer).Inc() }
