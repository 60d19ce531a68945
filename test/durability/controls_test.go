package durability

import (
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/sluicewal/sluice/test/rig"
)

// The controls break the promise on purpose. Each must lose rows: if it does
// not, the other tests of this package prove nothing.

// Nobody told the primary to wait: it acknowledges while the node is away.
func TestControlAsynchronousLosesRows(t *testing.T) {
	t.Parallel()
	w := newSluiceWorld(t, nil, rig.NodeOptions{Binary: program},
		rig.Allowed{Message: regexp.MustCompile(`^whether commits of the source wait`), Because: "it is told so"})
	if err := w.server.Configure(t.Context(), map[string]string{"synchronous_standby_names": ""}); err != nil {
		t.Fatal(err)
	}
	w.startLoad(plan{})
	mustDo(t,
		w.acks(100),
		w.keeper.Kill, // whatever is committed from now on, nobody else has
		w.acks(100),
		w.server.Kill,
		with(t.Context(), w.keeper.Start))
	w.mustLose(t, w.keeper, byVerb)
}

// wholeSegmentsOnly restores as a plain archive does: it copies finished
// segments and knows no open one.
type wholeSegmentsOnly struct{ sluice }

func (k wholeSegmentsOnly) RestoreCommand(sealing) string {
	return "cp " + filepath.Join(k.WALDir(), "%f") + " %p"
}

func TestControlRestoreWithoutTheTailLosesRows(t *testing.T) {
	t.Parallel()
	w := newSluiceWorld(t, nil, rig.NodeOptions{Binary: program})
	w.startLoad(plan{})
	mustDo(t, w.acks(100), w.server.Kill)
	w.mustLose(t, wholeSegmentsOnly{w.keeper.(sluice)}, byVerb)
}

// The disk says that it has synced, and has not; then the power fails.
func TestControlLyingSyncLosesRows(t *testing.T) {
	t.Parallel()
	w := newSluiceWorld(t, needDisk(t), rig.NodeOptions{Binary: program})
	w.startLoad(plan{})
	mustDo(t, w.acks(100))
	err := w.keeper.(sluice).LieAboutSync(t.Context(), t)
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("needs strace: apt-get install strace")
	}
	if err != nil {
		t.Fatal(err)
	}
	mustDo(t,
		w.acks(200),
		w.server.Kill,
		w.disk.LosePower, w.keeper.Kill, w.disk.Unmount, w.disk.Mount)
	w.mustLose(t, w.keeper, offline)
}

// mustLose restores through k, and fails the test if all acknowledged rows are
// there.
func (w *world) mustLose(t *testing.T, k keeper, by sealing) {
	t.Helper()
	w.load.Stop()
	w.keeper = k
	f := &failover{world: w, plan: plan{ending: killedUnderLoad, seal: by}, old: w.server, oldLoad: w.load, oldTLI: 1}
	err := inOrder(with(t.Context(), f.seal), with(t.Context(), f.restoreAndPromote))
	if err != nil {
		t.Fatalf("the control's restore: %v", err)
	}
	err = f.judgeRows(t.Context())
	if len(w.stats.verdict.Lost) == 0 {
		t.Fatalf("the control lost nothing (%v)", err)
	}
	t.Logf("as it must be: %v", err)
	if err := f.bury(t.Context()); err != nil {
		t.Error(err)
	}
}

// Power is lost again and again while commits are acknowledged, at last
// together with the primary.
func TestPowerLossLosesNothing(t *testing.T) {
	t.Parallel()
	w := newSluiceWorld(t, needDisk(t), rig.NodeOptions{Binary: program})
	p := plan{ending: killedUnderLoad, seal: powerLost}
	for round := range 6 {
		p.faults = append(p.faults, plannedFault{fault: losePower, after: time.Duration(50+100*round) * time.Millisecond})
	}
	if err := w.cycle(t.Context(), p); err != nil {
		t.Fatalf("%v\n%s", err, w.keeper.Describe(t.Context()))
	}
	if err := w.closeBooks(t.Context()); err != nil {
		t.Error(err)
	}
	t.Log(&w.stats)
}

// needDisk makes a disk, or skips the test with the machine's reason.
func needDisk(t *testing.T) *rig.Disk {
	t.Helper()
	disk, err := rig.NewDisk(t, 512)
	if errors.Is(err, rig.ErrNoDisk) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

// acks waits for n acknowledged transactions.
func (w *world) acks(n int64) func() error {
	return func() error { return w.load.awaitAcks(w.t.Context(), n) }
}

// mustDo does steps, and fails the test at the first that fails.
func mustDo(t *testing.T, steps ...func() error) {
	t.Helper()
	if err := inOrder(steps...); err != nil {
		t.Fatal(err)
	}
}
