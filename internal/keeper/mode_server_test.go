package keeper

import (
	"errors"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/timeline"
)

// TestModesWithAServer: a tenant is not detached while commits wait for the node; detached, it leaves no slot, and attached again,
// it goes on where object storage ends, and vouches for what it has once it has caught up.
func TestModesWithAServer(t *testing.T) {
	ctx := t.Context()
	primary := server(t)
	k := realHome(t).start(t, following(objects(t)))
	must(t, k.CreateTimeline(ctx, main1, primary.Conninfo(), false))
	m := member(t, k, main1)
	connected(t, m)
	must(t, primary.Exec(ctx, "CREATE TABLE t AS SELECT generate_series(1, 20000) AS n"))
	must(t, primary.Configure(ctx, map[string]string{"synchronous_standby_names": "a"}))
	if err := k.SetMode(ctx, "acme", timeline.ModeDetached, false); !errors.Is(err, ErrWaitedFor) {
		t.Errorf("detached while commits wait: %v", err)
	}
	if state(m) != timeline.StateRunning || m != member(t, k, main1) {
		t.Errorf("refused, it is %s", state(m))
	}
	must(t, primary.Configure(ctx, map[string]string{"synchronous_standby_names": ""}))
	waitUntil(t, 15*time.Second, "nobody waits", func() bool {
		err := k.SetMode(ctx, "acme", timeline.ModeDetached, false)
		return !errors.Is(err, ErrWaitedFor) && err == nil
	})
	if n := count(t, primary, "SELECT count(*) FROM pg_replication_slots"); n != "0" {
		t.Errorf("detached, and %s slots are there", n)
	}
	if m = member(t, k, main1); m.Control().Start.TLI != 0 {
		t.Errorf("its WAL is still here: %+v", m.Control())
	}
	from := m.Control().Stored.Backup.LSN

	must(t, k.SetMode(ctx, "acme", timeline.ModeAttached, false))
	m = member(t, k, main1)
	connected(t, m)
	must(t, primary.Exec(ctx, "INSERT INTO t SELECT generate_series(1, 20000) AS n"))
	waitUntil(t, 15*time.Second, "it goes on", func() bool { return m.Qualified() && m.Log().Flushed().LSN > from })
	if start := m.Control().Start.LSN; start != from {
		t.Errorf("it goes on at %s, and object storage ends at %s", start, from)
	}

	must(t, k.SetMode(ctx, "acme", timeline.ModeSecondary, false))
	if n := count(t, primary, "SELECT count(*) FROM pg_stat_replication"); n != "0" {
		t.Errorf("a warm copy streams: %s", n)
	}
	if m = member(t, k, main1); m.Qualified() || !m.Control().Away {
		t.Error("a warm copy vouches for what does not exist")
	}
	must(t, k.SetMode(ctx, "acme", timeline.ModeAttached, false))
	m = member(t, k, main1)
	connected(t, m)
	must(t, primary.Exec(ctx, "INSERT INTO t SELECT generate_series(1, 2000) AS n"))
	waitUntil(t, 15*time.Second, "its word counts again", m.Qualified)
}
