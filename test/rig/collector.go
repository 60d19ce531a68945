package rig

import (
	"compress/gzip"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	collectpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Collector takes spans by OTLP over HTTP, and keeps them.
type Collector struct {
	URL string

	mu       sync.Mutex
	paths    []string          // guarded by mu; of the requests
	spans    []*tracepb.Span   // guarded by mu
	resource map[string]string // guarded by mu
	text     []byte            // guarded by mu; all that was sent
}

// StartCollector starts a collector, which ends with the test; before runs before each answer, unless it is nil.
func StartCollector(t testing.TB, before func(*http.Request)) *Collector {
	t.Helper()
	c := &Collector{resource: map[string]string{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before != nil {
			before(r)
		}
		if err := c.take(r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	t.Cleanup(server.Close)
	c.URL = server.URL
	return c
}

func (c *Collector) take(r *http.Request) error {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		gz, err := gzip.NewReader(body)
		if err != nil {
			return err
		}
		body = gz
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var req collectpb.ExportTraceServiceRequest
	if err := proto.Unmarshal(b, &req); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paths, c.text = append(c.paths, r.URL.Path), append(c.text, b...)
	for _, rs := range req.ResourceSpans {
		for _, a := range rs.Resource.Attributes {
			c.resource[a.Key] = a.Value.GetStringValue()
		}
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
	return nil
}

// Spans are those that came so far.
func (c *Collector) Spans() []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Paths are those that spans were sent to.
func (c *Collector) Paths() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.paths)
}

// Resource has the texts among the attributes of whoever sent spans.
func (c *Collector) Resource() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.resource)
}

// Text is all that was sent, not compressed.
func (c *Collector) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}

// Find returns the first span of that name; nil: none came yet.
func (c *Collector) Find(name string) *tracepb.Span {
	for _, span := range c.Spans() {
		if span.Name == name {
			return span
		}
	}
	return nil
}

// Await waits until there is a span of that name.
func (c *Collector) Await(t testing.TB, name string) *tracepb.Span {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for limit := time.After(20 * time.Second); ; {
		if span := c.Find(name); span != nil {
			return span
		}
		select {
		case <-ticker.C:
		case <-limit:
			t.Fatalf("no span %s was exported", name)
		}
	}
}
