package replication

import (
	"strconv"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
)

func TestAnotherClusterIsRefused(t *testing.T) {
	p1, other := server(t, pgserver.Options{}), server(t, pgserver.Options{SegmentSizeMiB: 1})
	sink := empty()
	r := receive(t, p1.Conninfo(), sink, nil)
	r.connected()
	r.stop()
	foreign := receive(t, other.Conninfo(), sink, nil)
	contains(t, foreign.refusal(ForeignCluster),
		value(t, p1, "SELECT system_identifier FROM pg_control_system()"), value(t, other, "SELECT system_identifier FROM pg_control_system()"))
	if n := value(t, other, "SELECT count(*) FROM pg_replication_slots"); n != "0" {
		t.Error("a slot was made on a source that was refused")
	}
}

// F7: a snapshot of the source's volume, that went on by itself, has the same identity, the same TLI, and is ahead.
func TestCopyOfTheSourceIsRefused(t *testing.T) {
	p1 := server(t, pgserver.Options{})
	sink := empty()
	r := receive(t, p1.Conninfo(), sink, nil)
	r.connected()
	must(t, p1.Exec(t.Context(), "CREATE TABLE t (v text)"))
	copied := snapshot(t, p1)
	must(t, p1.Exec(t.Context(), "INSERT INTO t VALUES ('ours')"))
	r.reaches(1, lsnOf(t, p1, "SELECT pg_current_wal_flush_lsn()"))
	r.stop()
	other := existing(t, copied)
	must(t, other.Exec(t.Context(), "INSERT INTO t VALUES ('theirs'); CREATE TABLE u AS SELECT generate_series(1, 10000)"))
	receive(t, other.Conninfo(), sink, nil).refusal(OtherBytes)
	if acked := value(t, other, "SELECT count(*) FROM pg_replication_slots WHERE restart_lsn > '"+sink.end().String()+"'"); acked != "0" {
		t.Error("something was acknowledged to the copy")
	}
}

func TestSourceBehindUsIsRefused(t *testing.T) {
	p1 := server(t, pgserver.Options{})
	sink := empty()
	r := receive(t, p1.Conninfo(), sink, nil)
	r.connected()
	older := snapshot(t, p1)
	must(t, p1.Exec(t.Context(), "CREATE TABLE t AS SELECT generate_series(1, 100000)"))
	r.reaches(1, lsnOf(t, p1, "SELECT pg_current_wal_flush_lsn()"))
	r.stop()
	restored := existing(t, older)
	contains(t, receive(t, restored.Conninfo(), sink, nil).refusal(Behind), sink.end().String())
}

func TestStandbyAsSourceIsRefused(t *testing.T) {
	p1 := server(t, pgserver.Options{})
	p2 := standby(t, p1)
	r := receive(t, p2.Conninfo(), empty(), func(c *Config) { c.RecoveryGrace = 200 * time.Millisecond })
	eventually(t, "it is connecting, and says why", func() bool {
		s := r.State()
		return s.Name == StateConnecting && s.Error != ""
	})
	r.refusal(InRecovery)
	must(t, p2.Promote(t.Context()))
	r.connected()
}

func TestSecondProcessOfOurNameIsRefused(t *testing.T) {
	s := server(t, pgserver.Options{})
	first := receive(t, s.Conninfo(), empty(), nil)
	first.connected()
	sink := empty()
	second := receive(t, s.Conninfo(), sink, nil)
	contains(t, second.refusal(NameTaken), "sluice_a", value(t, s, "SELECT pid FROM pg_stat_replication"))
	if sink.Held().SystemID != 0 {
		t.Error("it has begun a timeline on a source that refused it")
	}
	first.stop()
	second.connected()
}

func TestSlotThatWasDroppedIsMadeWhileTheWALIsThere(t *testing.T) {
	s := server(t, pgserver.Options{SegmentSizeMiB: 1})
	sink := empty()
	r := receive(t, s.Conninfo(), sink, nil)
	r.connected()
	r.stop()
	must(t, s.Exec(t.Context(), "SELECT pg_drop_replication_slot('sluice_a')"))
	must(t, s.Exec(t.Context(), "CREATE TABLE t AS SELECT generate_series(1, 1000)"))
	r = receive(t, s.Conninfo(), sink, nil)
	r.reaches(1, lsnOf(t, s, "SELECT pg_current_wal_flush_lsn()"))
	sink.valid(t)
	r.stop()

	// Now it goes, and the WAL with it.
	must(t, s.Exec(t.Context(), "SELECT pg_drop_replication_slot('sluice_a')"))
	removeWAL(t, s)
	held := sink.end()
	r = receive(t, s.Conninfo(), sink, nil)
	contains(t, errorAs[*MissingWALError](r).Text, "sluice_a, which should have kept it, was not there", "base backup")
	if st := r.State(); st.Name != StateMissingWAL || st.Error == "" {
		t.Errorf("state %+v", st)
	}
	if sink.end() != held {
		t.Error("the sink went on over a hole")
	}
}

// On a border, the slot keeps what comes next, and not the segment that we would compare.
func TestSegmentToCompareWasRemoved(t *testing.T) {
	s := server(t, pgserver.Options{SegmentSizeMiB: 1, Config: map[string]string{"min_wal_size": "2MB", "max_wal_size": "2MB"}})
	sink := empty()
	r := receive(t, s.Conninfo(), sink, nil)
	must(t, s.Exec(t.Context(), "CREATE TABLE t (v text)"))
	must(t, s.Exec(t.Context(), "SELECT pg_switch_wal()"))
	border := lsnOf(t, s, "SELECT pg_current_wal_flush_lsn()")
	r.reaches(1, border)
	r.stop()
	if sink.end() != border || border%mib != 0 {
		t.Skipf("the server wrote on its own account: we are at %s, it was at %s", sink.end(), border)
	}
	removeWAL(t, s)
	below := pg.SegmentName(1, pg.SegmentSize(mib).SegNo(border)-1, mib)
	if n := value(t, s, "SELECT count(*) FROM pg_ls_waldir() WHERE name = '"+below+"'"); n != "0" {
		t.Fatalf("%s is still there", below)
	}
	r = receive(t, s.Conninfo(), sink, nil)
	r.reaches(1, lsnOf(t, s, "SELECT pg_current_wal_flush_lsn()"))
	sink.valid(t)
	if len(r.last) != 0 {
		t.Errorf("a session ended: %v", <-r.last)
	}
}

// removeWAL makes the server write so much that it removes what no slot keeps.
func removeWAL(t *testing.T, s *pgserver.Server) {
	t.Helper()
	for i := range 4 {
		must(t, s.Exec(t.Context(), "CREATE TABLE removed"+strconv.Itoa(i)+" (); SELECT pg_switch_wal()"))
	}
	must(t, s.Exec(t.Context(), "CHECKPOINT"))
	must(t, s.Exec(t.Context(), "CHECKPOINT"))
}

func TestInvalidatedSlotOfAServer(t *testing.T) {
	s := server(t, pgserver.Options{SegmentSizeMiB: 1, Config: map[string]string{
		"max_slot_wal_keep_size": "1MB", "min_wal_size": "2MB", "max_wal_size": "2MB",
	}})
	sink := empty()
	r := receive(t, s.Conninfo(), sink, nil)
	r.connected()
	r.stop()
	removeWAL(t, s)
	if v := value(t, s, "SELECT wal_status FROM pg_replication_slots"); v != "lost" {
		t.Fatalf("wal_status is %s", v)
	}
	r = receive(t, s.Conninfo(), sink, nil)
	contains(t, errorAs[*MissingWALError](r).Text, "invalidated", "max_slot_wal_keep_size")
}
