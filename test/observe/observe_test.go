package observe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/sluicewal/sluice/test/natstest"
	"github.com/sluicewal/sluice/test/rig"
)

// every is how often nodes are scraped, as the documents advise.
const every = 5 * time.Second

// story tells what happens, with the time since it began.
type story struct {
	began time.Time
	mu    sync.Mutex
}

func (s *story) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	since := time.Since(s.began)
	fmt.Fprintf(os.Stdout, "%02d:%02d  %s\n", int(since.Minutes()), int(since.Seconds())%60, fmt.Sprintf(format, args...))
}

// observed is the whole: three nodes, each with the same four timelines, load on all of them, and those who watch.
type observed struct {
	*world
	*story
	watch  *watchers
	jaeger *jaeger
	record *record
	disk   *disk
	load   *load
}

// startObserved starts it all.
func startObserved(t *testing.T) *observed {
	t.Helper()
	o := &observed{world: newWorld(t), story: &story{began: time.Now()}}
	o.jaeger = startJaeger(t)
	o.s3 = rig.StartS3(t)
	o.config = fmt.Sprintf("shutdown_timeout: 4m\nbroker: {url: %q}\n%s", natstest.Start(t, server.Options{}).URL(), o.jaeger.telemetry())
	for _, id := range []string{"a", "b", "c"} {
		o.addNode(id)
	}
	for _, timeline := range []string{"storm", "failing", "reader", "silent"} {
		o.addSource(timeline)
	}
	o.watch = startWatchers(t, every, o.nodes...)
	o.disk = startDisk(t, o.dir)
	o.record = startRecord(o.ctx, o.watch, o.disk.explains, o.say)
	t.Cleanup(o.record.end)
	// How full the disk of this machine is, is not this test's; how slow, only where it is not for others.
	o.record.explain(of("SluiceDiskNearlyFull"))
	o.load = o.startLoad()
	o.await("Prometheus has scraped the three nodes", func(ctx context.Context) bool {
		n, err := o.watch.prometheus.up(ctx)
		return err == nil && n == len(o.nodes)
	})
	o.say("three nodes keep four timelines, and commits wait for two of them")
	o.addresses()
	return o
}

// addresses tells where to look.
func (o *observed) addresses() {
	o.say("   Prometheus    http://%s%s", o.watch.prometheus.Address, o.alertsPage())
	o.say("   Alertmanager  http://%s/api/v2/alerts", o.watch.alertmanager.Address)
	if o.jaeger != nil {
		o.say("   Jaeger        http://%s/api/traces?service=sluice", o.jaeger.Address)
	}
	for _, n := range o.nodes {
		o.say("   node %s        %s", n.ID(), n.URL())
	}
}

// alertsPage is where Prometheus lists the alerts: Debian's comes with the classic pages alone.
func (o *observed) alertsPage() string {
	const classic = "/classic/alerts"
	resp, err := http.Get("http://" + o.watch.prometheus.Address + classic)
	if err != nil {
		return "/alerts"
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "/alerts"
	}
	return classic
}

// TestEachFaultFiresItsAlertAndNothingElse is 'make observe': the rules as they are shipped, at the pace at which they are
// shipped. The first fault is alone, because a node stops; the others begin one after the other, and last until their alert has
// fired.
func TestEachFaultFiresItsAlertAndNothingElse(t *testing.T) {
	if !*observe {
		t.Skip("it takes a quarter of an hour: 'make observe', or -observe")
	}
	o := startObserved(t)
	o.restartInTurn()
	alone, others := o.faults()
	var errs []error
	for _, f := range alone {
		errs = append(errs, o.inject(f))
	}
	var wg sync.WaitGroup
	results := make(chan error, len(others))
	for _, f := range others {
		wg.Go(func() { results <- o.inject(f) })
		pause(o.ctx, 3*every)
	}
	wg.Wait()
	for range others {
		errs = append(errs, <-results)
	}
	if *only == "" {
		o.deleteWhileRead()
		o.panels(happensInFault)
	}
	o.do(o.watch.prometheus.healthy(o.ctx))
	for _, a := range o.record.unexplained() {
		errs = append(errs, fmt.Errorf("it fired, and no fault explains it: %s %v", a, a.Labels))
	}
	o.say("%d transactions were committed meanwhile", o.load.commits.Load())
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	} else {
		o.say("each fault fired its alert and no other one, and each alert ended with its fault")
	}
	o.traces()
	if *keep {
		o.leaveRunning()
	}
}

// restartInTurn is a rolling restart, with a minute for what has to settle between two nodes.
func (o *observed) restartInTurn() {
	o.say("a rolling restart, under load")
	o.restartAll(func(n *rig.Node) { o.say("   node %s is back", n.ID()); pause(o.ctx, 4*every) })
	for _, a := range o.record.unexplained() {
		o.t.Errorf("in a rolling restart it fired: %s", a)
	}
}

// traces tells where the traces of the faults are.
func (o *observed) traces() {
	if o.jaeger == nil || *only != "" {
		return
	}
	for _, name := range []string{"gate.close.wait", "shutdown.stage", "task.end"} {
		traces, err := o.jaeger.traces(o.ctx, name)
		if err != nil || len(traces) == 0 {
			o.t.Errorf("Jaeger has no trace with %s: %v", name, err)
			continue
		}
		o.say("   a trace with %-18s %s", name, o.jaeger.address(traces[0]))
	}
}

// leaveRunning waits for Ctrl-C.
func (o *observed) leaveRunning() {
	ctx, stop := signal.NotifyContext(o.ctx, os.Interrupt)
	defer stop()
	o.say("everything goes on running, until Ctrl-C:")
	o.addresses()
	<-ctx.Done()
}

// TestNothingFiresWithoutFaults: under load alone, and in a rolling restart in the middle of it.
func TestNothingFiresWithoutFaults(t *testing.T) {
	if *calm == 0 {
		t.Skip("it takes as long as -calm says: 'make observe' has a short form of it")
	}
	o := startObserved(t)
	pause(o.ctx, *calm/2)
	o.restartInTurn()
	pause(o.ctx, *calm/2)
	for _, a := range o.record.unexplained() {
		t.Errorf("it fired, and nothing was wrong: %s %v", a, a.Labels)
	}
	o.panels(happensInCalm)
	o.say("%d transactions were committed", o.load.commits.Load())
}
