package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
	"github.com/sluicewal/sluice/test/rig"
)

// deadSegment is the segment size of timelines that are made up here.
const deadSegment = int(pg.MinSegmentSize)

const deadCluster = 7_000_000_000_000_000_001

// deadNodeDir is the data directory of a node that kept acme/main until it ended.
type deadNodeDir struct {
	dir string
	wal []byte // of TLI 1, from segment 1 on
	end pg.LSN // of the last record in wal
}

var deadTimeline = timeline.ID{Tenant: "acme", Name: "main"}

// newDeadNode makes one that holds a segment and a half of made-up WAL, and read these synchronous_standby_names.
func newDeadNode(t *testing.T, node, names string) *deadNodeDir {
	t.Helper()
	w := pgtest.NewWriter(pg.MinSegmentSize.Start(1), pg.MinSegmentSize, 1, deadCluster)
	for n := 40; len(w.Bytes()) < deadSegment*3/2; n = n*7%5003 + 40 {
		w.Record(n)
	}
	return newDeadNodeWith(t, node, names, w.Start(), w.Bytes(), w.End())
}

// newDeadNodeWith makes one that holds this WAL, of which the last record ends at end.
func newDeadNodeWith(t *testing.T, node, names string, start pg.LSN, bytes []byte, end pg.LSN) *deadNodeDir {
	t.Helper()
	n := &deadNodeDir{dir: rig.TempDir(t), wal: bytes, end: end}
	n.keep(t, node, names, deadCluster, pg.MinSegmentSize, start, bytes)
	return n
}

// keep receives WAL of TLI 1 as a node does, and ends.
func (n *deadNodeDir) keep(t *testing.T, node, names string, systemID uint64, size pg.SegmentSize, start pg.LSN, bytes []byte) {
	t.Helper()
	ctx := t.Context()
	must(t, os.WriteFile(filepath.Join(n.dir, "node.json"), fmt.Appendf(nil, `{"id":%q}`, node), 0o600))
	must(t, os.MkdirAll(filepath.Dir(timeline.Dir(n.dir, deadTimeline)), 0o700))
	tl, err := timeline.Create(ctx, timeline.Config{Dir: timeline.Dir(n.dir, deadTimeline), FS: wal.OSFS{}, NodeID: node}, deadTimeline, timeline.Creation{})
	must(t, err)
	must(t, tl.Adopt(ctx, timeline.Adoption{SystemID: systemID, SegmentSize: size, Start: pg.Position{TLI: 1, LSN: start}, SourceFlush: start}))
	must(t, tl.SetQuorum(ctx, timeline.Reading{SystemID: systemID, TLI: 1, SyncStandbyNames: names}))
	must(t, tl.Log().Append(start, bytes))
	_, err = tl.Log().Sync()
	must(t, err)
	must(t, tl.Shutdown(context.WithoutCancel(ctx), errors.New("it ends")))
}

func (n *deadNodeDir) control(t *testing.T) timeline.Control {
	t.Helper()
	c, err := timeline.LoadControl(wal.OSFS{}, timeline.Dir(n.dir, deadTimeline))
	must(t, err)
	return c
}

// lock makes the node live, as far as others can tell, until the function is called that it returns.
func (n *deadNodeDir) lock(t *testing.T) (unlock func()) {
	t.Helper()
	l, err := wal.Lock(filepath.Join(n.dir, timeline.LockFile))
	must(t, err)
	return func() { must(t, l.Close()) }
}

// seal is what the node did before it ended.
func (n *deadNodeDir) seal(t *testing.T) {
	t.Helper()
	tl, err := timeline.Open(t.Context(), timeline.Config{Dir: timeline.Dir(n.dir, deadTimeline), FS: wal.OSFS{}, NodeID: "a"}, deadTimeline)
	must(t, err)
	must(t, tl.PrepareReceive(t.Context()))
	_, err = tl.Seal(t.Context(), false)
	must(t, errors.Join(err, tl.Shutdown(t.Context(), errors.New("it ends"))))
}

// flip changes a bit of wal in the file that holds it.
func (n *deadNodeDir) flip(t *testing.T, offset int) {
	t.Helper()
	name := segmentOne
	if offset >= deadSegment {
		name = segmentTwo + pg.PartialSuffix
	}
	f, err := os.OpenFile(filepath.Join(timeline.WALDir(n.dir, deadTimeline), name), os.O_RDWR, 0)
	must(t, err)
	b := []byte{n.wal[offset] ^ 4}
	_, err = f.WriteAt(b, int64(offset%deadSegment))
	must(t, errors.Join(err, f.Close()))
}

// walEnd runs wal-end.
func (n *deadNodeDir) walEnd(name string, out io.Writer) error {
	var cli struct {
		WalEnd walEndCmd `cmd:""`
	}
	parser, err := kong.New(&cli, kong.Writers(out, out))
	if err != nil {
		return err
	}
	k, err := parser.Parse([]string{"wal-end", "--data-dir", n.dir, name})
	if err != nil {
		return err
	}
	return k.Run()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
