package replication

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Reason says in one word why a source is refused. The list is closed: it is a metric's label.
type Reason string

// The reasons; FAILOVER.md, "Who is there".
const (
	ForeignCluster Reason = "foreign_cluster" // another system identifier or segment size
	Behind         Reason = "behind"          // lacks what is kept: restored or promoted from something older
	Forked         Reason = "forked"          // its history does not contain our newest TLI, or came to it another way
	OtherBytes     Reason = "other_bytes"     // has other bytes below our end; found by the sink, which returns it from Append
	InRecovery     Reason = "in_recovery"     // its commits do not wait for us
	NameTaken      Reason = "name_taken"      // already served to another process under our name
	Sealed         Reason = "sealed"          // still on a TLI that we promised never again to acknowledge
)

// RefusedError is a source that could damage what is kept. Trying again is of use only after somebody has acted on it, or
// the source has changed.
type RefusedError struct {
	Reason Reason
	Text   string // both values, and what to do
}

func (e *RefusedError) Error() string { return "source refused: " + e.Text }

func refuse(reason Reason, format string, args ...any) error {
	return &RefusedError{Reason: reason, Text: fmt.Sprintf(format, args...)}
}

// MissingWALError is a source that no longer has the WAL that comes next. No waiting brings it back.
type MissingWALError struct {
	Text string // what is missing, and what to do
}

func (e *MissingWALError) Error() string { return "WAL is missing: " + e.Text }

// Ends of a session that are nobody's fault.
var (
	// ErrSourceShutdown is the goodbye of a source that was stopped; it waited until we had acknowledged all.
	ErrSourceShutdown = errors.New("the source was shut down")

	errStandby = errors.New("the server is in recovery, and target_session_attrs asks for one that is not")
)

// The SQLSTATEs that are told apart (PostgreSQL's errcodes.txt).
const (
	codeObjectInUse       = "55006" // a slot that another connection uses
	codeDuplicateObject   = "42710" // a slot that exists
	codeUndefinedObject   = "42704" // a slot that does not; at startup, an unknown parameter
	codeUndefinedFile     = "58P01" // WAL or a history that was removed
	codeNotInPrerequisite = "55000" // a slot that was invalidated; slots that cannot be
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
	"53400":               "the source has no free replication slot: raise max_replication_slots, or drop a slot that nobody uses",
	codeNotInPrerequisite: "check wal_level (replica or logical) and max_replication_slots (above 0) on the source",
	codeUndefinedObject:   "the source's conninfo holds a keyword that neither Sluice nor the server knows",
	"57P03":               "the server is starting up, shutting down, or accepts no connections in recovery; it is tried again",
	"57P01":               "the server is being stopped, or an administrator ended our connection",
}

// explain makes an error of pgconn readable for an operator: one line, with what to do. If the context has ended, that is
// the error.
func explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	pgErr := new(pgconn.PgError)
	if errors.As(err, &pgErr) {
		return explainServer(pgErr)
	}
	if pgconn.Timeout(err) {
		return &explainedError{err, "the server, or the network between, hangs"}
	}
	connectErr := new(pgconn.ConnectError)
	if errors.As(err, &connectErr) && !errors.Is(err, errStandby) {
		return &explainedError{err, "check that the server runs, that it listens there (listen_addresses, port), and that nothing between blocks it"}
	}
	return &explainedError{err, ""}
}

// explainServer adds the advice to an error that the server sent.
func explainServer(err *pgconn.PgError) error {
	return &explainedError{err, advice[err.Code]}
}

// explainedError is an error with advice, on one line.
type explainedError struct {
	err    error
	advice string // may be empty
}

func (e *explainedError) Error() string {
	text := oneLine.ReplaceAllString(e.err.Error(), " ")
	if pgErr, ok := e.err.(*pgconn.PgError); ok && pgErr.Detail != "" {
		text += ": " + pgErr.Detail
	}
	if e.advice == "" {
		return text
	}
	return text + "; " + e.advice
}

func (e *explainedError) Unwrap() error { return e.err }

// oneLine matches what pgconn puts between the errors of several hosts.
var oneLine = regexp.MustCompile(`\s*\n\s*`)

// slotUser reads the process id out of "replication slot ... is active for PID ...": in whatever language the server speaks, the
// last number that is not in the slot's name. 0 if there is none.
func slotUser(message, slot string) uint32 {
	numbers := regexp.MustCompile(`\d+`).FindAllString(strings.ReplaceAll(message, slot, ""), -1)
	if len(numbers) == 0 {
		return 0
	}
	pid, err := strconv.ParseUint(numbers[len(numbers)-1], 10, 32)
	if err != nil {
		return 0
	}
	return uint32(pid)
}
