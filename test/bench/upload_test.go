package bench

import (
	"context"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// bucket is object storage that is empty, for one contender in one round.
type bucket struct {
	url  string
	dir  string // where its objects lie, as files
	env  []string
	wipe func() // removes the objects
}

func (f *field) newDirectory() bucket {
	f.t.Helper()
	top := rig.TempDir(f.t)
	dir := filepath.Join(top, "objects")
	return bucket{url: "file://" + dir, dir: dir, wipe: func() { must(f.t, os.RemoveAll(top)) }}
}

// newS3 starts a server, which then is idle until the end.
func (f *field) newS3() bucket {
	f.t.Helper()
	s := rig.StartS3(f.t)
	return bucket{url: s.URL(), dir: s.Dir, env: rig.S3Env(), wipe: func() { must(f.t, os.RemoveAll(s.Dir)) }}
}

// TestCompareUpload drains the same WAL from a slot with and without object
// storage, and compresses it with Debian's zstd.
func TestCompareUpload(t *testing.T) {
	asked(t, "upload")
	f := newField(t, drainConfig)
	f.sql(f.primary, "SELECT pg_create_physical_replication_slot('"+keep+"', true)")
	start, end := f.write(f.primary, *walMiB)
	gb := float64(end-start) / 1e9
	all := []contender{
		{"sluice, no object storage", func() figure {
			took, u := f.drainSluice(end)
			return figure{value: gb * 1e3 / took.Seconds(), work: gb, usage: u, stored: notStored}
		}},
		{"sluice, a directory", func() figure { return f.upload(f.newDirectory(), start, end) }},
	}
	if rig.HasS3() {
		all = append(all, contender{"sluice, an S3 server", func() figure { return f.upload(f.newS3(), start, end) }})
	} else {
		t.Log("there is no S3 server, and no row of it: scripts/versitygw.sh builds one")
	}
	all = append(all, f.zstd(start, end))
	t.Logf("draining %.2f GB of WAL from a slot, and uploading it, %d rounds\n%s", gb, *rounds, f.measure(all).markdown("MB/s drained", uploads))
}

// upload drains all, and waits until object storage has every whole segment.
func (f *field) upload(b bucket, start, end pg.LSN) figure {
	f.t.Helper()
	f.slot(f.primary, "sluice_"+rig.NodeID)
	n := f.nodeWith(rig.NodeOptions{Store: b.url, Env: b.env})
	defer b.wipe()
	defer f.discard(n)
	size := f.segmentSize(f.primary)
	start = size.StartOf(start)
	before, err := usageOf(n.PID())
	must(f.t, err)
	must(f.t, n.Create(f.ctx, f.primary.Conninfo()))
	var drained, backedUp time.Duration
	lag := f.largestLag(n, start, func() {
		drained = f.awaitDrained(rig.NodeID, end)
		since := time.Now()
		f.awaitBackup(n, size.StartOf(end))
		backedUp = drained + time.Since(since)
	})
	after, err := usageOf(n.PID())
	must(f.t, err)
	mb := func(from, to pg.LSN) float64 { return float64(to-from) / 1e6 }
	return figure{value: mb(start, end) / drained.Seconds(), work: mb(start, end) / 1e3, usage: after.since(before), stored: stored{
		rate: mb(start, size.StartOf(end)) / backedUp.Seconds(), lag: float64(lag) / (1 << 20), ratio: f.storedRatio(b.dir, size),
	}}
}

func (f *field) segmentSize(s *pgserver.Server) pg.SegmentSize {
	f.t.Helper()
	size, err := pg.ParseSegmentSize(f.sql(s, "SHOW wal_segment_size"))
	must(f.t, err)
	return size
}

func (f *field) awaitBackup(n *rig.Node, end pg.LSN) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, patience)
	defer cancel()
	_, err := n.AwaitStatus(ctx, "object storage has all whole segments", func(s rig.Status) bool { return s.BackupLSN >= end })
	must(f.t, err)
}

// largestLag is how far object storage was behind what was durable, at most,
// while something was done; start is what it has while that is not known.
func (f *field) largestLag(n *rig.Node, start pg.LSN, during func()) pg.LSN {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	type sampled struct {
		largest pg.LSN
		err     error
	}
	ended := make(chan sampled, 1)
	go func() {
		var all sampled
		err := rig.Poll(ctx, 200*time.Millisecond, func() (bool, error) {
			s, err := n.Status(ctx)
			if has := max(s.BackupLSN, start); err == nil && s.FlushLSN > has {
				all.largest = max(all.largest, s.FlushLSN-has)
			}
			return false, err
		})
		if ctx.Err() == nil {
			all.err = err
		}
		ended <- all
	}()
	during()
	cancel()
	all := <-ended
	must(f.t, all.err)
	return all.largest
}

// storedRatio compares the sizes of whole segments: as they lie in object
// storage, and as they are.
func (f *field) storedRatio(dir string, size pg.SegmentSize) float64 {
	f.t.Helper()
	var packed, raw int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".zst" || filepath.Base(filepath.Dir(path)) != "wal" {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		packed, raw = packed+info.Size(), raw+int64(size)
		return nil
	})
	must(f.t, err)
	return float64(packed) / float64(raw)
}

// zstd compresses the same segments with Debian's program, one after the other,
// and puts nothing anywhere.
func (f *field) zstd(start, end pg.LSN) contender {
	f.t.Helper()
	unknown := figure{value: math.NaN(), work: math.NaN(), stored: notStored}
	program, err := exec.LookPath("zstd")
	if err != nil {
		return contender{"zstd -1 -T1: not installed", func() figure { return unknown }}
	}
	size := f.segmentSize(f.primary)
	return contender{"zstd -1 -T1, to /dev/null", func() figure {
		m := unknown
		m.work = 0
		for n := size.SegNo(start); n < size.SegNo(end); n++ {
			cmd := exec.CommandContext(f.ctx, program, "-q", "-1", "-T1", "-c", filepath.Join(f.primary.Dir(), "pg_wal", pg.SegmentName(1, n, size)))
			must(f.t, cmd.Run()) // without a Stdout: /dev/null
			u := usageAfter(cmd.ProcessState)
			m.usage.cpu, m.usage.rss = m.usage.cpu+u.cpu, max(m.usage.rss, u.rss)
			m.work += float64(size) / 1e9
		}
		return m
	}}
}
