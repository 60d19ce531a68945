package observe

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/sluicewal/sluice/test/rig"
)

// TestStuckShutdownIsSeenWhileItHangs: a node with three timelines stops, and a reader's disk read hangs. Prometheus and
// Alertmanager say which timeline waits, and for whom; Jaeger shows it while it waits. Then the disk answers, the node stops in
// order, and the alert ends.
func TestStuckShutdownIsSeenWhileItHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	jaeger := startJaeger(t)
	w.config = "shutdown_timeout: 5m\n" + jaeger.telemetry()
	n := w.addNode("a")
	watch := startWatchers(t, time.Second, n)
	w.addSource("main")
	for _, idle := range []string{"second", "third"} {
		_, err := n.Must(w.ctx, "timeline", "create", tenant+"/"+idle, "--source", "host=127.0.0.1 port=1 user=nobody", "--new")
		w.do(err)
	}
	w.do(w.sources["main"].Exec(w.ctx, "SELECT pg_switch_wal()"))
	segment := w.firstSegment(n, "main")
	w.do(w.switchOn(n, "main", "read-hangs", segment))
	downloaded := w.download(n, "main", segment)
	w.await("the reader's read hangs", func(ctx context.Context) bool { return w.readHangs(ctx, n, "main") })

	stopped := make(chan error, 1)
	go func() { stopped <- n.Stop(w.ctx) }()
	want := map[string]string{"alertname": "SluiceGateCloseStuck", "instance": address(n), "tenant": tenant, "timeline": "main", "holder": "wal_download"}
	w.await("the alert fires", func(ctx context.Context) bool { return slices.ContainsFunc(w.firing(ctx, watch), matches(want)) })
	w.await("Alertmanager has it", func(ctx context.Context) bool {
		active, err := watch.alertmanager.active(ctx)
		return err == nil && slices.ContainsFunc(active, matches(want))
	})
	w.do(watch.prometheus.healthy(w.ctx))
	jaeger.showsWaiting(w, "wal_download")
	select {
	case err := <-stopped:
		t.Fatalf("the node did not wait for the reader: %v", err)
	default:
	}

	w.do(w.switchOff(n, "main", "read-hangs"))
	<-downloaded
	if err := <-stopped; err != nil {
		t.Errorf("the node did not stop in order: %v\n%s", err, rig.Tail(n.LogFile(), 20))
	}
	if *observe { // it takes the minute for which the alert stays
		w.awaitFor(2*patience, "the alert ends", func(ctx context.Context) bool { return !slices.ContainsFunc(w.firing(ctx, watch), matches(want)) })
	}
}

// TestStuckShutdownIsSeenInTheTimeThatItHas: with the limit and at the pace that are the defaults, when least is left for the
// gates: object storage is gone, and the stage before takes its whole share. The process ends by itself, with a reader inside.
func TestStuckShutdownIsSeenInTheTimeThatItHas(t *testing.T) {
	if !*observe {
		t.Skip("it takes minutes: 'make observe', or -observe")
	}
	w := newWorld(t)
	w.s3 = rig.StartS3(t)
	n := w.addNode("a")
	watch := startWatchers(t, every, n)
	w.addSource("main")
	w.do(w.sources["main"].Exec(w.ctx, "SELECT pg_switch_wal()"))
	segment := w.firstSegment(n, "main")
	w.do(w.switchOn(n, "main", "read-hangs", segment))
	downloaded := w.download(n, "main", segment)
	w.await("the reader's read hangs", func(ctx context.Context) bool { return w.readHangs(ctx, n, "main") })
	w.do(w.s3.Stop())
	w.do(w.sources["main"].Exec(w.ctx, "INSERT INTO ledger (note) VALUES ('not stored')"))

	began := time.Now()
	if err := n.Stop(w.ctx); err == nil {
		t.Error("the node stopped in order, although a reader was inside")
	}
	t.Logf("the node ended after %v", time.Since(began).Round(time.Millisecond))
	<-downloaded
	want := map[string]string{"alertname": "SluiceGateCloseStuck", "instance": address(n), "tenant": tenant, "timeline": "main", "holder": "wal_download"}
	w.await("Alertmanager has the alert, although the process is gone", func(ctx context.Context) bool {
		active, err := watch.alertmanager.active(ctx)
		return err == nil && slices.ContainsFunc(active, matches(want))
	})
	w.awaitFor(2*patience, "the alert ends", func(ctx context.Context) bool { return !slices.ContainsFunc(w.firing(ctx, watch), matches(want)) })
}

// matches says of an alert whether it has each of the labels.
func matches(labels map[string]string) func(alert) bool {
	return func(a alert) bool { return a.has(labels) }
}

func (w *world) firing(ctx context.Context, watch *watchers) []alert {
	firing, err := watch.prometheus.firing(ctx)
	if err != nil {
		w.t.Log(err)
	}
	return firing
}
