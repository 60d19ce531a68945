package replication

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
)

// libpqOnly are keywords of libpq that pgconn would pass to the server, which does not know them. They stand in every
// primary_conninfo that pg_basebackup -R or Patroni writes. The value says whether leaving them out is harmless; where it
// is not, the user would believe in a protection that is not there.
var libpqOnly = map[string]bool{
	"fallback_application_name": true,
	"gssdelegation":             true,
	"gssencmode":                true,
	"keepalives":                true, // Go's sockets have keepalives, and we have a ReceiveTimeout
	"keepalives_count":          true,
	"keepalives_idle":           true,
	"keepalives_interval":       true,
	"load_balance_hosts":        true,
	"ssl_min_protocol_version":  true, // see minTLS
	"sslcompression":            true,
	"tcp_user_timeout":          true,

	"requirepeer":              false,
	"ssl_max_protocol_version": false,
	"sslcrl":                   false,
	"sslcrldir":                false,
}

// errCancelRequest keeps pgconn from opening a second connection, to cancel a command, when a context ends: closing the
// first is enough, and nothing may stay behind.
var errCancelRequest = errors.New("no cancel requests on a replication connection")

// mayDial marks the contexts in which pgconn may open a connection.
type mayDial struct{}

// parse makes pgconn's configuration of the conninfo, for a physical replication connection that the source knows by
// applicationName.
func (c Config) parse(applicationName string) (*pgconn.Config, error) {
	cfg, err := pgconn.ParseConfig(c.Conninfo)
	if err != nil {
		return nil, fmt.Errorf("read the source's conninfo: %w", err)
	}
	if err := checkParams(cfg.RuntimeParams); err != nil {
		return nil, err
	}
	if cfg.RuntimeParams["ssl_min_protocol_version"] == "TLSv1.3" {
		requireTLS13(cfg)
	}
	maps.DeleteFunc(cfg.RuntimeParams, func(key, _ string) bool { return libpqOnly[key] })
	cfg.RuntimeParams["replication"] = "true"
	cfg.RuntimeParams["application_name"] = applicationName
	// PostgreSQL 13 says only by transaction_read_only that it is in recovery; see inRecovery.
	cfg.RuntimeParams["default_transaction_read_only"] = "off"
	cfg.MaxProtocolMessageBodyLen = maxMessage
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = c.ConnectTimeout
	}
	if cfg.ValidateConnect != nil {
		cfg.ValidateConnect = requirePrimary
	}
	cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if ctx.Value(mayDial{}) == nil {
			return nil, errCancelRequest
		}
		return c.Dial(ctx, network, address)
	}
	return cfg, nil
}

// checkParams refuses what the conninfo may not say.
func checkParams(params map[string]string) error {
	if _, set := params["replication"]; set {
		return errors.New("the source's conninfo sets replication, which Sluice sets itself; leave it out")
	}
	if name, set := params["application_name"]; set && name != os.Getenv("PGAPPNAME") {
		return errors.New("the source's conninfo sets application_name, which Sluice sets to the node's id, " +
			"the name that synchronous_standby_names must list; leave it out")
	}
	for _, key := range slices.Sorted(maps.Keys(params)) {
		if harmless, known := libpqOnly[key]; known && !harmless {
			return fmt.Errorf("the source's conninfo sets %s, which Sluice cannot honour; leave it out", key)
		}
	}
	return nil
}

// requireTLS13 honours the one ssl_min_protocol_version that is above what Go demands anyway.
func requireTLS13(cfg *pgconn.Config) {
	hosts := []*tls.Config{cfg.TLSConfig}
	for _, fallback := range cfg.Fallbacks {
		hosts = append(hosts, fallback.TLSConfig)
	}
	for _, t := range hosts {
		if t != nil {
			t.MinVersion = tls.VersionTLS13
		}
	}
}
