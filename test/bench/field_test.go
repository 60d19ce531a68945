package bench

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

var (
	compare = flag.String("compare", "", "what to measure: drain,tps,idle,scale,several,upload,restore,telemetry,broker, or all; takes minutes, and a few GiB")
	rounds  = flag.Int("rounds", 3, "rounds, each with every contender")
	seconds = flag.Int("seconds", 5, "tps: how long each contender commits in a round")
	clients = flag.String("clients", "1,16,64", "tps: how many commit at once")
	only    = flag.String("only", "", "measure contenders whose names contain one of these, separated by commas, beside the first")
	walMiB  = flag.Int("mib", 2048, "drain, several, upload: how much WAL to drain, in all")
	idleFor = flag.Duration("idle", 5*time.Second, "idle: how long the timelines have been connected when memory is read")

	many       = flag.Int("timelines", 10_000, "scale: how many timelines the node keeps")
	sourceless = flag.Bool("sourceless", false, "scale: no timeline has a source; a connected one takes four descriptors")
	settle     = flag.Duration("settle", 0, "scale: how long the node has been up when the measurement begins; 0: as -idle")
	profiles   = flag.String("profiles", "", "scale: a directory for profiles of the node's processor time and of its heap")

	segments = flag.Int("segments", 64, "restore: how many segments are fetched")
	segMiB   = flag.Int("segsize", 1, "restore: the size of a segment, in MiB")
)

// asked ends a test that was not asked for.
func asked(t *testing.T, what string) {
	t.Helper()
	list := strings.Split(*compare, ",")
	if !slices.Contains(list, what) && !slices.Contains(list, "all") {
		t.Skipf("a measurement, not a test: it runs with -compare %s ('make bench')", what)
	}
}

// field is one primary, and what the contenders need.
type field struct {
	t       *testing.T
	ctx     context.Context // the test's own
	dir     string
	primary *pgserver.Server
	program string // the node's
}

func newField(t *testing.T, config map[string]string) *field {
	t.Helper()
	f := &field{t: t, ctx: t.Context(), dir: rig.TempDir(t), program: build(t)}
	f.primary = f.newPrimary("primary", config)
	return f
}

func build(t *testing.T) string {
	t.Helper()
	program, cleanup, err := rig.Build(t.Context())
	must(t, err)
	t.Cleanup(cleanup)
	return program
}

func (f *field) newPrimary(name string, config map[string]string) *pgserver.Server {
	f.t.Helper()
	return f.newPrimaryWith(pgserver.Options{Dir: filepath.Join(f.dir, name), Config: config})
}

func (f *field) newPrimaryWith(opts pgserver.Options) *pgserver.Server {
	f.t.Helper()
	s, err := pgserver.Start(f.ctx, opts)
	must(f.t, err)
	f.t.Cleanup(func() { must(f.t, s.Kill()) })
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (f *field) sql(s *pgserver.Server, query string) string {
	f.t.Helper()
	v, err := s.Value(f.ctx, query)
	must(f.t, err)
	return v
}

// node starts a node with an empty disk.
func (f *field) node() *rig.Node {
	f.t.Helper()
	return f.nodeWith(rig.NodeOptions{})
}

func (f *field) nodeWith(opts rig.NodeOptions) *rig.Node {
	f.t.Helper()
	opts.Binary = f.program
	n, err := rig.NewNode(f.t, opts)
	must(f.t, err)
	must(f.t, n.Start(f.ctx))
	return n
}

// discard ends a node, and removes what it has.
func (f *field) discard(n *rig.Node) {
	f.t.Helper()
	must(f.t, n.Kill())
	must(f.t, os.RemoveAll(n.DataDir()))
}

// contender is one who does the work, as often as there are rounds.
type contender struct {
	name string
	run  func() figure
}

// measure lets all contenders work, round by round. Each round begins with
// another one, so that nobody always comes after the same.
func (f *field) measure(all []contender) results {
	f.t.Helper()
	all = chosen(all)
	r := results{figures: map[string][]figure{}}
	for _, c := range all {
		r.names = append(r.names, c.name)
	}
	for round := range *rounds {
		for i := range all {
			c := all[(i+round)%len(all)]
			r.figures[c.name] = append(r.figures[c.name], c.run())
		}
	}
	return r
}

// chosen is the first, which the others are compared with, and those that -only
// names.
func chosen(all []contender) []contender {
	if *only == "" {
		return all
	}
	return slices.DeleteFunc(all, func(c contender) bool {
		return c.name != all[0].name && !slices.ContainsFunc(strings.Split(*only, ","), func(part string) bool {
			return strings.Contains(c.name, part)
		})
	})
}

func clientCounts(t *testing.T) (counts []int) {
	t.Helper()
	for part := range strings.SplitSeq(*clients, ",") {
		n, err := strconv.Atoi(part)
		must(t, err)
		counts = append(counts, n)
	}
	return counts
}
