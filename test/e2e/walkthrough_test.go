package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// The walk-throughs of the failover rules, for one node (F18).

func TestFailoverEndsExactlyAtTheSeal(t *testing.T) {
	for _, mib := range []int{1, 16, 64} { // S7
		t.Run(fmt.Sprintf("segments of %d MiB", mib), func(t *testing.T) {
			b := newBenchWith(t, pgserver.Options{SegmentSizeMiB: mib})
			b.fill(b.primary, 2)
			old := b.primary
			seal := b.failover()
			b.has(b.primary)
			if fork := b.fork(b.primary, 2); fork != seal.End {
				t.Errorf("the new server left at %s, the seal says %s", fork, seal.End)
			}
			b.commit(b.primary, 3)
			b.do(old.Restart(b.ctx))
			b.do(b.node.Follow(b.ctx, old.Conninfo()))
			b.refused("TLI 1", "TLI 2")
			b.hangs(old, "INSERT INTO ledger VALUES (-1)")
		})
	}
}

func TestSwitchoverAndSwitchBackAreFollowed(t *testing.T) {
	b := newBench(t)
	b.fill(b.primary, 1)
	first, second := b.primary, b.newStandby(b.primary)
	b.switchover(first, second, 2)
	b.commit(second, 3)
	b.rejoin(first, second)
	b.switchover(second, first, 3)
	b.commit(first, 3)
	b.has(first)
}

// newStandby makes a streaming standby of a server; its name is in no
// synchronous_standby_names.
func (b *bench) newStandby(of *pgserver.Server) *pgserver.Server {
	b.t.Helper()
	dir := b.newDir()
	b.do(of.BaseBackup(b.ctx, dir, pgserver.FetchWAL))
	b.do(pgserver.PrepareStandby(dir, of.Conninfo()+" application_name=standby", nil))
	s := b.launch(dir)
	b.do(s.WaitReady(b.ctx))
	return s
}

// rejoin makes a server that was stopped a standby of another.
func (b *bench) rejoin(s, of *pgserver.Server) {
	b.t.Helper()
	b.do(pgserver.PrepareStandby(s.Dir(), of.Conninfo()+" application_name=standby", nil))
	b.do(s.Restart(b.ctx))
}

// switchover stops one server in order and promotes its standby.
func (b *bench) switchover(from, to *pgserver.Server, tli int) {
	b.t.Helper()
	b.awaitValue(from, "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'standby' AND state = 'streaming'", "1")
	b.do(from.Stop(b.ctx, pgserver.Fast))
	b.do(b.node.Follow(b.ctx, to.Conninfo())) // a moment before it is promoted: no alarm
	b.do(to.Promote(b.ctx))
	status := b.await("the new TLI is followed", func(s rig.Status) bool { return int(s.TLI) == tli && s.Source.Connected })
	if len(status.Diverged) > 0 {
		b.t.Errorf("a switchover leaves nothing behind, but: %+v", status.Diverged)
	}
}

func TestStandbyFedByWalFetchIsPromotedAfterTheSeal(t *testing.T) {
	b := newBench(t)
	standby := b.launch(b.prepareStandby(b.node.RestoreCommand()))
	b.explains("its backup is older than synchronous_standby_names", "^whether commits of the source wait")
	b.fill(b.primary, 2)
	b.do(b.primary.Kill())
	seal, err := b.node.Seal(b.ctx)
	b.do(err)
	b.awaitValue(standby, fmt.Sprintf("SELECT pg_last_wal_replay_lsn() >= '%s'", seal.End), "t")
	b.do(standby.Promote(b.ctx))
	if fork := b.fork(standby, 2); fork != seal.End {
		t.Errorf("the standby was promoted at %s, the seal says %s", fork, seal.End)
	}
	b.has(standby)
	b.follow(standby, 2)
	b.synchronous(standby)
	b.commit(standby, 3)
}

// prepareStandby copies the base backup, and makes it a standby that only has
// a restore_command.
func (b *bench) prepareStandby(command string) (dir string) {
	b.t.Helper()
	dir = b.newDir()
	b.do(rig.CopyTree(b.ctx, b.backup, dir))
	b.do(pgserver.PrepareStandby(dir, "", map[string]string{"restore_command": command}))
	return dir
}

func TestCloneOfALivingTimelineEndsAtAWholeSegment(t *testing.T) {
	b := newBench(t)
	b.fill(b.primary, 2)
	whole := b.rows - 3 // the open segment is not handed out
	clone := b.restore(b.node.RestoreCommand("--copy"), nil)
	got, err := clone.Value(b.ctx, "SELECT max(id) FROM ledger")
	b.do(err)
	if got != fmt.Sprint(whole) {
		t.Errorf("the clone has rows up to %s, want %d", got, whole)
	}
	b.commit(b.primary, 3) // the original goes on
}

func TestRestoreOfALivingTimelineNeedsASealOrACopy(t *testing.T) {
	b := newBench(t)
	b.fill(b.primary, 1)
	b.restoreStops(b.node.RestoreCommand())
	seg, err := b.primary.Value(b.ctx, "SELECT pg_walfile_name(pg_current_wal_lsn())")
	b.do(err)
	r, _ := b.fetch(seg)
	if r.Code != 126 || !strings.Contains(r.Stderr, "seal") || !strings.Contains(r.Stderr, "--copy") {
		t.Errorf("the tail of a living timeline: exit %d, %s; want 126 and both ways out", r.Code, r.Stderr)
	}
	b.commit(b.primary, 1)
}

func TestPointInTimeRecoveryBecomesATimelineOfItsOwn(t *testing.T) {
	b := newBench(t)
	b.fill(b.primary, 1)
	targets := b.targets()
	before := b.rows
	b.fill(b.primary, 2)
	for name, settings := range targets {
		t.Run(name, func(t *testing.T) {
			s := b.restore(b.node.RestoreCommand("--copy"), settings)
			got, err := s.Value(b.ctx, "SELECT max(id) FROM ledger")
			b.do(err)
			if got != fmt.Sprint(before) {
				t.Errorf("recovered to row %s, want %d", got, before)
			}
		})
	}
	s := b.restore(b.node.RestoreCommand("--copy"), targets["named restore point"])
	_, err := b.node.Must(b.ctx, "timeline", "create", "acme/pitr", "--source", s.Conninfo(), "--new")
	b.do(err)
	b.awaitValue(s, "SELECT count(*) FROM pg_stat_replication WHERE application_name = '"+rig.NodeID+"'", "1")
	b.commit(b.primary, 1) // nothing disturbs the original
}

// targets are recovery targets that all mean this moment.
func (b *bench) targets() map[string]map[string]string {
	b.t.Helper()
	value := func(query string) string {
		v, err := b.primary.Value(b.ctx, query)
		b.do(err)
		return v
	}
	promote := func(name, v string) map[string]string {
		return map[string]string{name: v, "recovery_target_action": "promote"}
	}
	return map[string]map[string]string{
		"named restore point": promote("recovery_target_name", "here"+value("SELECT substr(pg_create_restore_point('here')::text, 1, 0)")),
		"LSN":                 promote("recovery_target_lsn", value("SELECT pg_current_wal_insert_lsn()")),
		"time":                promote("recovery_target_time", value("SELECT clock_timestamp()")),
	}
}

// A clone of a moment before the last failover, entered as the original's
// source by mistake.
func TestCloneFromBeforeTheFailoverIsRefused(t *testing.T) {
	b := newBench(t)
	b.fill(b.primary, 1)
	target := b.targets()["LSN"]
	b.fill(b.primary, 1)
	b.failover()
	clone := b.restore(b.node.RestoreCommand("--copy"), target)
	b.synchronous(clone)
	b.do(b.node.Follow(b.ctx, clone.Conninfo()))
	b.refused("TLI 1", "TLI 2")
	b.hangs(clone, "INSERT INTO ledger VALUES (-1)")
	b.do(b.node.Follow(b.ctx, b.primary.Conninfo()))
	b.commit(b.primary, 3)
}

func TestOldPrimaryIsRewoundThroughWalFetch(t *testing.T) {
	b := newBenchWith(t, pgserver.Options{SegmentSizeMiB: segmentMiB, Config: map[string]string{
		"wal_log_hints": "on", "wal_keep_size": "0", "min_wal_size": "2MB", "max_wal_size": "2MB",
	}})
	b.do(b.primary.Exec(b.ctx, "CHECKPOINT")) // the last one that both have
	b.fill(b.primary, 3)
	old := b.primary
	seal := b.failover()
	b.fill(b.primary, 1)

	// The old primary lives on for a while, on its own: that has to be undone.
	b.do(old.Restart(b.ctx))
	b.do(old.Configure(b.ctx, map[string]string{"synchronous_standby_names": ""}))
	b.awaitValue(old, "SHOW synchronous_standby_names", "")
	b.do(old.Exec(b.ctx, "INSERT INTO ledger VALUES (-1, 'never replicated'); CHECKPOINT"))
	b.do(old.Stop(b.ctx, pgserver.Fast))
	b.forgetBelow(old, seal.End)

	b.rewind(old, b.primary)
	b.rejoin(old, b.primary)
	b.commit(b.primary, 3)
	b.awaitValue(old, "SELECT pg_last_wal_replay_lsn() IS NOT NULL AND count(*) = "+fmt.Sprint(b.rows)+" FROM ledger", "t")
	b.has(old)
}

// forgetBelow removes what a server still has of TLI 1 below the segment that
// holds end, as its checkpoints do sooner or later.
func (b *bench) forgetBelow(s *pgserver.Server, end pg.LSN) {
	b.t.Helper()
	const size = pg.SegmentSize(segmentMiB << 20)
	files, err := filepath.Glob(filepath.Join(s.Dir(), "pg_wal", "00000001????????????????"))
	b.do(err)
	for _, file := range files {
		if filepath.Base(file) < pg.SegmentName(1, size.SegNo(end), size) {
			b.do(os.Remove(file))
		}
	}
}

// rewind runs pg_rewind, which asks the target's restore_command for what its
// own pg_wal has lost.
func (b *bench) rewind(target, source *pgserver.Server) {
	b.t.Helper()
	b.do(pgserver.PrepareStandby(target.Dir(), "", map[string]string{"restore_command": b.node.RestoreCommand()}))
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	cmd, err := rig.Command(ctx, b.dir, filepath.Join(source.Installation().BinDir, "pg_rewind"),
		"--target-pgdata", target.Dir(), "--source-server", source.Conninfo(), "--restore-target-wal", "--no-sync")
	b.do(err)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("pg_rewind: %v\n%s", err, out)
	}
}
