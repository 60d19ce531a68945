package durability

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

var (
	cycles  = flag.Int("cycles", 10, "cycles to run; TLIs pass as many")
	segsize = flag.Int("segsize", 16, "WAL segment size in MiB")
	losses  = flag.Int("losses", 2, "cycles of each kind in which the node's disk is destroyed together with the primary")
	seed    = flag.Int64("seed", 0, "repeats the schedule of a run; 0: a new one")
)

// program is the binary under test.
var program string

func TestMain(m *testing.M) { os.Exit(testMain(m)) } //nolint:forbidigo // it is this program's main

func testMain(m *testing.M) int {
	flag.Parse()
	if *seed == 0 {
		*seed = time.Now().UnixNano() % 1_000_000
	}
	path, cleanup, err := rig.Build(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer cleanup()
	program = path
	for _, kv := range rig.S3Env() { // of the servers' restore_command
		key, value, _ := strings.Cut(kv, "=")
		if err := os.Setenv(key, value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func TestDurability(t *testing.T) {
	disk, err := rig.NewDisk(t, 2048)
	if errors.Is(err, rig.ErrNoDisk) {
		t.Logf("without full disks and power loss: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	w := newSluiceWorld(t, disk, rig.NodeOptions{Binary: program, Config: retention})
	planner := newPlanner(*seed, disk != nil)
	for n := range *cycles {
		p := planner.next()
		began := time.Now()
		if err := w.cycle(t.Context(), p); err != nil {
			t.Fatalf("cycle %d (%s): %v\n%s\nso far: %s\n%s", n, p, err, w.keeper.Describe(t.Context()), &w.stats, again(t))
		}
		w.stats.cycles++
		t.Logf("cycle %d: %s: TLI %d, %d rows acknowledged, all there (%v)",
			n, p, w.stats.tli, w.stats.verdict.Acked, time.Since(began).Round(time.Millisecond))
	}
	if err := w.closeBooks(t.Context()); err != nil {
		t.Errorf("after the last cycle: %v\n%s", err, again(t))
	}
	t.Log(&w.stats)
}

// retention keeps the node's disk small: WAL that is older than the base
// backup is of no use here.
const retention = "retain: {local_bytes: 768MiB, unbacked: drop}"

// again is the command that repeats the schedule.
func again(t testing.TB) string {
	return fmt.Sprintf("again: go test ./test/durability -v -run '%s$' -cycles %d -segsize %d -seed %d", t.Name(), *cycles, *segsize, *seed)
}

// newSluiceWorld is a world that Sluice keeps; its node's log is scanned in the
// end, where allowed are lines that this test alone causes.
func newSluiceWorld(t testing.TB, disk *rig.Disk, opts rig.NodeOptions, allowed ...rig.Allowed) *world {
	t.Helper()
	t.Logf("seed %d", *seed)
	if disk != nil {
		opts.DataDir = disk.Dir() + "/data"
	}
	node, err := rig.NewNode(t, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { scanLog(t, node, append(allowed, explained...)) })
	return mustWorld(t, sluice{node}, disk)
}

func mustWorld(t testing.TB, k keeper, disk *rig.Disk) *world {
	t.Helper()
	w, err := newWorld(t, k, disk, *seed, *segsize)
	if err != nil {
		t.Fatalf("%v\n%s", err, k.Describe(t.Context()))
	}
	return w
}

// scanLog fails the test for each warning or error that no fault explains.
func scanLog(t testing.TB, node *rig.Node, allowed []rig.Allowed) {
	lines, err := rig.Unexpected(node.LogFile(), allowed)
	if err != nil {
		t.Error(err)
	}
	for _, line := range lines[:min(len(lines), 20)] {
		t.Errorf("the node logged, and no fault explains it: %s", line)
	}
}

// explained are the lines that the faults of this package cause.
var explained = append(slices.Clone(rig.SourceGone), rig.Refused,
	rig.Allowed{Message: regexp.MustCompile(`input/output error`), Because: "the disk lost its power: the log is poisoned"},
	rig.Allowed{Message: regexp.MustCompile(`no space left on device`), Because: "the disk was filled"},
	rig.Allowed{Message: regexp.MustCompile(`terminating connection due to administrator command`), Because: "the stream was cut"},
)

// A short run with PostgreSQL's own receiver: the checker finds nothing wrong
// with one that is known to be right.
func TestCheckerFindsNothingWrongWithPgReceivewal(t *testing.T) {
	t.Parallel()
	install, err := pgserver.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := mustWorld(t, newReceivewal(t, install), nil)
	p := plan{
		faults: []plannedFault{{killNode, 100 * time.Millisecond, 0}, {killPrimary, 100 * time.Millisecond, 0}},
		calm:   300 * time.Millisecond,
		ending: killedUnderLoad, seal: byVerb,
	}
	w.startLoad(p)
	if err := w.trouble(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	f := &failover{world: w, plan: p, old: w.server, oldLoad: w.load, oldTLI: 1}
	for _, do := range []func(context.Context) error{f.endPrimary, f.seal, f.restoreAndPromote, f.judgeRows, f.bury} {
		if err := do(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Log(&w.stats)
}
