// Package check asks a Prometheus what every panel of the dashboards asks, and lists those that get no answer. It is for
// tests and for whoever runs Sluice: a panel that is empty although all is well has a query that no node answers.
package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicewal/sluice/dashboards"
	"github.com/sluicewal/sluice/dashboards/internal/boards"
)

// Config says whom to ask for what. Only URL is required.
type Config struct {
	URL string // of Prometheus
	// Range is how far to look back; a value at any time in it is an answer. 0: 15 minutes.
	Range time.Duration
	// RateInterval is what $__rate_interval stands for, at least four times the scrape interval. 0: one minute.
	RateInterval time.Duration
	// Happened is what happened in this time, of what a panel that may be empty needs. Such a panel may then not be empty.
	Happened []string
	// Node, Tenant and Timeline are regular expressions for the variables. Empty: all.
	Node, Tenant, Timeline string
}

// A Finding is a panel, or an annotation, that has no answer.
type Finding struct {
	Dashboard, Panel string
	// Err is what Prometheus said to a query; nil: it answered each of them with nothing.
	Err error
	// Allowed: the panel's description says when it is empty, as while no gate closes, and what it needs is not among what
	// happened. An error never is.
	Allowed bool
}

// String is the finding in a line.
func (f Finding) String() string {
	if f.Err != nil {
		return fmt.Sprintf("%s: %s: %v", f.Dashboard, f.Panel, f.Err)
	}
	return fmt.Sprintf("%s: %s: no data", f.Dashboard, f.Panel)
}

// dashboard is what is read of one.
type dashboard struct {
	Title  string
	Panels []panel

	Annotations struct {
		List []struct{ Name, Expr string }
	}
}

type panel struct {
	Type, Title string
	Targets     []struct{ Expr string }
}

// Run asks for every panel and annotation. What it finds is in the order of the dashboards' files; the error is one of Prometheus
// as a whole, or of ctx.
func Run(ctx context.Context, cfg Config) ([]Finding, error) {
	files, err := fs.Glob(dashboards.Files, "*.json")
	if err != nil {
		return nil, err
	}
	c := checker{cfg: cfg.withDefaults(), now: time.Now(), needs: needs()}
	if _, err := c.ask(ctx, "vector(1)"); err != nil {
		return nil, fmt.Errorf("ask %s: %w", cfg.URL, err)
	}
	for _, file := range files {
		if err := c.dashboard(ctx, file); err != nil {
			return nil, err
		}
	}
	return c.findings, nil
}

func (c Config) withDefaults() Config {
	if c.Range == 0 {
		c.Range = 15 * time.Minute
	}
	if c.RateInterval == 0 {
		c.RateInterval = time.Minute
	}
	for _, v := range []*string{&c.Node, &c.Tenant, &c.Timeline} {
		if *v == "" {
			*v = ".*"
		}
	}
	return c
}

// What may happen; see [boards.UnderLoad].
const (
	UnderLoad       = boards.UnderLoad
	StuckStop       = boards.StuckStop
	SilentSource    = boards.SilentSource
	HandBack        = boards.HandBack
	Deletion        = boards.Deletion
	FailedOperation = boards.FailedOperation
)

// Needed are what has to happen for all panels to have data.
func Needed() []string {
	var list []string
	for _, needed := range needs() {
		if !slices.Contains(list, needed) {
			list = append(list, needed)
		}
	}
	slices.Sort(list)
	return list
}

type checker struct {
	cfg      Config
	now      time.Time
	needs    map[[2]string]string // of the panels that may be empty, by dashboard and title: what has to happen
	findings []Finding
}

func needs() map[[2]string]string {
	needs := map[[2]string]string{}
	for _, b := range boards.All() {
		for _, row := range b.Rows {
			for _, p := range row.Panels {
				if p.Empty != "" {
					needs[[2]string{b.FullTitle(), p.Title}] = p.Seen
				}
			}
		}
	}
	return needs
}

// mayBeEmpty reports whether what a panel shows did not happen.
func (c *checker) mayBeEmpty(dashboard, panel string) bool {
	needed, may := c.needs[[2]string{dashboard, panel}]
	return may && !slices.Contains(c.cfg.Happened, needed)
}

func (c *checker) dashboard(ctx context.Context, file string) error {
	text, err := fs.ReadFile(dashboards.Files, file)
	if err != nil {
		return err
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	for _, p := range d.Panels {
		if p.Type == "row" {
			continue
		}
		some, err := c.anything(ctx, p)
		if err != nil || !some {
			c.findings = append(c.findings, Finding{d.Title, p.Title, err, err == nil && c.mayBeEmpty(d.Title, p.Title)})
		}
	}
	for _, a := range d.Annotations.List { // that nothing happened is no finding
		if _, err := c.ask(ctx, a.Expr); err != nil {
			c.findings = append(c.findings, Finding{d.Title, "annotation " + a.Name, err, false})
		}
	}
	return ctx.Err()
}

// anything reports whether one of a panel's queries has an answer. An error in one of them is an error.
func (c *checker) anything(ctx context.Context, p panel) (some bool, err error) {
	for _, t := range p.Targets {
		found, err := c.ask(ctx, t.Expr)
		if err != nil {
			return false, err
		}
		some = some || found
	}
	return some, nil
}

// maxSteps is how many values Prometheus gives of a series, less what rounding takes.
const maxSteps = 10_000

// ask reports whether a query has a value that is a number at some time in the range.
func (c *checker) ask(ctx context.Context, expr string) (bool, error) {
	// As fine as the scrapes: what lasts for two of them is seen.
	step := max(c.cfg.RateInterval/4, c.cfg.Range/maxSteps, 250*time.Millisecond)
	query := url.Values{
		"query": {c.fill(expr)}, "step": {seconds(step.Seconds())},
		"start": {seconds(unix(c.now.Add(-c.cfg.Range)))}, "end": {seconds(unix(c.now))},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.cfg.URL, "/")+"/api/v1/query_range", strings.NewReader(query.Encode()))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	return decode(resp.Body)
}

// decode reads an answer.
func decode(r io.Reader) (bool, error) {
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Values [][2]any
			}
		}
	}
	if err := json.NewDecoder(r).Decode(&answer); err != nil {
		return false, fmt.Errorf("read the answer: %w", err)
	}
	if answer.Status != "success" {
		return false, errors.New(answer.Error)
	}
	for _, series := range answer.Data.Result {
		for _, v := range series.Values {
			if v[1] != "NaN" { // as a quantile of nothing is
				return true, nil
			}
		}
	}
	return false, nil
}

// fill puts the variables in.
func (c *checker) fill(expr string) string {
	return strings.NewReplacer(
		"$__rate_interval", strconv.FormatInt(c.cfg.RateInterval.Milliseconds(), 10)+"ms",
		"$node", c.cfg.Node, "$tenant", c.cfg.Tenant, "$timeline", c.cfg.Timeline,
	).Replace(expr)
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func seconds(s float64) string { return strconv.FormatFloat(s, 'f', 3, 64) }
