package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// Sources that could damage what is kept, or that do not wait for us.

// S4
func TestAnotherClusterIsRefused(t *testing.T) {
	b := newBench(t)
	b.commit(b.primary, 3)
	other := b.newCluster(pgserver.Options{SegmentSizeMiB: segmentMiB})
	b.do(b.node.Follow(b.ctx, other.Conninfo()))
	b.refused(b.systemID(b.primary), b.systemID(other))
	b.do(b.node.Follow(b.ctx, b.primary.Conninfo()))
	b.commit(b.primary, 3)
}

// S5
func TestAnotherSegmentSizeIsRefused(t *testing.T) {
	b := newBench(t)
	b.commit(b.primary, 3)
	b.do(b.primary.Stop(b.ctx, pgserver.Fast))
	reset, err := rig.Command(b.ctx, b.dir, filepath.Join(b.primary.Installation().BinDir, "pg_resetwal"),
		"--wal-segsize", "2", b.primary.Dir())
	b.do(err)
	if out, err := reset.CombinedOutput(); err != nil {
		t.Fatalf("pg_resetwal: %v\n%s", err, out)
	}
	b.do(b.primary.Restart(b.ctx))
	b.refused("1MB", "2MB")
	b.hangs(b.primary, "INSERT INTO ledger VALUES (-1)")
}

func (b *bench) systemID(s *pgserver.Server) string {
	b.t.Helper()
	id, err := s.Value(b.ctx, "SELECT system_identifier FROM pg_control_system()")
	b.do(err)
	return id
}

// S6
func TestSourceBehindUsIsRefused(t *testing.T) {
	b := newBench(t)
	copied := b.snapshot(b.primary)
	b.fill(b.primary, 1)
	b.do(b.primary.Kill())
	behind := b.launch(copied)
	b.do(behind.WaitReady(b.ctx))
	b.do(b.node.Follow(b.ctx, behind.Conninfo()))
	b.refused("behind")
	b.hangs(behind, "INSERT INTO ledger VALUES (-1)")
}

// snapshot copies a running server's volume, as a cloud's snapshot does: at
// one moment.
func (b *bench) snapshot(s *pgserver.Server) (dir string) {
	b.t.Helper()
	b.do(s.Kill())
	dir = b.newDir()
	b.do(rig.CopyTree(b.ctx, s.Dir(), dir))
	b.do(s.Restart(b.ctx))
	return dir
}

// F7
func TestSnapshotThatWentItsOwnWayIsRefusedByComparison(t *testing.T) {
	b := newBench(t)
	b.commit(b.primary, 3)
	copied := b.snapshot(b.primary)
	b.commit(b.primary, 10)
	held := b.await("all is flushed", func(s rig.Status) bool { return s.Source.Connected }).FlushLSN
	b.do(b.primary.Kill())

	forger := b.launch(copied)
	b.do(forger.WaitReady(b.ctx))
	// It writes past our end, on the same TLI, and nobody waits for us there.
	b.do(forger.Configure(b.ctx, map[string]string{"synchronous_standby_names": ""}))
	b.do(forger.Exec(b.ctx, "INSERT INTO ledger SELECT 1000 + n, repeat('forged', 10) FROM generate_series(1, 3000) n"))
	b.synchronous(forger)
	b.do(b.node.Follow(b.ctx, forger.Conninfo()))
	b.refused("other bytes")
	b.hangs(forger, "INSERT INTO ledger VALUES (-1)")
	if s, err := b.node.Status(b.ctx); err != nil || s.FlushLSN < held {
		t.Errorf("what was held is gone: %+v, %v", s, err)
	}
	b.do(b.primary.Restart(b.ctx))
	b.do(b.node.Follow(b.ctx, b.primary.Conninfo()))
	b.commit(b.primary, 3)
}

// F7, on a segment border: two idle servers with an archive_timeout write a commit of the same size each, and switch. Nothing of
// the next segment is held then, and its first record names the same last one on both.
func TestColdCopyThatWentItsOwnWayIsRefusedOnASegmentBorder(t *testing.T) {
	b := newBench(t)
	copied := b.snapshot(b.primary)
	b.commitAndSwitch(b.primary, "ours")
	border := b.walEnd(b.primary)
	held := b.await("the border is held", func(s rig.Status) bool { return s.FlushLSN >= border }).FlushLSN
	b.do(b.primary.Kill())

	forger := b.launch(copied)
	b.do(forger.WaitReady(b.ctx))
	b.do(forger.Configure(b.ctx, map[string]string{"synchronous_standby_names": ""}))
	b.awaitValue(forger, "SHOW synchronous_standby_names", "")
	b.commitAndSwitch(forger, "them")
	if theirs := b.walEnd(forger); held != border || theirs != border {
		t.Logf("held up to %s, the source was at %s, the copy is at %s: not the same border", held, border, theirs)
	}
	b.synchronous(forger)
	b.do(b.node.Follow(b.ctx, forger.Conninfo()))
	b.refused("other bytes")
	b.hangs(forger, "INSERT INTO ledger VALUES (-1)")
	b.do(b.primary.Restart(b.ctx))
	b.do(b.node.Follow(b.ctx, b.primary.Conninfo()))
	b.rows = 1
	b.commit(b.primary, 3)
	b.has(b.primary)
}

func (b *bench) commitAndSwitch(s *pgserver.Server, note string) {
	b.t.Helper()
	b.do(s.Exec(b.ctx, "INSERT INTO ledger VALUES (1, '"+note+"')"))
	b.do(s.Exec(b.ctx, "SELECT pg_switch_wal()"))
}

// walEnd returns up to where a server has flushed its WAL.
func (b *bench) walEnd(s *pgserver.Server) pg.LSN {
	b.t.Helper()
	text, err := s.Value(b.ctx, "SELECT pg_current_wal_flush_lsn()")
	b.do(err)
	lsn, err := pg.ParseLSN(text)
	b.do(err)
	return lsn
}

// F5: an operator, or Patroni, promotes a real standby. Nobody seals.
func TestPromotedStandbyIsFollowedAndTheLongerTailIsNamed(t *testing.T) {
	b := newBench(t)
	standby := b.newStandby(b.primary)
	b.commit(b.primary, 3)
	b.awaitValue(standby, "SELECT count(*) FROM ledger", fmt.Sprint(b.rows))
	b.do(standby.Configure(b.ctx, map[string]string{"primary_conninfo": ""}))
	b.awaitValue(b.primary, "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'standby'", "0")
	onStandby := b.rows
	b.commit(b.primary, 5) // that the standby never gets
	b.do(b.primary.Kill())
	b.explains("the promoted standby lacks acknowledged commits, and that is an alarm", "was set aside")

	b.do(standby.Promote(b.ctx))
	status := b.follow(standby, 2)
	fork := b.fork(standby, 2)
	if len(status.Diverged) != 1 || status.Diverged[0].TLI != 1 || status.Diverged[0].From != fork {
		t.Errorf("diverged %+v, want TLI 1 from %s", status.Diverged, fork)
	}
	b.synchronous(standby)
	b.rows = onStandby
	b.commit(standby, 3)
	b.has(standby)
}

// The same, when we are not ahead: nothing is lost, and nothing is said.
func TestPromotedStandbyThatHasAllIsFollowed(t *testing.T) {
	b := newBench(t)
	standby := b.newStandby(b.primary)
	b.fill(b.primary, 1)
	b.switchover(b.primary, standby, 2)
	b.synchronous(standby)
	b.commit(standby, 3)
	b.has(standby)
}

// F6: two promotions chose the same TLI, and their histories are equal.
func TestSecondPromotionOfOneSealIsRefused(t *testing.T) {
	b := newBench(t)
	b.commit(b.primary, 3)
	b.do(b.primary.Kill())
	seal, err := b.node.Seal(b.ctx)
	b.do(err)
	settings := map[string]string{"synchronous_standby_names": rig.NodeID}
	first := b.restore(b.node.RestoreCommand(), settings)
	second := b.restore(b.node.RestoreCommand(), settings) // nobody has seen the first yet
	if f, s := b.fork(first, 2), b.fork(second, 2); f != seal.End || s != seal.End {
		t.Fatalf("the forks are %s and %s, the seal's end is %s", f, s, seal.End)
	}
	b.follow(first, 2)
	b.commit(first, 3)
	b.do(b.node.Follow(b.ctx, second.Conninfo()))
	b.refused()
	b.hangs(second, "INSERT INTO ledger VALUES (-1)")
	b.do(b.node.Follow(b.ctx, first.Conninfo()))
	b.commit(first, 3)
	b.has(first)
}

// A source that lacks acknowledged commits, on a TLI that was sealed.
func TestForkBelowTheSealIsRefusedUnlessAccepted(t *testing.T) {
	b := newBench(t)
	b.fill(b.primary, 1)
	early := b.restore(b.node.RestoreCommand("--copy"), map[string]string{"synchronous_standby_names": rig.NodeID})
	onEarly := b.rows - 3
	b.do(b.primary.Kill())
	seal, err := b.node.Seal(b.ctx)
	b.do(err)
	b.do(b.node.Follow(b.ctx, early.Conninfo()))
	b.refused(seal.End.String(), b.fork(early, 2).String())
	b.hangs(early, "INSERT INTO ledger VALUES (-1)")

	b.explains("an operator accepted the loss", "was set aside")
	b.do(b.node.Follow(b.ctx, early.Conninfo(), "--accept-data-loss"))
	b.await("the TLI is followed", func(s rig.Status) bool { return s.TLI == 2 && s.Source.Connected })
	b.do(early.Exec(b.ctx, "DELETE FROM ledger WHERE id = -1"))
	b.rows = onEarly
	b.commit(early, 3)
	b.has(early)
}

// F17
func TestChangedSynchronousStandbyNamesAreNoticed(t *testing.T) {
	b := newBench(t)
	b.await("the quorum is read", func(s rig.Status) bool { return s.Quorum.Synchronous && s.Quorum.K == 1 && s.Quorum.N == 1 })
	b.explains("nobody waits for the node any more", "^whether commits of the source wait")
	for value, synchronous := range map[string]bool{"": false, "somebody_else": false, "ANY 1 (" + rig.NodeID + ", b)": true} {
		b.do(b.primary.Configure(b.ctx, map[string]string{"synchronous_standby_names": value}))
		changed := time.Now()
		s := b.await("the change is noticed", func(s rig.Status) bool { return s.Quorum.Text == value })
		if s.Quorum.Synchronous != synchronous || (!synchronous && s.Quorum.Why == "") {
			t.Errorf("synchronous_standby_names %q: %+v", value, s.Quorum)
		}
		if took := time.Since(changed); took > 25*time.Second {
			t.Errorf("noticed after %v", took)
		}
	}
}

// S9
func TestMissingWALIsNamed(t *testing.T) {
	for name, lose := range map[string]string{
		"slot dropped":     "SELECT pg_drop_replication_slot('sluice_node')",
		"slot invalidated": "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBenchWith(t, pgserver.Options{SegmentSizeMiB: segmentMiB, Config: map[string]string{
				"wal_keep_size": "0", "min_wal_size": "2MB", "max_wal_size": "2MB",
			}})
			b.commit(b.primary, 3)
			b.do(b.node.Kill())
			b.do(b.primary.Configure(b.ctx, map[string]string{"synchronous_standby_names": ""}))
			b.do(b.primary.Exec(b.ctx, lose))
			b.do(b.primary.Exec(b.ctx, "SELECT pg_reload_conf()"))
			for range 6 {
				b.do(b.primary.Exec(b.ctx, "CREATE TABLE t(); DROP TABLE t; SELECT pg_switch_wal()"))
				b.do(b.primary.Exec(b.ctx, "CHECKPOINT"))
			}
			b.explains("WAL is missing, and a person must act", "missing", "synchronous")
			b.do(b.node.Start(b.ctx))
			b.synchronous(b.primary)
			s := b.await("the missing WAL is named", func(s rig.Status) bool { return s.Source.State == "missing_wal" })
			if s.Source.Error == "" {
				t.Error("no text says what to do")
			}
			b.hangs(b.primary, "INSERT INTO ledger VALUES (-1)")
		})
	}
}

// S15
func TestRemoteApplyIsSaid(t *testing.T) {
	b := newBench(t)
	b.explains("commits with remote_apply wait for ever, and the operator has to know", "^whether commits of the source wait")
	b.do(b.primary.Configure(b.ctx, map[string]string{"synchronous_commit": "remote_apply"}))
	b.awaitValue(b.primary, "SHOW synchronous_commit", "remote_apply")
	b.hangs(b.primary, "INSERT INTO ledger VALUES (-1)")
	r, err := b.node.Run(b.ctx, "", "timeline", "check", rig.Timeline)
	b.do(err)
	if r.Code == 0 || !strings.Contains(r.Stdout+r.Stderr, "remote_apply") {
		t.Errorf("timeline check: exit %d, %s%s; want a failure that names remote_apply", r.Code, r.Stdout, r.Stderr)
	}
	b.await("remote_apply is named", func(s rig.Status) bool { return strings.Contains(s.Quorum.Why, "remote_apply") })
	shown, err := b.node.Must(b.ctx, "timeline", "show", rig.Timeline)
	b.do(err)
	if !strings.Contains(shown, "remote_apply") {
		t.Errorf("timeline show does not name remote_apply:\n%s", shown)
	}
}

// With synchronous_commit = local nobody waits, whatever synchronous_standby_names says.
func TestCommitsThatDoNotWaitAreNotCalledSynchronous(t *testing.T) {
	b := newBench(t)
	b.await("the quorum is read", func(s rig.Status) bool { return s.Quorum.Synchronous })
	b.explains("commits wait for nobody, and the operator has to know", "^whether commits of the source wait")
	b.do(b.primary.Configure(b.ctx, map[string]string{"synchronous_commit": "local"}))
	s := b.await("the change is noticed", func(s rig.Status) bool { return !s.Quorum.Synchronous })
	if !strings.Contains(s.Quorum.Why, "synchronous_commit") {
		t.Errorf("it does not say why: %+v", s.Quorum)
	}
}
