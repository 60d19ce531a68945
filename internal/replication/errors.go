package replication

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
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
