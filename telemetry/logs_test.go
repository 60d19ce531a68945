package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/test/rig"
)

func TestRecordsSayWhatTheirContextKnows(t *testing.T) {
	s := rig.StartCollector(t, nil)
	tel, out := start(t, Config{OTLPEndpoint: s.URL, SampleRatio: 1})
	ctx, span := tel.Tracer().Start(WithTimeline(t.Context(), "acme", "main"), "x")
	tel.Logger().With(slog.Int("a", 1)).InfoContext(ctx, "hello")
	span.End()
	var record map[string]any
	if err := json.Unmarshal(out.Bytes(), &record); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"msg": "hello", "a": 1.0, "tenant": "acme", "timeline": "main",
		"trace_id": span.SpanContext().TraceID().String(), "span_id": span.SpanContext().SpanID().String(),
	} {
		if record[key] != want {
			t.Errorf("%s = %v, want %v", key, record[key], want)
		}
	}
}

func TestRecordSaysItsTimelineOnce(t *testing.T) {
	tel, out := start(t, Config{LogFormat: "text"})
	tel.Logger().LogAttrs(WithTimeline(t.Context(), "acme", "main"), slog.LevelWarn, "x", slog.String("timeline", "acme/other"))
	tel.Logger().DebugContext(t.Context(), "below the level")
	if n := strings.Count(out.String(), "timeline="); n != 1 {
		t.Errorf("%s", out)
	}
	if text := scrape(t, tel.Metrics()); !strings.Contains(text, `sluice_log_records_total{level="warn"} 1`) || !strings.Contains(text, `sluice_log_records_total{level="debug"} 0`) {
		t.Errorf("%s", grep(text, "log_records"))
	}
}

// TestRepeatedFailureIsSaidOnce: a source that is down is tried every few seconds.
func TestRepeatedFailureIsSaidOnce(t *testing.T) {
	tel, out := start(t, Config{LogLevel: slog.LevelInfo})
	k, r := tel.TaskEvents(acme), tel.ReplicationEvents(acme)
	end := func(err error) {
		ctx := k.Started(t.Context(), tasks.Start{Name: manager.Receive, Attempt: 1})
		k.Ended(ctx, tasks.End{Name: manager.Receive, Outcome: tasks.Failed, Err: err})
	}
	down, refused := errors.New("connection refused"), &replication.RefusedError{Reason: replication.Behind, Text: "it is behind"}
	for range 5 {
		end(down)
	}
	end(refused)
	r.Connected(replication.Connected{})
	end(down)
	k.Ended(t.Context(), tasks.End{Name: manager.Receive, Outcome: tasks.Cancelled, Err: context.Canceled})
	got := strings.Count(out.String(), `"level":"WARN"`)
	if got != 2 || strings.Count(out.String(), `"level":"ERROR"`) != 1 {
		t.Errorf("%s", out)
	}
	text := scrape(t, tel.Metrics())
	for _, want := range []string{
		`sluice_source_connects_total{outcome="error"} 6`, `sluice_source_connects_total{outcome="refused"} 1`, `sluice_source_connects_total{outcome="connected"} 1`,
		`sluice_task_ends_total{outcome="cancelled",task="receive"} 1`, `sluice_task_ends_total{outcome="error",task="receive"} 7`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, grep(text, "source_connects"))
		}
	}
}
