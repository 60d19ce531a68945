package durability

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// world is a primary, what keeps its WAL, and the memory of what was committed.
type world struct {
	t      testing.TB // for its log; failures are returned
	seed   int64
	dir    string
	keeper keeper
	disk   *rig.Disk // the keeper's; nil: it has none of its own
	ledger *ledger

	server  *pgserver.Server // the present primary
	servers int              // started so far, for the names of their directories
	backup  string           // the newest base backup
	load    *load            // on the present primary

	stats stats
}

// settings of each server: small, and quiet between transactions, so that a
// cycle can end on a segment's border.
func settings(segmentMiB int) pgserver.Options {
	return pgserver.Options{
		SegmentSizeMiB: segmentMiB,
		Config: map[string]string{
			"autovacuum":         "off",
			"min_wal_size":       "32MB",
			"max_wal_size":       "96MB",
			"wal_sender_timeout": "10s",
		},
	}
}

// newWorld sets everything up in the order that the README gives a newcomer:
// server, node, timeline, base backup, and then synchronous_standby_names.
func newWorld(t testing.TB, k keeper, disk *rig.Disk, seed int64, segmentMiB int) (*world, error) {
	w := &world{t: t, seed: seed, dir: rig.TempDir(t), keeper: k, disk: disk, ledger: newLedger(seed)}
	t.Cleanup(w.close)
	ctx := t.Context()
	opts := settings(segmentMiB)
	opts.Dir = w.newServerDir()
	var err error
	if w.server, err = pgserver.Start(ctx, opts); err != nil {
		return nil, err
	}
	if err := w.server.Exec(ctx, "CREATE TABLE ledger (id bigint PRIMARY KEY, payload text NOT NULL); CREATE EXTENSION amcheck"); err != nil {
		return nil, err
	}
	if err := k.Adopt(ctx, w.server.Conninfo()); err != nil {
		return nil, err
	}
	if err := w.awaitReserved(ctx); err != nil {
		return nil, err
	}
	if err := w.renewBackup(ctx); err != nil {
		return nil, err
	}
	w.stats = stats{tli: 1, segment: pg.SegmentSize(segmentMiB << 20)}
	return w, w.server.Configure(ctx, map[string]string{"synchronous_standby_names": k.Name()})
}

// awaitReserved waits until the keeper's slot keeps WAL. pg_receivewal makes one that keeps none until it has reported for the
// first time, and the checkpoint with which a base backup begins may remove that until then.
func (w *world) awaitReserved(ctx context.Context) error {
	return rig.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		rows, err := w.server.Query(ctx, "SELECT 1 FROM pg_replication_slots WHERE restart_lsn IS NOT NULL")
		return len(rows) > 0, err
	})
}

func (w *world) close() {
	if w.load != nil {
		w.load.Stop()
	}
	if w.server == nil {
		return
	}
	if err := w.server.Kill(); err != nil {
		w.t.Error(err)
	}
	if w.t.Failed() {
		w.t.Logf("the end of PostgreSQL's log:\n%s", w.server.Log(25))
	}
}

func (w *world) newServerDir() string {
	w.servers++
	return filepath.Join(w.dir, "pg"+strconv.Itoa(w.servers))
}

// renewBackup takes a base backup without WAL: what it lacks has to come from
// the keeper.
func (w *world) renewBackup(ctx context.Context) error {
	dir := filepath.Join(w.dir, fmt.Sprintf("backup-of-pg%d", w.servers))
	if dir == w.backup {
		return nil // this server's is the newest already
	}
	if err := w.server.BaseBackup(ctx, dir, pgserver.NoWAL); err != nil {
		return err
	}
	old := w.backup
	w.backup = dir
	return removeAll(old)
}

// keptTransactions is how many stay in the table, so that a long run's checks
// take no longer than a short one's.
const keptTransactions = 40_000

// prune deletes the oldest rows. From then on they may not come back.
func (w *world) prune(ctx context.Context) error {
	id := w.ledger.old(keptTransactions)
	if err := w.server.Exec(ctx, fmt.Sprintf("DELETE FROM ledger WHERE id < %d", id)); err != nil {
		return err
	}
	w.ledger.forget(id)
	return w.server.Exec(ctx, "VACUUM ledger")
}

// restore starts a new server from the newest base backup and what the keeper
// hands back, and waits until it is promoted. port 0 is a new one.
func (w *world) restore(ctx context.Context, command string, port int) (*pgserver.Server, error) {
	dir := w.newServerDir()
	if err := rig.CopyTree(ctx, w.backup, dir); err != nil {
		return nil, fmt.Errorf("copy the base backup: %w", err)
	}
	settings := map[string]string{"synchronous_standby_names": w.keeper.Name()}
	if err := pgserver.PrepareRestore(dir, command, settings); err != nil {
		return nil, err
	}
	server, err := pgserver.StartExisting(w.t.Context(), pgserver.Options{Dir: dir, Port: port})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, restoreTime, errSlowRestore)
	defer cancel()
	if err := server.WaitPromoted(ctx); err != nil {
		return nil, fmt.Errorf("restore: %w (%w)", err, server.Kill())
	}
	return server, nil
}

// startLoad lets the clients write to the present primary.
func (w *world) startLoad(p plan) {
	w.load = startLoad(w.server, w.keeper.Name(), w.ledger, p, w.seed)
}
