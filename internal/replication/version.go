package replication

import (
	"context"
	"fmt"
	"regexp"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
)

// What PostgreSQL 13 to 18 do differently stands in this file.

// minVersion is the oldest server that Sluice streams from.
const minVersion = 130000

// versionNumbers are the major number of a server_version and, in a released one, the minor.
var versionNumbers = regexp.MustCompile(`^(\d{1,4})(?:\.(\d{1,4}))?`)

// parseVersion makes a number of server_version as libpq's PQserverVersion does: "15.18 (Debian ...)" is 150018, "18beta1" is
// 180000.
func parseVersion(s string) (int, error) {
	version := 0
	if found := versionNumbers.FindStringSubmatch(s); found != nil {
		major, _ := strconv.Atoi(found[1])
		minor, _ := strconv.Atoi(found[2]) // 0 if there is none
		version = major*10000 + minor
	}
	if version < minVersion {
		return 0, fmt.Errorf("the source is PostgreSQL %q; Sluice needs 13 or later", s)
	}
	return version, nil
}

// canReadSlot says whether there is READ_REPLICATION_SLOT. Before, a slot's position cannot be asked for here, and
// whether it exists only by trying to make it.
func canReadSlot(version int) bool { return version >= 150000 }

// inRecovery asks whether the server replays WAL instead of making it.
//
// From 14 on the server reports in_hot_standby, and reports it again when it is promoted. Before, a transaction is read-only in
// recovery; default_transaction_read_only, which would make it so anywhere, is switched off when we connect.
func inRecovery(ctx context.Context, conn *pgconn.PgConn) (bool, error) {
	if reported := conn.ParameterStatus("in_hot_standby"); reported != "" {
		return reported == "on", nil
	}
	results, err := conn.Exec(ctx, "SHOW transaction_read_only").ReadAll()
	if err != nil {
		return false, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 1 {
		return false, fmt.Errorf("SHOW transaction_read_only: want one row of one column")
	}
	return string(results[0].Rows[0][0]) == "on", nil
}

// requirePrimary is pgconn's check of target_session_attrs=read-write for replication connections. Its own asks in small
// letters ("show"), which a walsender takes for SQL and refuses.
func requirePrimary(ctx context.Context, conn *pgconn.PgConn) error {
	recovering, err := inRecovery(ctx, conn)
	if err == nil && !recovering {
		return nil
	}
	if conn.IsClosed() {
		abandon(conn)
	}
	if err != nil {
		return err
	}
	return errStandby
}
