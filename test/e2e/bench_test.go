package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// program is the binary under test.
var program string

func TestMain(m *testing.M) { os.Exit(testMain(m)) } //nolint:forbidigo // it is this program's main

func testMain(m *testing.M) int {
	path, cleanup, err := rig.Build(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer cleanup()
	program = path
	for _, kv := range rig.S3Env() { // of this process, and of the servers' restore_command
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

// patience is how long anything here may take that has to happen by itself.
const patience = 30 * time.Second

// bench is a primary whose only synchronous standby is a node, and a base
// backup of it. Its methods end the test when something does not work.
type bench struct {
	t       *testing.T
	ctx     context.Context // the test's own, with its time
	dir     string
	node    *rig.Node
	primary *pgserver.Server
	backup  string // taken before the first row
	rows    int    // committed so far
	servers int
	allowed []rig.Allowed
}

// segmentMiB is small, so that tests meet many segments.
const segmentMiB = 1

// newBench sets up a primary with segments of 1 MiB. The test runs beside
// others: most of their time is spent waiting.
func newBench(t *testing.T) *bench {
	t.Helper()
	return newBenchWith(t, pgserver.Options{SegmentSizeMiB: segmentMiB})
}

func newBenchWith(t *testing.T, opts pgserver.Options) *bench {
	t.Helper()
	return newBenchOn(t, opts, rig.NodeOptions{Binary: program})
}

func newBenchOn(t *testing.T, opts pgserver.Options, node rig.NodeOptions) *bench {
	t.Helper()
	b := newEmptyBench(t)
	ctx := b.ctx
	b.node = b.newNode(node)
	b.primary = b.newCluster(opts)
	b.do(b.primary.Exec(ctx, "CREATE TABLE ledger (id int PRIMARY KEY, note text)"))
	b.do(b.node.Create(ctx, b.primary.Conninfo()))
	b.streams()
	b.backup = filepath.Join(b.dir, "backup")
	b.do(b.primary.BaseBackup(ctx, b.backup, pgserver.NoWAL))
	b.synchronous(b.primary)
	return b
}

// newEmptyBench has no node, and no primary.
func newEmptyBench(t *testing.T) *bench {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // many run beside each other
	t.Cleanup(cancel)
	return &bench{t: t, ctx: ctx, dir: rig.TempDir(t), allowed: slices.Clone(rig.SourceGone)}
}

// newNode starts a node, whose log is scanned after the test.
func (b *bench) newNode(opts rig.NodeOptions) *rig.Node {
	b.t.Helper()
	n, err := rig.NewNode(b.t, opts)
	b.do(err)
	b.t.Cleanup(func() { b.scanLog(n) })
	b.do(n.Start(b.ctx))
	return n
}

// do ends the test at an error.
func (b *bench) do(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// newCluster makes a server with a system identifier of its own.
func (b *bench) newCluster(opts pgserver.Options) *pgserver.Server {
	b.t.Helper()
	opts.Dir = b.newDir()
	config := map[string]string{"autovacuum": "off", "wal_keep_size": "512MB"}
	for k, v := range opts.Config {
		config[k] = v
	}
	opts.Config = config
	s, err := pgserver.Start(b.t.Context(), opts)
	b.do(err)
	b.owns(s)
	return s
}

// owns ends a server with the test, and shows its log if that failed.
func (b *bench) owns(s *pgserver.Server) {
	b.t.Cleanup(func() {
		if err := s.Kill(); err != nil {
			b.t.Error(err)
		}
		if b.t.Failed() {
			b.t.Logf("the end of the log of %s:\n%s", filepath.Base(s.Dir()), s.Log(15))
		}
	})
}

func (b *bench) newDir() string {
	b.servers++
	return filepath.Join(b.dir, "pg"+strconv.Itoa(b.servers))
}

// synchronous lets a server's commits wait for the node.
func (b *bench) synchronous(s *pgserver.Server) {
	b.t.Helper()
	b.do(s.Configure(b.ctx, map[string]string{"synchronous_standby_names": rig.NodeID}))
	b.awaitValue(s, "SHOW synchronous_standby_names", rig.NodeID)
}

// awaitValue waits until a query on a server gives a value. A server that
// starts up answers later.
func (b *bench) awaitValue(s *pgserver.Server, query, want string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	var got string
	var last error
	err := rig.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		got, last = s.Value(ctx, query)
		return last == nil && got == want, nil
	})
	if err != nil {
		b.t.Fatalf("%s: %q (%v), want %q: %v", query, got, last, want, err)
	}
}

// streams waits until the node is connected to its source.
func (b *bench) streams() rig.Status {
	b.t.Helper()
	return b.await("the node streams", func(s rig.Status) bool { return s.Source.Connected })
}

// await waits for a status of the timeline.
func (b *bench) await(what string, wanted func(rig.Status) bool) rig.Status {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	s, err := b.node.AwaitStatus(ctx, what, wanted)
	b.do(err)
	return s
}

// refused waits until the node refuses its source, and holds the reason
// against the pieces that it has to name.
func (b *bench) refused(pieces ...string) {
	b.t.Helper()
	b.allowed = append(b.allowed, rig.Refused)
	s := b.await("the source is refused", func(s rig.Status) bool { return s.Source.State == "refused" })
	for _, piece := range pieces {
		if !strings.Contains(s.Source.Error, piece) {
			b.t.Errorf("the refusal does not name %q: %s", piece, s.Source.Error)
		}
	}
}

// commit inserts n rows in one acknowledged transaction each.
func (b *bench) commit(s *pgserver.Server, n int) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	c, err := s.Connect(ctx)
	b.do(err)
	defer func() { _ = c.Close(ctx) }()
	for range n {
		b.rows++
		b.do(c.Exec(ctx, fmt.Sprintf("INSERT INTO ledger VALUES (%d, 'row %d')", b.rows, b.rows)))
	}
}

// fill writes n whole segments and a part of another, with commits in each.
func (b *bench) fill(s *pgserver.Server, n int) {
	b.t.Helper()
	for range n {
		b.commit(s, 3)
		b.do(s.Exec(b.ctx, "SELECT pg_switch_wal()"))
	}
	b.commit(s, 3)
}

// has checks that a server holds all rows that were committed, and no others.
func (b *bench) has(s *pgserver.Server) {
	b.t.Helper()
	got, err := s.Value(b.ctx, "SELECT count(*) || ' up to ' || coalesce(max(id), 0) FROM ledger")
	b.do(err)
	if want := fmt.Sprintf("%d up to %d", b.rows, b.rows); got != want {
		b.t.Errorf("the server has rows %s, want %s", got, want)
	}
}

// hangs checks that a commit on a server is not acknowledged: it waits until
// it is cancelled, and PostgreSQL warns.
func (b *bench) hangs(s *pgserver.Server, sql string) {
	b.t.Helper()
	c, err := s.Connect(b.ctx)
	b.do(err)
	defer func() { _ = c.Close(b.ctx) }()
	pid, err := c.Query(b.ctx, "SELECT pg_backend_pid()")
	b.do(err)
	answered := make(chan error, 1)
	go func() { answered <- c.Exec(b.ctx, sql) }()
	b.awaitValue(s, "SELECT wait_event FROM pg_stat_activity WHERE pid = "+pid[0][0], "SyncRep")
	b.do(s.Exec(b.ctx, "SELECT pg_cancel_backend("+pid[0][0]+")"))
	if err := <-answered; err != pgserver.ErrNotReplicated { //nolint:errorlint // it is returned as it is
		b.t.Errorf("a commit that nobody may acknowledge was answered: %v", err)
	}
}

// prepare copies the base backup and makes it recover by command.
func (b *bench) prepare(command string, settings map[string]string) (dir string) {
	b.t.Helper()
	dir = b.newDir()
	b.do(rig.CopyTree(b.ctx, b.backup, dir))
	b.do(pgserver.PrepareRestore(dir, command, settings))
	return dir
}

// launch starts a server on a directory that exists.
func (b *bench) launch(dir string) *pgserver.Server {
	b.t.Helper()
	s, err := pgserver.StartExisting(b.t.Context(), pgserver.Options{Dir: dir})
	b.do(err)
	b.owns(s)
	return s
}

// restore restores and waits until the new server is promoted.
func (b *bench) restore(command string, settings map[string]string) *pgserver.Server {
	b.t.Helper()
	s := b.launch(b.prepare(command, settings))
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	b.do(s.WaitPromoted(ctx))
	return s
}

// restoreStops checks that a restore ends with an error of PostgreSQL's that
// names the file, and does not promote.
func (b *bench) restoreStops(command string) {
	b.t.Helper()
	const said = "FATAL:  could not restore file "
	dir := b.prepare(command, nil)
	s, err := pgserver.StartExisting(b.t.Context(), pgserver.Options{Dir: dir})
	if err != nil { // it ended before it listened
		if !strings.Contains(err.Error(), said) {
			b.t.Errorf("a restore that lacks WAL ended without %q: %v", said, err)
		}
		return
	}
	b.owns(s)
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	err = s.WaitPromoted(ctx)
	switch log := s.Log(20); {
	case err == nil:
		b.t.Errorf("a restore that lacks WAL was promoted:\n%s", log)
	case ctx.Err() != nil:
		b.t.Errorf("a restore that lacks WAL neither ends nor is promoted:\n%s", log)
	case !strings.Contains(log, said):
		b.t.Errorf("a restore that lacks WAL ended without %q:\n%s", said, log)
	}
}

// failover ends the primary and puts a restored server in its place.
func (b *bench) failover() rig.Seal {
	b.t.Helper()
	b.do(b.primary.Kill())
	seal, err := b.node.Seal(b.ctx)
	b.do(err)
	b.primary = b.restore(b.node.RestoreCommand(), map[string]string{"synchronous_standby_names": rig.NodeID})
	b.follow(b.primary, seal.TLI+1)
	return seal
}

// follow sets the source, and waits until the node follows its TLI.
func (b *bench) follow(s *pgserver.Server, tli pg.TLI) rig.Status {
	b.t.Helper()
	b.do(b.node.Follow(b.ctx, s.Conninfo()))
	return b.await(fmt.Sprintf("the node follows TLI %d", tli), func(s rig.Status) bool {
		return s.TLI == tli && s.Source.Connected
	})
}

// fork reads where TLI tli of a server began, from the history file.
func (b *bench) fork(s *pgserver.Server, tli pg.TLI) pg.LSN {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.Dir(), "pg_wal", pg.HistoryName(tli)))
	b.do(err)
	h, err := pg.ParseHistory(tli, text)
	b.do(err)
	fork, ok := h.Parent()
	if !ok {
		b.t.Fatalf("no parent in %q", text)
	}
	return fork.LSN
}

// fetch runs wal-fetch for a file, through the running node, and returns how
// that ended and where the file is.
func (b *bench) fetch(file string, flags ...string) (rig.Result, string) {
	b.t.Helper()
	out := filepath.Join(rig.TempDir(b.t), file)
	args := append([]string{"wal-fetch", "--retry-for", "200ms"}, flags...)
	r, err := b.node.Run(b.ctx, "", append(args, rig.Timeline, file, out)...)
	b.do(err)
	return r, out
}

// explains allows lines of the node's log above info that a fault of this test
// causes. All others fail it.
func (b *bench) explains(because string, patterns ...string) {
	for _, p := range patterns {
		b.allowed = append(b.allowed, rig.Allowed{Message: regexp.MustCompile(p), Because: because})
	}
}

func (b *bench) scanLog(n *rig.Node) {
	lines, err := rig.Unexpected(n.LogFile(), b.allowed)
	if err != nil {
		b.t.Error(err)
	}
	for _, line := range lines {
		b.t.Errorf("the node logged, and nothing explains it: %s", line)
	}
}
