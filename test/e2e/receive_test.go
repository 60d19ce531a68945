package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// S1
func TestCommitWaitsWhileTheNodeIsAway(t *testing.T) {
	b := newBench(t)
	b.commit(b.primary, 1)
	b.do(b.node.Kill())
	answered := make(chan error, 1)
	b.rows++
	go func() { answered <- b.primary.Exec(b.ctx, fmt.Sprintf("INSERT INTO ledger VALUES (%d)", b.rows)) }()
	b.awaitValue(b.primary, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'", "1")
	b.do(b.node.Start(b.ctx))
	b.do(<-answered)
	b.has(b.primary)
}

// S12
func TestFullDiskStopsAcknowledgingUntilThereIsRoom(t *testing.T) {
	disk, err := rig.NewDisk(t, 48)
	if errors.Is(err, rig.ErrNoDisk) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	b := newBenchOn(t, pgserver.Options{SegmentSizeMiB: segmentMiB},
		rig.NodeOptions{Binary: program, DataDir: filepath.Join(disk.Dir(), "data")})
	b.explains("the disk was filled", "no space left on device")
	b.do(disk.Fill())
	// Not one transaction of these has room; the first segments are there already.
	answered := make(chan error, 1)
	go func() {
		answered <- b.primary.Exec(b.ctx, "INSERT INTO ledger SELECT -n, repeat(md5(n::text), 20) FROM generate_series(1, 10000) n")
	}()
	b.awaitValue(b.primary, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'", "1")
	s := b.await("the full disk is said", func(s rig.Status) bool { return strings.Contains(s.Source.Error, "no space left") })
	if !strings.Contains(s.Source.Error, "make room") {
		t.Errorf("it does not say what to do: %s", s.Source.Error)
	}
	select {
	case err := <-answered:
		t.Errorf("the commit was answered (%v) although there is no room: %+v", err, s)
	default:
	}
	b.do(disk.Free())
	b.do(<-answered)
	b.commit(b.primary, 3)
}

// S10, S14: the node ends right where a segment does, and comes back.
func TestRestartOnASegmentBorder(t *testing.T) {
	b := newBench(t)
	for range 5 {
		b.commit(b.primary, 2)
		b.do(b.primary.Exec(b.ctx, "SELECT pg_switch_wal()"))
		b.awaitValue(b.primary, "SELECT flush_lsn >= pg_current_wal_lsn() FROM pg_stat_replication WHERE application_name = 'node'", "t")
		b.do(b.node.Kill())
		b.do(b.node.Start(b.ctx))
		b.commit(b.primary, 1)
		b.do(b.primary.Exec(b.ctx, "SELECT pg_switch_wal()"))
		b.do(b.node.Kill()) // and once without waiting
		b.do(b.node.Start(b.ctx))
	}
	b.failover()
	b.has(b.primary)
}

// S16
func TestFastShutdownOfTheSourceIsNotHeldUp(t *testing.T) {
	b := newBench(t)
	b.fill(b.primary, 1)
	began := time.Now()
	b.do(b.primary.Stop(b.ctx, pgserver.Fast))
	if took := time.Since(began); took > 8*time.Second { // the next status would come by itself after 10 s
		t.Errorf("the shutdown took %v", took)
	}
	// The shutdown checkpoint is the last record; the server waited until we had it.
	seal, err := b.node.Seal(b.ctx)
	b.do(err)
	out, err := exec.CommandContext(b.ctx, filepath.Join(b.primary.Installation().BinDir, "pg_controldata"), b.primary.Dir()).Output()
	b.do(err)
	var checkpoint string
	for line := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(line, "Latest checkpoint location:"); ok {
			checkpoint = strings.TrimSpace(rest)
		}
	}
	lsn, err := pg.ParseLSN(checkpoint)
	b.do(err)
	if seal.End <= lsn {
		t.Errorf("the seal's end is %s, the shutdown checkpoint at %s is not in it", seal.End, checkpoint)
	}
}

// Nothing is different from what PostgreSQL's own receiver writes, on each TLI.
func TestFilesEqualPgReceivewals(t *testing.T) {
	for _, mib := range []int{1, 16} {
		t.Run(fmt.Sprintf("segments of %d MiB", mib), func(t *testing.T) {
			b := newBenchWith(t, pgserver.Options{SegmentSizeMiB: mib})
			// It goes over to each new primary with what it has, as the node does.
			beside := rig.NewReceiveWAL(t, b.primary.Installation(), "beside", true)
			for tli := pg.TLI(1); tli <= 3; tli++ {
				b.do(beside.Start(b.ctx, b.primary.Conninfo()))
				b.traffic(mib, beside)
				b.awaitValue(b.primary, "SELECT count(*) FROM pg_stat_replication WHERE flush_lsn >= pg_current_wal_lsn()", "2")
				b.do(beside.Kill())
				b.sameFiles(beside.Dir(), tli, pg.SegmentSize(mib<<20))
				b.failover()
			}
		})
	}
}

// traffic has small and large records, switches, and a crash in it, after which
// pg_receivewal alone would wait for five seconds.
func (b *bench) traffic(mib int, beside *rig.ReceiveWAL) {
	b.t.Helper()
	b.fill(b.primary, 2)
	b.do(b.primary.Exec(b.ctx, fmt.Sprintf("SELECT pg_logical_emit_message(true, 'big', repeat('x', %d))", mib<<20+12345)))
	b.do(b.primary.Kill())
	b.do(b.primary.Restart(b.ctx))
	b.do(beside.Kill())
	b.do(beside.Start(b.ctx, b.primary.Conninfo()))
	b.fill(b.primary, 1)
}

// sameFiles compares all files of a TLI that both have, up to the received
// end, and lets pg_waldump read ours.
func (b *bench) sameFiles(theirs string, tli pg.TLI, size pg.SegmentSize) {
	b.t.Helper()
	status, err := b.node.Status(b.ctx)
	b.do(err)
	files, err := filepath.Glob(filepath.Join(theirs, segmentsOf(tli)))
	b.do(err)
	b.sameNames(theirs, tli, size, status.FlushLSN)
	readable, err := rig.MakeDir(b.dir, fmt.Sprintf("readable%d", tli))
	b.do(err)
	first := ""
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), pg.PartialSuffix)
		want, err := os.ReadFile(file)
		b.do(err)
		got := b.ours(name)
		limit := len(got)
		_, segno, err := pg.ParseSegmentName(name, size)
		b.do(err)
		if end := status.FlushLSN - size.Start(segno); size.Start(segno) < status.FlushLSN && end < pg.LSN(size) {
			limit = int(end)
		}
		if len(got) != len(want) || !bytes.Equal(got[:limit], want[:limit]) {
			b.t.Errorf("%s differs from pg_receivewal's (%d bytes of %d and %d)", name, limit, len(got), len(want))
		}
		b.do(os.WriteFile(filepath.Join(readable, name), got, 0o600))
		if first == "" {
			first = name
		}
	}
	if len(files) < 3 {
		b.t.Errorf("pg_receivewal has only %d files of TLI %d", len(files), tli)
	}
	b.dumps(readable, first, tli, size, status.CommitLSN)
}

// sameNames checks that both have the same segments of a TLI, and the same
// history. Of the first TLI pg_receivewal began later.
func (b *bench) sameNames(theirs string, tli pg.TLI, size pg.SegmentSize, end pg.LSN) {
	b.t.Helper()
	have, want := b.namesBelow(b.node.WALDir(), tli, size, end), b.namesBelow(theirs, tli, size, end)
	if tli == 1 {
		have = have[max(0, len(have)-len(want)):]
	}
	if !slices.Equal(have, want) {
		b.t.Errorf("of TLI %d we have %v, pg_receivewal has %v", tli, have, want)
	}
	if tli == 1 {
		return
	}
	if forked := pg.SegmentName(tli, size.SegNo(b.fork(b.primary, tli)), size); !slices.Contains(want, forked) {
		b.t.Errorf("the segment of the fork, %s, is not compared: pg_receivewal has %v", forked, want)
	}
	history, err := os.ReadFile(filepath.Join(theirs, pg.HistoryName(tli)))
	b.do(err)
	got, err := os.ReadFile(filepath.Join(b.node.WALDir(), pg.HistoryName(tli)))
	b.do(err)
	if !bytes.Equal(got, history) {
		b.t.Errorf("the history of TLI %d is %q, pg_receivewal's %q", tli, got, history)
	}
}

// namesBelow are the segments of a TLI that begin below end: the next one may
// have been made.
func (b *bench) namesBelow(dir string, tli pg.TLI, size pg.SegmentSize, end pg.LSN) (names []string) {
	b.t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, segmentsOf(tli)))
	b.do(err)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), pg.PartialSuffix)
		_, segno, err := pg.ParseSegmentName(name, size)
		b.do(err)
		if size.Start(segno) < end {
			names = append(names, name)
		}
	}
	return names
}

// segmentsOf is a pattern for the segments of a TLI, whole or open.
func segmentsOf(tli pg.TLI) string { return fmt.Sprintf("%08X????????????????*", uint32(tli)) }

// ours reads a segment of the node's, whole or open.
func (b *bench) ours(name string) []byte {
	b.t.Helper()
	path := filepath.Join(b.node.WALDir(), name)
	got, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		got, err = os.ReadFile(path + pg.PartialSuffix)
	}
	b.do(err)
	return got
}

// dumps checks that pg_waldump reads each record from a segment on to the end.
func (b *bench) dumps(dir, first string, tli pg.TLI, size pg.SegmentSize, end pg.LSN) {
	b.t.Helper()
	_, segno, err := pg.ParseSegmentName(first, size)
	b.do(err)
	cmd := exec.CommandContext(b.ctx, filepath.Join(b.primary.Installation().BinDir, "pg_waldump"), "-q", "-p", dir,
		"-t", tli.String(), "-s", size.Start(segno).String(), "-e", end.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Errorf("pg_waldump of TLI %d from %s to %s: %v\n%s", tli, size.Start(segno), end, err, out)
	}
}

// F15: the received end lies inside of a record. It is no divergence.
func TestEndInsideARecordDivergesNothing(t *testing.T) {
	b := newBench(t)
	b.fill(b.primary, 1)
	inside := false
	for range 20 {
		b.cutInALongRecord()
		end, err := b.node.WALEnd(b.ctx)
		b.do(err)
		b.do(b.node.Start(b.ctx))
		s := b.await("the node is up", func(s rig.Status) bool { return s.FlushLSN > 0 })
		if s.FlushLSN > end.LSN {
			inside = true
			break
		}
		b.do(b.primary.Restart(b.ctx))
		b.streams()
	}
	if !inside {
		t.Skip("in 20 tries no stream was cut inside of a record")
	}
	seal := b.failover()
	if fork := b.fork(b.primary, 2); fork != seal.End {
		t.Errorf("fork %s, seal %s", fork, seal.End)
	}
	s, err := b.node.Status(b.ctx)
	b.do(err)
	if len(s.Diverged) > 0 {
		t.Errorf("diverged: %+v", s.Diverged)
	}
	b.has(b.primary)
}

// cutInALongRecord kills the primary, and then the node, while a record of
// megabytes is on its way.
func (b *bench) cutInALongRecord() {
	b.t.Helper()
	failed := make(chan error, 1)
	go func() {
		failed <- b.primary.Exec(b.ctx, "SELECT pg_logical_emit_message(true, 'big', repeat('x', 50000000))")
	}()
	before, err := b.node.Status(b.ctx)
	b.do(err)
	b.await("a part of the record is here", func(s rig.Status) bool { return s.WriteLSN > before.WriteLSN+1<<20 })
	b.do(b.primary.Kill())
	if err := <-failed; err == nil { // the connection broke
		b.t.Error("the statement in flight succeeded though its server was killed")
	}
	b.do(b.node.Kill())
}
