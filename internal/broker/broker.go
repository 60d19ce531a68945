package broker

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Embedded is the URL of the server inside this process.
const Embedded = "embedded"

// Timelines is what a broker needs of the node that it speaks for. Its methods may be called from two goroutines at
// once; they wait for no I/O, and none holds a lock while it calls tell. A status that tell was given may be reused.
type Timelines interface {
	// Active tells of each timeline that is active.
	Active(tell func(*Status))
	// All tells of each timeline.
	All(tell func(*Status))
	// One tells of a timeline, if the node still keeps it.
	One(key Key, tell func(*Status))
	// Keeps reports whether the node keeps a timeline, and its system identifier, 0 if it has none yet.
	Keeps(Key) (systemID uint64, ok bool)
	// PeerUpdate is called after something that was heard, or not heard any more, changed what [Broker.Peers] says
	// of a timeline.
	PeerUpdate(Key)
}

// TLS names PEM files; they are read at each connection, so that they may be renewed.
type TLS struct{ CA, Cert, Key string }

// Config is what a broker has to be told. All but Node has a default.
type Config struct {
	Node string // this node's id
	// URL is [Embedded], or the servers' addresses: nats://host:port,…
	URL string
	// ClusterListen is where the embedded server waits for those of the other nodes, Routes are theirs: nats://host:port.
	// A route may name a user and a password, all the same one; they are then wanted of those who connect here, too.
	ClusterListen   string
	Routes          []string
	CredentialsFile string // NATS's own format; of an external server
	TLS             TLS

	Interval     time.Duration // between rounds; 0 = 1 s
	SilentAfter  time.Duration // a node that says nothing for so long is silent; 0 = 5 intervals
	RefreshEvery int           // rounds after which all timelines are told, not only the active ones; 0 = 30
	Events       Events
	Log          *slog.Logger // hears what NATS has to say; nil: nobody does
}

// Reaches reports whether anybody can be reached: an embedded server that waits for no other is alone.
func (c *Config) Reaches() bool { return c.URL != "" && (c.URL != Embedded || c.ClusterListen != "") }

// forgetAfter is how long a node, or its word about a timeline, is remembered.
const forgetAfter = 10 * time.Minute

func (c *Config) setDefaults() {
	if c.URL == "" {
		c.URL = Embedded
	}
	if c.Interval == 0 {
		c.Interval = time.Second
	}
	if c.SilentAfter == 0 {
		c.SilentAfter = 5 * c.Interval
	}
	if c.RefreshEvery == 0 {
		c.RefreshEvery = 30
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// Broker exchanges the status of timelines with other nodes. Make one with [New].
type Broker struct {
	cfg       Config
	timelines Timelines
	started   uint64 // says which of the node's processes this is
	peers     *peers
	counts    counts

	bell  chan struct{}              // has room for one; rung after edges or wantAll were set
	asked chan func(context.Context) // what NATS's callbacks leave to the goroutine of the rounds

	mu          sync.Mutex
	edges       map[Key]struct{} // guarded by mu; to be told at once
	wantAll     bool             // guarded by mu; a round of all timelines is wanted
	link        Connection       // guarded by mu
	clusterAddr string           // guarded by mu

	// The rest belongs to the goroutine of the rounds.
	batches  map[string]*batch // by node
	sequence uint64
	scratch  []byte
	to       []string
	lastAll  time.Time

	in message // belongs to the goroutine that listens
}

// New makes a broker that does nothing until it is run.
func New(cfg Config, timelines Timelines) *Broker {
	cfg.setDefaults()
	return &Broker{
		cfg: cfg, timelines: timelines, started: uint64(time.Now().UnixNano()),
		peers: newPeers(cfg.SilentAfter, forgetAfter), counts: newCounts(),
		bell: make(chan struct{}, 1), asked: make(chan func(context.Context), 64),
		edges: make(map[Key]struct{}), batches: make(map[string]*batch),
	}
}

// Run speaks and listens until ctx ends. It fails if the embedded server cannot listen, or the configuration cannot be
// used. A server that is away is no failure: it is tried for ever. When Run returns it has left no goroutine, and calls
// nothing any more; one that failed may be run again.
func (b *Broker) Run(ctx context.Context) error {
	server, err := b.startServer(ctx)
	if err != nil {
		return err
	}
	defer server.stop()
	msgs := make(chan *nats.Msg, receiveQueue)
	conn, err := b.connect(ctx, server, msgs)
	if err != nil {
		return err
	}
	defer conn.close()

	ctx, cancel := context.WithCancel(ctx)
	var listening sync.WaitGroup
	listening.Go(func() { b.listen(ctx, msgs) })
	defer listening.Wait()
	defer cancel()
	b.rounds(ctx, conn.nats)
	return nil
}

// Tell makes the status of a timeline go out at once, because it became active or ceased to be, was created or is
// about to stop being kept. It waits for nothing, and may be called too often.
func (b *Broker) Tell(key Key) {
	b.mu.Lock()
	b.edges[key] = struct{}{}
	b.mu.Unlock()
	b.ring()
}

func (b *Broker) tellAll() {
	b.mu.Lock()
	b.wantAll = true
	b.mu.Unlock()
	b.ring()
}

func (b *Broker) ring() {
	select {
	case b.bell <- struct{}{}:
	default:
	}
}

// ask leaves f to the goroutine of the rounds. There is room for many; what finds none is not done.
func (b *Broker) ask(f func(context.Context)) {
	select {
	case b.asked <- f:
	default:
	}
}

// Peers appends the last word of each peer about a timeline, by the nodes' names.
func (b *Broker) Peers(list []Peer, key Key) []Peer { return b.peers.about(key, list) }

// Nodes lists the other nodes that were heard of in the last ten minutes, by name.
func (b *Broker) Nodes() []Node { return b.peers.list() }

// ClusterAddr is where the embedded server waits for others, "" if nowhere or not yet.
func (b *Broker) ClusterAddr() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.clusterAddr
}

// Stats is what was counted so far.
type Stats struct {
	Connected bool
	Err       error // why not, if that is known
	Sent      map[Kind]uint64
	Received  map[Kind]uint64
	Rejected  map[Reason]uint64
}

// Stats returns what was counted so far.
func (b *Broker) Stats() Stats {
	s := Stats{Sent: load(b.counts.sent), Received: load(b.counts.received), Rejected: load(b.counts.rejected)}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Connected, s.Err = b.link.Up, b.link.Err
	return s
}

// counts has a counter for each word of the closed lists; the maps themselves never change.
type counts struct {
	sent, received map[Kind]*atomic.Uint64
	rejected       map[Reason]*atomic.Uint64
}

func newCounts() counts {
	return counts{sent: counters(Kinds()), received: counters(Kinds()), rejected: counters(Reasons())}
}

func counters[K comparable](keys []K) map[K]*atomic.Uint64 {
	m := make(map[K]*atomic.Uint64, len(keys))
	for _, k := range keys {
		m[k] = new(atomic.Uint64)
	}
	return m
}

func load[K comparable](m map[K]*atomic.Uint64) map[K]uint64 {
	values := make(map[K]uint64, len(m))
	for k, v := range m {
		values[k] = v.Load()
	}
	return values
}

func (b *Broker) reject(ctx context.Context, r Rejection) {
	b.counts.rejected[r.Reason].Add(1)
	b.cfg.Events.rejected(ctx, r)
}
