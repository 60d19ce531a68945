package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/test/rig"
)

// upload has a segment uploaded with one operation, and everything go wrong that can beside it.
func upload(ctx context.Context, b backup.Events, err error) {
	ctx = b.UploadStarted(ctx, backup.UploadStart{TLI: 3, SegNo: 7, Raw: 16 << 20})
	b.Operation(ctx, backup.Operation{Name: "put", Outcome: backup.OK, Duration: time.Second})
	b.Conflict(ctx, &backup.ConflictError{Key: "acme/main/0190/wal/x", Ours: "a", Theirs: "b"})
	b.Damaged(ctx, &backup.DamagedError{Key: "acme/main/0190/wal/y", Reason: "it is empty"})
	b.Retried(ctx, backup.Retry{TLI: 3, SegNo: 7, Attempt: 1, Err: backup.ErrCut})
	b.UploadEnded(ctx, uploaded(err))
}

// uploaded is an upload that made an object, unless it failed.
func uploaded(err error) backup.UploadEnd {
	u := backup.Upload{TLI: 3, SegNo: 7, Raw: 16 << 20, Duration: time.Second}
	if err == nil {
		u.Created, u.Stored = true, 4<<20
	}
	return backup.UploadEnd{Upload: u, Err: err}
}

func TestUploadsAreCountedByTheirEnd(t *testing.T) {
	tel, _ := start(t, Config{})
	if text := scrape(t, tel.Metrics()); strings.Contains(text, "sluice_backup_") || strings.Contains(text, "sluice_objectstore_") {
		t.Error("a node without a store has its series")
	}
	b := tel.BackupEvents()
	if text := scrape(t, tel.Metrics()); !strings.Contains(text, `sluice_backup_segments_total{outcome="conflict"} 0`) ||
		!strings.Contains(text, `sluice_objectstore_operation_duration_seconds_count{operation="list",outcome="denied"} 0`) {
		t.Error("a node with a store has no series before something happens")
	}
	end := func(ctx context.Context, e backup.UploadEnd) {
		b.UploadEnded(b.UploadStarted(ctx, backup.UploadStart{}), e)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	present, partial := uploaded(nil), uploaded(nil)
	present.Created, partial.Partial = false, true
	end(t.Context(), uploaded(nil))
	end(t.Context(), present)
	end(t.Context(), partial)
	end(stopped, uploaded(context.Canceled))
	for _, err := range []error{
		&backup.ConflictError{}, &backup.DamagedError{}, backup.ErrDenied, backup.ErrNoBucket, backup.ErrNotStored, backup.ErrCut, fs.ErrInvalid,
	} {
		end(t.Context(), uploaded(fmt.Errorf("put: %w", err)))
	}
	text := scrape(t, tel.Metrics())
	for _, outcome := range []string{"created", "present", "cancelled", "conflict", "damaged", "denied", "no_bucket", "not_stored", "cut", "error"} {
		if want := fmt.Sprintf(`sluice_backup_segments_total{outcome="%s"} 1`, outcome); !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, grep(text, "backup_segments"))
		}
	}
	for _, want := range []string{
		`sluice_backup_partials_total{outcome="created"} 1`,
		`sluice_backup_bytes_total{form="raw"} 3.3554432e+07`, `sluice_backup_bytes_total{form="stored"} 8.388608e+06`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, grep(text, "sluice_backup_"))
		}
	}
	if n := strings.Count(text, "sluice_backup_segments_total{"); n != len(uploadOutcomes) {
		t.Errorf("%d outcomes, listed are %d", n, len(uploadOutcomes))
	}
}

// TestStoreIsSeenAtWork has a real one told about.
func TestStoreIsSeenAtWork(t *testing.T) {
	tel, out := start(t, Config{})
	store, err := backup.Open(t.Context(), "file://"+t.TempDir(), backup.Config{Node: "a", Events: tel.BackupEvents()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	tel.Watch(&fakeSource{node: NodeStats{Store: &StoreStats{Stats: store.Stats()}}})
	tl := store.Timeline("acme", "main", backup.Identity{Incarnation: "0190", SystemID: 1, SegmentSize: 1 << 20, Compression: backup.Zstd})
	for _, first := range []byte{0, 0, 1} { // created, present, conflict
		_, err = tl.PutSegment(t.Context(), 1, 1, bytes.NewReader(append([]byte{first}, make([]byte, 1<<20)...)))
	}
	if conflict := new(backup.ConflictError); !errors.As(err, &conflict) {
		t.Fatal(err)
	}
	text := scrape(t, tel.Metrics())
	for _, want := range []string{
		`sluice_backup_segments_total{outcome="created"} 1`, `sluice_backup_segments_total{outcome="present"} 1`,
		`sluice_backup_segments_total{outcome="conflict"} 1`, `sluice_backup_bytes_total{form="raw"} 1.048576e+06`,
		"sluice_backup_conflicts_total 1", "sluice_objectstore_available 1", "sluice_objectstore_pending_operations 0",
		"sluice_backup_concurrency_limit 4",
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, grep(text, "backup"))
		}
	}
	if strings.Contains(text, `sluice_objectstore_operation_duration_seconds_count{operation="put",outcome="ok"} 0`) {
		t.Error("its operations are not counted")
	}
	if !strings.Contains(out.String(), "acme/main/0190/") {
		t.Errorf("no word of the conflict: %s", out)
	}
}

// TestUploadsTraceLeadsToItsTask: an upload is a trace of its own, its operations point there, and it points to the start
// of the task.
func TestUploadsTraceLeadsToItsTask(t *testing.T) {
	s := rig.StartCollector(t, nil)
	tel, _ := start(t, Config{OTLPEndpoint: s.URL, SampleRatio: 1})
	iteration, span := tel.Tracer().Start(t.Context(), "manager.iteration")
	upload(tel.TaskEvents(acme).Started(iteration, tasks.Start{Name: manager.Backup, Attempt: 1}), tel.BackupEvents(), nil)
	span.End()
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := map[string]*tracepb.Span{}
	for _, sp := range s.Spans() {
		spans[sp.Name] = sp
	}
	up, spawn := spans["backup.segment"], spans["task.spawn"]
	if up == nil || len(up.Links) != 1 || string(up.Links[0].SpanId) != string(spawn.SpanId) {
		t.Fatalf("it does not lead to the task: %v", up)
	}
	if string(up.TraceId) == string(spawn.TraceId) || len(up.ParentSpanId) != 0 {
		t.Error("it is in the trace of the task's start")
	}
	attributes := map[string]string{}
	for _, a := range up.Attributes {
		attributes[a.Key] = strings.Trim(strings.SplitN(a.Value.String(), ":", 2)[1], `"`)
	}
	want := map[string]string{
		"tenant": "acme", "timeline": "main", "tli": "3", "segment": "7", "partial": "false", "bytes": "16777216",
		"stored_bytes": "4194304", "created": "true", "outcome": "created",
	}
	if !maps.Equal(attributes, want) {
		t.Errorf("attributes: %v", attributes)
	}
	var exemplars []string
	for _, m := range families(t, tel)["sluice_objectstore_operation_duration_seconds"].Metric {
		for _, b := range m.Histogram.Bucket {
			for _, l := range b.GetExemplar().GetLabel() {
				exemplars = append(exemplars, l.GetValue())
			}
		}
	}
	if id := trace.TraceID(up.TraceId).String(); !slices.Equal(exemplars, []string{id}) {
		t.Errorf("the operations point to %v, the upload is %s", exemplars, id)
	}
}

// TestTroubledUploadsAreAlwaysTraced: at a ratio of 0, those that a person would look for.
func TestTroubledUploadsAreAlwaysTraced(t *testing.T) {
	s := rig.StartCollector(t, nil)
	tel, _ := start(t, Config{OTLPEndpoint: s.URL, SampleRatio: 0, SampleRatioSet: true})
	b := tel.BackupEvents()
	stopped, stop := context.WithCancel(t.Context())
	stop()
	slow := uploaded(nil)
	slow.Duration = time.Minute
	for _, end := range []backup.UploadEnd{uploaded(nil), slow, uploaded(backup.ErrDenied)} {
		b.UploadEnded(b.UploadStarted(t.Context(), backup.UploadStart{}), end)
	}
	b.UploadEnded(b.UploadStarted(stopped, backup.UploadStart{}), uploaded(context.Canceled))
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(s.Spans()) != 2 {
		t.Fatalf("%d spans", len(s.Spans()))
	}
	for i, failed := range []bool{false, true} {
		sp := s.Spans()[i]
		if (sp.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR) != failed || len(sp.ParentSpanId) != 0 {
			t.Errorf("span %d: %v", i, sp)
		}
	}
	if took := time.Duration(s.Spans()[0].EndTimeUnixNano - s.Spans()[0].StartTimeUnixNano); took < time.Minute {
		t.Errorf("a minute was traced as %v", took)
	}
}

// TestUploadCutByAStopIsNoFailure: it is repeatable.
func TestUploadCutByAStopIsNoFailure(t *testing.T) {
	s := rig.StartCollector(t, nil)
	tel, _ := start(t, Config{OTLPEndpoint: s.URL, SampleRatio: 1})
	b := tel.BackupEvents()
	ctx, stop := context.WithCancel(t.Context())
	upload := b.UploadStarted(ctx, backup.UploadStart{})
	stop()
	b.UploadEnded(upload, uploaded(context.Canceled))
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(s.Spans()) != 1 || s.Spans()[0].Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR {
		t.Errorf("%v", s.Spans())
	}
}

// TestStoreTroubleIsLogged, each kind at the level that says who has to act.
func TestStoreTroubleIsLogged(t *testing.T) {
	tel, out := start(t, Config{})
	k := tel.TaskEvents(acme)
	ctx := k.Started(t.Context(), tasks.Start{Name: manager.Backup, Attempt: 1})
	upload(ctx, tel.BackupEvents(), nil)
	for _, err := range []error{&backup.ConflictError{}, &backup.ClaimedError{}, backup.ErrCut} {
		k.Ended(ctx, tasks.End{Name: manager.Backup, Outcome: tasks.Failed, Err: err})
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		var r struct{ Level, Msg, Tenant, Timeline string }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.Tenant != "acme" || r.Timeline != "main" {
			t.Errorf("whose is it? %s", line)
		}
		got = append(got, r.Level+" "+r.Msg)
	}
	want := []string{
		"ERROR object storage has other bytes under this name, nothing was overwritten",
		"ERROR object is damaged, it is kept and does not count as there",
		"WARN upload was cut, and begins again",
		"WARN task failed, will be tried again", // a conflict, of which the error was said
		"ERROR task failed, will be tried again",
		"WARN task failed, will be tried again",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestErrorTypes(t *testing.T) {
	for want, err := range map[string]error{
		"refused": &replication.RefusedError{}, "missing_wal": &replication.MissingWALError{},
		"conflict": &backup.ConflictError{}, "claimed": &backup.ClaimedError{}, "denied": backup.ErrDenied, "error": errors.New("?"),
	} {
		if got := errorType(tasks.End{Outcome: tasks.Failed, Err: fmt.Errorf("x: %w", err)}); got != want {
			t.Errorf("%v is %q, want %q", err, got, want)
		}
	}
}

func TestStoreThatIsIdleOrGone(t *testing.T) {
	tel, _ := start(t, Config{})
	idle := busyTimeline(acme)
	idle.OldestUnbackedSince, *idle.BackupLagBytes, *idle.QueueSegments = time.Time{}, 0, 0
	src := &fakeSource{node: NodeStats{Store: &StoreStats{}}, timelines: []TimelineStats{idle}}
	tel.Watch(src)
	text := scrape(t, tel.Metrics())
	for _, want := range []string{
		"sluice_objectstore_available 0", "sluice_backup_queue_segments 0",
		`sluice_timeline_backup_lag_bytes{tenant="acme",timeline="main"} 0`, `sluice_timeline_backup_lag_seconds{tenant="acme",timeline="main"} 0`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	for _, absent := range []string{"sluice_objectstore_pending_seconds ", "sluice_backup_concurrency_limit "} {
		if strings.Contains(text, absent) {
			t.Errorf("%s is there", absent)
		}
	}
}

func TestBackupIsSummedOverTheTimelines(t *testing.T) {
	unknown := busyTimeline(acme)
	unknown.QueueSegments, unknown.Retained = nil, nil
	sum := newSums()
	for _, s := range []TimelineStats{busyTimeline(acme), unknown, busyTimeline(acme)} {
		sum.add(&s)
	}
	if *sum.queue != 4 || *sum.retained != (RetainedBytes{NotBackedUp: 24, Reader: 10, Configured: 6}) {
		t.Errorf("queue %d, retained %+v", *sum.queue, *sum.retained)
	}
}
