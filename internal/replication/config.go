package replication

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"time"
)

// Config says which source to stream from, under which name. Conninfo and NodeID are required.
type Config struct {
	// Conninfo is libpq's connection string, keywords or URI. It may name several hosts; a target_session_attrs other
	// than any then finds the one that is not in recovery. It may not set application_name or replication.
	Conninfo string
	// NodeID is this node's name: the application_name that synchronous_standby_names knows, and behind "sluice_" the
	// slot's name.
	NodeID string

	// Dial opens the network connections; nil: a [net.Dialer].
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Turns are the node's: connecting waits for one; nil: it does not.
	Turns *Turns
	// ConnectTimeout bounds connecting and authenticating, for each host, unless the conninfo has a connect_timeout;
	// 0: 10 s.
	ConnectTimeout time.Duration
	// StatusInterval is the longest time between two status messages; 0: 10 s, as wal_receiver_status_interval.
	StatusInterval time.Duration
	// ReceiveTimeout is how long a source may be silent, although it is asked for a sign of life after half of it, and
	// how long a command or a write may take; 0: 60 s, as wal_receiver_timeout.
	ReceiveTimeout time.Duration
	// GoodbyeTimeout bounds how long a cancelled session still talks to the source; 0: 500 ms. A sync that is running
	// is waited for, however long it takes.
	GoodbyeTimeout time.Duration
	// RecoveryGrace is how long a source may be in recovery before it is refused: a switchover's time; 0: 60 s.
	RecoveryGrace time.Duration

	// briskly is how close reads must come for waiting in the kernel to pay; 0: 20 ms.
	briskly time.Duration

	// Inquire is called once the source has let us in, before it is asked who it is, and before the sink is asked what it holds:
	// what was decided elsewhere about what is held is taken over here, at each connect, and a source that cannot be reached
	// makes nobody ask. What the source says of itself is newer than the answer, so that it is never found behind for what
	// others did meanwhile. Nothing was made or changed on the source by then. An error ends the session; nil: nobody asks.
	Inquire func(context.Context) error
	// Settings is told the source's settings at the beginning of each stream, before anything of it is acknowledged: what
	// commits wait for is known before the first could count on us. An error ends the session; nil: nobody asks.
	Settings func(context.Context, Settings) error

	// Events are told what happens. They are called by Run's goroutine, which waits for them.
	Events Events
}

// validNodeID is what a slot's name may consist of, less the prefix (PostgreSQL's ReplicationSlotValidateName in slot.c:
// at most 63 bytes of a-z, 0-9 and _).
var validNodeID = regexp.MustCompile(`^[a-z0-9_]{1,40}$`)

// withDefaults replaces what is zero.
func (c Config) withDefaults() Config {
	defaultTo(&c.ConnectTimeout, 10*time.Second)
	defaultTo(&c.StatusInterval, 10*time.Second)
	defaultTo(&c.ReceiveTimeout, 60*time.Second)
	defaultTo(&c.GoodbyeTimeout, 500*time.Millisecond)
	defaultTo(&c.RecoveryGrace, 60*time.Second)
	defaultTo(&c.briskly, 20*time.Millisecond)
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	return c
}

func defaultTo(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

func (c Config) validate() error {
	if !validNodeID.MatchString(c.NodeID) {
		return fmt.Errorf("node id %q: want 1 to 40 characters out of a-z, 0-9 and _, because it names a slot", c.NodeID)
	}
	_, err := c.parse(c.NodeID)
	return err
}

// CheckConninfo says whether a node could use a source by this connection string. It connects to nothing.
func CheckConninfo(conninfo, nodeID string) error {
	return Config{Conninfo: conninfo, NodeID: nodeID}.withDefaults().validate()
}

// SlotName is the physical slot that a node uses on each of its sources.
func SlotName(nodeID string) string { return "sluice_" + nodeID }
