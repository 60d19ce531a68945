package bench

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// library is the WAL of a real server, in object storage and as files, and a base
// backup from before it.
type library struct {
	*field
	backup   string
	archive  string   // a directory with all whole segments
	segments []string // the names of those that are fetched, in order
}

// way is how a file is fetched.
type way struct {
	name    string
	fetch   func(file, path string) []string // a command
	recover string                           // the restore_command; empty: no recovery by it
	absent  string                           // what to ask for instead of the segments; it is not there
	code    int                              // the exit status to expect
	proxy   *rig.S3Proxy                     // sees the requests; nil: nobody does
}

// newLibrary writes the WAL, and returns the ways to get it.
func newLibrary(t *testing.T) (*library, []way) {
	t.Helper()
	f := &field{t: t, ctx: t.Context(), dir: rig.TempDir(t), program: build(t)}
	f.primary = f.newPrimaryWith(pgserver.Options{Dir: filepath.Join(f.dir, "primary"), SegmentSizeMiB: *segMiB, Config: drainConfig})
	l := &library{field: f, backup: filepath.Join(f.dir, "backup"), archive: filepath.Join(f.dir, "archive")}
	keepers := []*rig.Node{l.keeper("files", "file://"+filepath.Join(rig.TempDir(t), "objects"))}
	var server *rig.S3
	if rig.HasS3() {
		server = rig.StartS3(t)
		keepers = append(keepers, l.keeper("s3", server.URL()))
	} else {
		t.Log("there is no S3 server, and no row of it: scripts/versitygw.sh builds one")
	}
	must(t, f.primary.BaseBackup(f.ctx, l.backup, pgserver.NoWAL))
	f.fill(f.primary, *segments**segMiB, 1000)
	l.shelve(keepers)
	ways := append([]way{l.byCopying()}, l.fromStore("a directory", keepers[0], nil)...)
	if server != nil {
		ways = append(ways, l.fromStore("S3", keepers[1], rig.StartS3Proxy(t, server.Address))...)
	}
	return l, ways
}

// keeper starts a node that keeps all WAL from now on, locally too.
func (l *library) keeper(id, store string) *rig.Node {
	l.t.Helper()
	n := l.nodeWith(rig.NodeOptions{ID: id, Store: store, Config: `retain: {local_bytes: "64GiB"}`})
	must(l.t, n.Create(l.ctx, l.primary.Conninfo()))
	l.streams(n)
	return n
}

func (l *library) streams(n *rig.Node) rig.Status {
	l.t.Helper()
	s, err := n.AwaitStatus(l.ctx, "the node streams", func(s rig.Status) bool { return s.Source.Connected })
	must(l.t, err)
	return s
}

// shelve waits until all whole segments are in object storage, and copies them to
// the archive.
func (l *library) shelve(keepers []*rig.Node) {
	l.t.Helper()
	size := l.segmentSize(l.primary)
	l.sql(l.primary, "SELECT pg_switch_wal()")
	end, err := pg.ParseLSN(l.sql(l.primary, "SELECT pg_current_wal_lsn()"))
	must(l.t, err)
	last := size.SegNo(end)
	for _, n := range keepers {
		l.awaitBackup(n, size.Start(last))
	}
	from, err := keepers[0].Status(l.ctx)
	must(l.t, err)
	_, err = rig.MakeDir(l.archive)
	must(l.t, err)
	for n := size.SegNo(from.StartLSN); n < last; n++ {
		name := pg.SegmentName(1, n, size)
		must(l.t, rig.CopyTree(l.ctx, filepath.Join(keepers[0].WALDir(), name), filepath.Join(l.archive, name)))
		l.segments = append(l.segments, name)
	}
	l.segments = l.segments[len(l.segments)-*segments:]
}

// byCopying is what every other way is compared with.
func (l *library) byCopying() way {
	return way{
		name:    "`cp` from a directory",
		fetch:   func(file, path string) []string { return []string{"cp", filepath.Join(l.archive, file), path} },
		recover: "cp " + l.archive + "/%f %p",
	}
}

// fromStore are the ways from one store; a proxy before it may be nil.
func (l *library) fromStore(name string, keeper *rig.Node, proxy *rig.S3Proxy) []way {
	l.t.Helper()
	url := keeper.Store()
	empty := l.nodeWith(rig.NodeOptions{ID: keeper.ID() + "_empty", Store: url})
	must(l.t, empty.Join(l.ctx, l.primary.Conninfo()))
	size := l.segmentSize(l.primary)
	if s := l.streams(empty); pg.SegmentName(1, size.SegNo(s.StartLSN), size) <= l.segments[len(l.segments)-1] {
		l.t.Fatalf("the node that has nothing has WAL from %s on", s.StartLSN)
	}
	ways := []way{
		{name: "no object storage (`ftp:`): the floor of a process", fetch: l.walFetch("--object-store", "ftp://nowhere"), absent: l.segments[0], code: 126},
		{name: name + ": a history that is not there", fetch: l.walFetch("--object-store", url), absent: pg.HistoryName(2), code: 1},
		{name: name + ": `--object-store`", fetch: l.walFetch("--object-store", url), recover: keeper.StoreRestoreCommand("--copy")},
	}
	if proxy != nil {
		ways = append(ways[1:], way{name: name + ": the same, through a proxy", fetch: l.walFetch("--object-store", rig.S3URL(proxy.Address)), proxy: proxy})
	}
	return append(ways,
		way{name: name + ": `--server`, a node with nothing local", fetch: l.walFetch("--server", empty.URL()), recover: empty.RestoreCommand("--copy")},
		way{name: name + ": `--server`, a node with everything local", fetch: l.walFetch("--server", keeper.URL()), recover: keeper.RestoreCommand("--copy")},
	)
}

// walFetch is a command of ours. It asks once: what is not there is not there.
func (l *library) walFetch(from ...string) func(file, path string) []string {
	args := append([]string{l.program, "wal-fetch", "--copy", "--retry-for", "0s"}, from...)
	return func(file, path string) []string { return append(args[:len(args):len(args)], rig.Timeline, file, path) }
}

// run runs a command as the user who restores, and wants it to end as told. What
// it used is that of its child too, for which it waited.
func (l *library) run(argv []string, code int) usage {
	l.t.Helper()
	cmd, err := rig.Command(l.ctx, l.dir, argv[0], argv[1:]...)
	must(l.t, err)
	out, err := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code {
		l.t.Fatalf("%s: exit status %d, want %d: %v\n%s", strings.Join(argv, " "), got, code, err, out)
	}
	return usageAfter(cmd.ProcessState)
}
