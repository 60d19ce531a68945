package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// standbyName is the standby's application_name, and its slot's.
const standbyName = "standby"

// backup takes what a standby begins with.
func (f *field) backup() string {
	f.t.Helper()
	dir := filepath.Join(f.dir, "backup")
	must(f.t, f.primary.BaseBackup(f.ctx, dir, pgserver.FetchWAL))
	return dir
}

// newStandby makes a standby of a backup and starts it. It syncs what it
// receives, as any does.
func (f *field) newStandby(backup string) *pgserver.Server {
	f.t.Helper()
	dir := filepath.Join(rig.TempDir(f.t), "standby")
	must(f.t, rig.CopyTree(f.ctx, backup, dir))
	conf, err := os.OpenFile(filepath.Join(dir, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	must(f.t, err)
	_, err = fmt.Fprintf(conf, "fsync = on\nwal_receiver_status_interval = 1\nprimary_slot_name = '%s'\nprimary_conninfo = '%s application_name=%s'\n",
		standbyName, f.primary.Conninfo(), standbyName)
	must(f.t, err)
	must(f.t, conf.Close())
	must(f.t, os.WriteFile(filepath.Join(dir, "standby.signal"), nil, 0o644))
	s, err := pgserver.StartExisting(f.ctx, pgserver.Options{Dir: dir})
	must(f.t, err)
	f.t.Cleanup(func() { must(f.t, s.Kill()) })
	return s
}

// receiverOf waits for a standby's walreceiver. What replaying costs, in another
// process, is not counted.
func (f *field) receiverOf(s *pgserver.Server) (pid int) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, time.Minute)
	defer cancel()
	must(f.t, s.WaitReady(ctx))
	must(f.t, rig.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		v, err := s.Value(ctx, "SELECT coalesce(max(pid), 0) FROM pg_stat_wal_receiver")
		if err != nil {
			return false, err
		}
		pid, err = strconv.Atoi(v)
		return pid != 0, err
	}))
	return pid
}
