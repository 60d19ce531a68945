package broker

import (
	"context"
	"time"
)

// Reason is why something that came was not used, or something could not be sent; the list is closed.
type Reason string

// The reasons.
const (
	Malformed      Reason = "malformed"
	OtherVersion   Reason = "version"
	WrongSender    Reason = "wrong_sender"    // the message names another node than its subject
	OwnName        Reason = "own_name"        // another process uses this node's name
	EarlierProcess Reason = "earlier_process" // of a node that has restarted, or runs twice
	Late           Reason = "late"            // what is newer about the same timeline stays; the rest is used
	Double         Reason = "double"
	OtherCluster   Reason = "other_cluster" // another system identifier than this node's timeline has
	TooManyNodes   Reason = "too_many_nodes"
	SlowConsumer   Reason = "slow_consumer" // messages came faster than they were read, and NATS dropped some
	Unsent         Reason = "unsent"        // NATS took a message, or a round, no more
	Refused        Reason = "refused"       // NATS refused the connection or a subject
)

// Reasons lists all reasons.
func Reasons() []Reason {
	return []Reason{
		Malformed, OtherVersion, WrongSender, OwnName, EarlierProcess, Late, Double, OtherCluster, TooManyNodes,
		SlowConsumer, Unsent, Refused,
	}
}

// Kind is a kind of message.
type Kind string

// The kinds.
const (
	KindStatus   Kind = "status"
	KindGreeting Kind = "greeting" // it says only that the node is there, to all
)

// Kinds lists all kinds.
func Kinds() []Kind { return []Kind{KindStatus, KindGreeting} }

// Events reports what a broker does. Any field may be nil. They are called on the broker's two goroutines, with
// no lock held, and must be quick.
type Events struct {
	// RoundStarted is called before a round; what it returns, a context derived from the given one, is the round's.
	RoundStarted func(context.Context, RoundKind) context.Context
	// RoundEnded is called with that.
	RoundEnded func(context.Context, Round)
	// Connected is called when NATS is reached or lost.
	Connected func(context.Context, Connection)
	// PeerChanged is called when a node is heard of that was silent or new, and when one falls silent.
	PeerChanged func(context.Context, PeerChange)
	// Rejected is called for each message that is not used, and each that cannot be sent; [Stats] counts them.
	Rejected func(context.Context, Rejection)
}

// RoundKind says what a round tells.
type RoundKind string

// The kinds of rounds.
const (
	RoundActive RoundKind = "active" // the active timelines
	RoundAll    RoundKind = "all"    // all timelines, also to nodes of which it is not known whether they keep them
	RoundEdges  RoundKind = "edges"  // those where something began or ended
)

// Round is a round that has ended.
type Round struct {
	Kind                RoundKind
	Timelines, Messages int
	Bytes               int
	Duration            time.Duration
}

// Connection is whether NATS can be reached.
type Connection struct {
	Up  bool
	Err error // why not; nil: the other side closed it
}

// PeerChange is a node that can be heard, or no longer.
type PeerChange struct {
	Node   string
	Silent bool
}

// Rejection is something that was not used or not sent.
type Rejection struct {
	Reason Reason
	Node   string // "": none that is known
	Err    error  // may be nil
}

func (e *Events) roundStarted(ctx context.Context, k RoundKind) context.Context {
	if e.RoundStarted == nil {
		return ctx
	}
	return e.RoundStarted(ctx, k)
}

func (e *Events) roundEnded(ctx context.Context, r Round) {
	if e.RoundEnded != nil {
		e.RoundEnded(ctx, r)
	}
}

func (e *Events) connected(ctx context.Context, c Connection) {
	if e.Connected != nil {
		e.Connected(ctx, c)
	}
}

func (e *Events) peerChanged(ctx context.Context, c PeerChange) {
	if e.PeerChanged != nil {
		e.PeerChanged(ctx, c)
	}
}

func (e *Events) rejected(ctx context.Context, r Rejection) {
	if e.Rejected != nil {
		e.Rejected(ctx, r)
	}
}
