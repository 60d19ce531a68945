package replication

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// The SQLSTATEs that are told apart (PostgreSQL's errcodes.txt).
const (
	codeObjectInUse       = "55006" // a slot that another connection uses
	codeDuplicateObject   = "42710" // a slot that exists
	codeUndefinedObject   = "42704" // a slot that does not; at startup, an unknown parameter
	codeUndefinedFile     = "58P01" // WAL or a history that was removed
	codeNotInPrerequisite = "55000" // a slot that was invalidated; slots that cannot be
	codeUnsupported       = "0A000" // to read a logical slot here
)

// hasCode says whether err is the server's, with this SQLSTATE.
func hasCode(err error, code string) bool {
	pgErr := new(pgconn.PgError)
	return errors.As(err, &pgErr) && pgErr.Code == code
}

// advice says what an operator can do about an error of the server. What each SQLSTATE means here was tried with
// PostgreSQL 15: InitializeWalSender, ClientAuthentication, InitPostgres, ReplicationSlotCreate.
var advice = map[string]string{
	"28P01": "check the password in the source's conninfo, or in the password file that it names",
	"28000": "check that the role exists and may log in, and that the source's pg_hba.conf has a line for it whose " +
		"database is the word replication (\"all\" does not include it): host replication ROLE ADDRESS scram-sha-256; then reload",
	"42501": "give the role the right to replicate: ALTER ROLE name REPLICATION",
	"53300": "the source has no connection left for us: raise max_wal_senders (each node needs two) or max_connections, and check " +
		"that wal_level is not minimal, which allows none",
	"53400": "the source has no free replication slot: raise max_replication_slots, or drop a slot that nobody uses",
	codeNotInPrerequisite: "check wal_level (replica or logical) and max_replication_slots (above 0) on the source, and that a slot " +
		"of our name is a physical one",
	codeUnsupported:     "check that a slot of our name on the source is a physical one",
	codeUndefinedObject: "the source's conninfo holds a keyword that neither Sluice nor the server knows",
	"57P03":             "the server is starting up, shutting down, or accepts no connections in recovery; it is tried again",
	"57P01":             "the server is being stopped, or an administrator ended our connection",
}

// hint is for errors in which no server spoke.
const hint = "check that the server runs, that it listens there (listen_addresses, port), and that nothing between blocks it"

// explain makes an error of pgconn readable for an operator: one line, with what to do. If the context has ended, that is
// the error.
func explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return advise(err)
}

// advise is explain for an error that no context can have caused.
func advise(err error) error {
	text, what := err.Error(), ""
	pgErr, connectErr := new(pgconn.PgError), new(pgconn.ConnectError)
	if errors.As(err, &connectErr) {
		text, what = attempts(connectErr), hint
	}
	switch {
	case errors.As(err, &pgErr):
		what = advice[pgErr.Code]
		if pgErr.Detail != "" {
			what = strings.TrimPrefix(pgErr.Detail+"; "+what, "; ")
		}
	case errors.Is(err, errStandby):
		what = ""
	case pgconn.Timeout(err):
		what = "the server, or the network between, hangs"
	}
	return &explainedError{text, what, err}
}

// adviseOnRoom adds what to do to an error of the sink's that a full disk caused.
func adviseOnRoom(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &explainedError{err.Error(), "nothing is lost, but commits that wait for us go on waiting: make room on that disk, and it goes on by itself", err}
	}
	return err
}

// attempts is what became of each attempt to connect. pgconn makes two for a host, with TLS and without, of which the first
// is not worth a word where the server has none.
func attempts(err *pgconn.ConnectError) string {
	var lines []string
	for line := range strings.Lines(errors.Unwrap(err).Error()) {
		if line = strings.TrimSpace(line); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	told := slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.Contains(line, "server refused TLS") })
	if len(told) == 0 {
		told = lines
	}
	return strings.Join(told, "; ")
}

// explainedError is an error with what to do about it.
type explainedError struct {
	text   string
	advice string // may be empty
	err    error
}

func (e *explainedError) Error() string {
	if e.advice == "" {
		return e.text
	}
	return e.text + "; " + e.advice
}

func (e *explainedError) Unwrap() error { return e.err }

// serverMessage is what the server said, if err is an error of its.
func serverMessage(err error) string {
	pgErr := new(pgconn.PgError)
	if errors.As(err, &pgErr) {
		return pgErr.Message
	}
	return err.Error()
}
