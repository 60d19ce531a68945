package observe

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/dashboards/check"
)

// What happens in the two runs, of what a panel needs to have data.
var (
	happensInCalm  = []string{check.UnderLoad}
	happensInFault = []string{check.UnderLoad, check.StuckStop, check.SilentSource, check.HandBack, check.Deletion, check.FailedOperation}
)

// Each panel has data in one of the runs at least, which both look after.
func TestWhateverAPanelNeedsHappensInARun(t *testing.T) {
	for _, needed := range check.Needed() {
		if !slices.Contains(happensInCalm, needed) && !slices.Contains(happensInFault, needed) {
			t.Errorf("a panel has data only with %s, which happens in no run", needed)
		}
	}
}

// panels asks Prometheus what every panel of the dashboards asks. What happened in this run has to be seen: a panel may be empty
// only if what it shows did not.
func (o *observed) panels(happened []string) {
	o.t.Helper()
	found, err := check.Run(o.ctx, check.Config{
		URL: "http://" + o.watch.prometheus.Address, Range: time.Since(o.began), RateInterval: 4 * every,
		Happened: happened,
	})
	o.do(err)
	allowed := 0
	for _, f := range found {
		if f.Allowed {
			allowed++
			continue
		}
		o.t.Errorf("a panel that should have data: %s", f)
	}
	o.say("every panel has data, but for %d whose case was not among: %s", allowed, strings.Join(happened, ", "))
}

// deleteWhileRead is what is no fault and has panels: WAL is handed back, an operation fails, and a deletion waits for a reader whose
// disk read hangs. The timeline is a new one, on one node, and no commit waits for it.
func (o *observed) deleteWhileRead() {
	const doomed = "doomed"
	n := o.nodes[0]
	o.record.explain(of("SluiceGateCloseStuck", "instance", address(n), "tenant", tenant, "timeline", doomed),
		of("SluiceRestoreUnknown", "instance", address(n))) // which the reader is told
	s := o.startSource(doomed)
	_, err := n.Must(o.ctx, "timeline", "create", tenant+"/"+doomed, "--source", s.Conninfo())
	o.do(err)
	o.do(s.Exec(o.ctx, "SELECT pg_logical_emit_message(true, 'padding', repeat('x', 3000000))"))
	segment := o.firstSegment(n, doomed)
	for range 3 {
		<-o.download(n, doomed, segment)
		pause(o.ctx, 2*every) // for a rate, and scrapes on both sides of it
	}
	if _, err := n.Must(o.ctx, "timeline", "unseal", tenant+"/"+doomed); err == nil {
		o.t.Error("a seal was taken back that is none")
	}
	o.do(o.switchOn(n, doomed, "read-hangs", segment))
	downloaded := o.download(n, doomed, segment)
	o.await("the reader's read hangs", func(ctx context.Context) bool { return o.readHangs(ctx, n, doomed) })
	o.say("acme/%s is deleted on node %s, while a reader whose disk read hangs is inside", doomed, n.ID())
	deleted := make(chan error, 1)
	go func() { _, err := n.Must(o.ctx, "timeline", "delete", tenant+"/"+doomed); deleted <- err }()
	pause(o.ctx, 4*every)
	o.do(o.switchOff(n, doomed, "read-hangs"))
	<-downloaded
	o.do(<-deleted)
	pause(o.ctx, 3*every)
}
