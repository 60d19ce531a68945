package observe

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/test/rig"
)

// jaeger keeps the spans that nodes export; nil: there is none.
type jaeger struct {
	api
	otlp string
}

// startJaeger starts one, if scripts/jaeger.sh has built it.
func startJaeger(t testing.TB) *jaeger {
	t.Helper()
	program, err := rig.Cached("jaeger-v1.76.0")
	if err != nil {
		t.Log("there is no Jaeger, and traces are not looked at: scripts/jaeger.sh builds one")
		return nil
	}
	query, otlp := rig.FreeAddress(t), rig.FreeAddress(t)
	args := []string{program, "--query.http-server.host-port=" + query, "--collector.otlp.http.host-port=" + otlp}
	for _, other := range []string{"query.grpc-server", "collector.otlp.grpc", "collector.http-server", "collector.grpc-server", "admin.http"} {
		args = append(args, "--"+other+".host-port="+rig.FreeAddress(t))
	}
	return &jaeger{api{rig.StartServer(t, query, nil, args...)}, otlp}
}

// telemetry is what a node's configuration says of it.
func (j *jaeger) telemetry() string {
	if j == nil {
		return ""
	}
	return fmt.Sprintf("telemetry: {otlp_endpoint: \"http://%s\"}\n", j.otlp)
}

// trace is one as Jaeger has it.
type trace struct {
	TraceID string `json:"traceID"`
	Spans   []span `json:"spans"`
}

type span struct {
	Name       string `json:"operationName"`
	References []struct {
		TraceID string `json:"traceID"`
	} `json:"references"`
	Tags []struct {
		Key   string `json:"key"`
		Value any    `json:"value"`
	} `json:"tags"`
}

func (s span) tag(key string) string {
	for _, t := range s.Tags {
		if t.Key == key {
			return fmt.Sprint(t.Value)
		}
	}
	return ""
}

// traces returns the newest traces that have a span of that name.
func (j *jaeger) traces(ctx context.Context, span string) ([]trace, error) {
	var answer struct {
		Data []trace `json:"data"`
	}
	query := url.Values{"service": {"sluice"}, "operation": {span}, "lookback": {"1h"}, "limit": {"20"}}
	err := j.get(ctx, "/api/traces", query, &answer)
	return answer.Data, err
}

// address is where a person, or a program, reads a trace.
func (j *jaeger) address(t trace) string { return "http://" + j.Address + "/api/traces/" + t.TraceID }

// showsWaiting waits until a trace shows, while a shutdown waits, which stages are over and who is inside, with a link to the
// trace of each. It returns where to read it.
func (j *jaeger) showsWaiting(w *world, holder string) (address string) {
	w.t.Helper()
	if j == nil {
		return "nowhere: there is no Jaeger"
	}
	var found trace
	w.await("Jaeger shows who keeps the shutdown waiting", func(ctx context.Context) bool {
		traces, err := j.traces(ctx, "gate.close.wait")
		i := slices.IndexFunc(traces, func(t trace) bool { return t.waitsFor(holder) })
		if err != nil || i < 0 {
			return false
		}
		found = traces[i]
		return true
	})
	w.await("Jaeger has the trace of whoever is inside, too", func(ctx context.Context) bool { return j.hasLinked(ctx, found, holder) })
	stages := map[string]bool{}
	for _, s := range found.Spans {
		if s.Name == "shutdown.stage" {
			stages[s.tag("stage")] = true
		}
		if s.Name == "node.shutdown" {
			w.t.Error("the shutdown's own span is there: it did not wait")
		}
	}
	if !stages["readiness"] || !stages["drain"] || stages["tenants"] {
		w.t.Errorf("the trace of the shutdown has the stages %v; readiness and drain are over", stages)
	}
	return j.address(found)
}

// hasLinked says whether a trace that a wait refers to can be read, and shows the holder, although no span of it has ended by
// itself.
func (j *jaeger) hasLinked(ctx context.Context, t trace, holder string) bool {
	for _, s := range t.Spans {
		for _, r := range s.References {
			var answer struct {
				Data []trace `json:"data"`
			}
			if s.Name != "gate.close.wait" || r.TraceID == t.TraceID || j.get(ctx, "/api/traces/"+r.TraceID, nil, &answer) != nil {
				continue
			}
			for _, linked := range answer.Data {
				if slices.ContainsFunc(linked.Spans, func(s span) bool { return s.Name == "gate.hold" && s.tag("holder") == holder }) {
					return true
				}
			}
		}
	}
	return false
}

// waitsFor says whether a span names that holder, and links to its trace.
func (t trace) waitsFor(holder string) bool {
	return slices.ContainsFunc(t.Spans, func(s span) bool {
		return s.Name == "gate.close.wait" && strings.Contains(s.tag("holders"), holder) && s.links(t.TraceID)
	})
}

// links says whether a span refers to another trace than its own.
func (s span) links(own string) bool {
	for _, r := range s.References {
		if r.TraceID != own {
			return true
		}
	}
	return false
}
