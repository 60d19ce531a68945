package broker

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/test/natstest"
)

var one = numbered(1)

// pair starts nodes a and b on an external server, both of which keep timeline 1, and waits until they know it.
func pair(t testing.TB, e *natstest.Server) (a, b *member) {
	t.Helper()
	a = start(t, Config{Node: "a", URL: e.URL()}, newFake(active(one, 0x2000000)))
	b = start(t, Config{Node: "b", URL: e.URL()}, newFake(active(one, 0x3000000)))
	a.knows(t, "b", one, 0x3000000)
	b.knows(t, "a", one, 0x2000000)
	return a, b
}

// goesOn checks that what a says still arrives at b.
func goesOn(t testing.TB, a, b *member) {
	t.Helper()
	p, _ := b.word(a.cfg.Node, one)
	s := active(one, p.Flush.LSN+1)
	a.set(s)
	b.knows(t, a.cfg.Node, one, s.Flush.LSN)
}

func TestNodesHearOfEachOther(t *testing.T) {
	a, b := pair(t, natstest.Start(t, server.Options{}))
	goesOn(t, a, b)
	goesOn(t, b, a)
	if s := a.Stats(); !s.Connected || s.Err != nil || s.Sent[KindStatus] == 0 || s.Received[KindGreeting] == 0 {
		t.Errorf("%+v", s)
	}
	eventually(t, "a hears b", func() bool {
		nodes := a.Nodes()
		return len(nodes) == 1 && nodes[0].ID == "b" && !nodes[0].Silent && time.Since(nodes[0].Heard) < patience
	})
	for _, r := range Reasons() {
		if n := a.rejected(r) + b.rejected(r); n > 0 {
			t.Errorf("%d messages were rejected: %s", n, r)
		}
	}
}

// TestInactiveTimelinesAreKnown: they are told when nodes meet.
func TestInactiveTimelinesAreKnown(t *testing.T) {
	e := natstest.Start(t, server.Options{})
	idle := active(one, 0x2000000)
	idle.Active = false
	a := start(t, Config{Node: "a", URL: e.URL()}, newFake(idle))
	b := start(t, Config{Node: "b", URL: e.URL()}, newFake(idle))
	a.knows(t, "b", one, 0x2000000)
	b.knows(t, "a", one, 0x2000000)
	if p, _ := a.word("b", one); p.Active {
		t.Error("b said that its timeline is active")
	}
}

func TestEdgesAreToldAtOnce(t *testing.T) {
	e := natstest.Start(t, server.Options{})
	s := active(one, 0x2000000)
	s.Active = false
	a := start(t, Config{Node: "a", URL: e.URL()}, newFake(s))
	b := start(t, Config{Node: "b", URL: e.URL()}, newFake(s))
	a.knows(t, "b", one, 0x2000000)
	b.knows(t, "a", one, 0x2000000)
	// From here on an inactive timeline is not told for 30 intervals.
	s.Flush.LSN = 0x2000001
	a.set(s)
	a.Tell(one)
	b.knows(t, "a", one, 0x2000001)
	// One that was not there when they met is told to whoever may keep it.
	two := active(numbered(2), 0x5000000)
	two.Active = false
	b.set(two)
	a.set(two)
	a.Tell(two.Key)
	b.knows(t, "a", two.Key, 0x5000000)
	// One that is not kept any more is nothing to tell.
	a.drop(two.Key)
	a.Tell(two.Key)
	goesOn(t, a, b)
}

func TestOnlyThoseWhoKeepATimelineAreToldOfIt(t *testing.T) {
	t.Parallel() // it mostly waits
	e := natstest.Start(t, server.Options{})
	member := func(node string, key Key) *member { // whom a busy machine does not make silent
		return start(t, Config{Node: node, URL: e.URL(), SilentAfter: time.Hour}, newFake(active(key, 0x2000000)))
	}
	a, b, c := member("a", one), member("b", one), member("c", numbered(2))
	a.knows(t, "b", one, 0x2000000)
	b.knows(t, "a", one, 0x2000000)
	eventually(t, "a has heard of c", func() bool { return len(a.Nodes()) == 2 })

	var toB, toC atomic.Int64
	nc := e.Client(t)
	for node, n := range map[string]*atomic.Int64{"b": &toB, "c": &toC} {
		must(nc.Subscribe(Subject(node, "a"), func(*nats.Msg) { n.Add(1) }))(t)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a has told b again and again", func() bool { return toB.Load() >= 35 })
	// Only rounds of all timelines go to c: when they met, and at each 30th interval.
	if c, b := toC.Load(), toB.Load(); c > 6+b/30 {
		t.Errorf("c was told %d times, b %d times", c, b)
	}
	if len(c.Peers(nil, one)) != 0 {
		t.Error("c stores what it does not keep")
	}
	goesOn(t, a, b)
}

func TestManyTimelinesGoIntoFewMessages(t *testing.T) {
	t.Parallel() // it mostly waits
	e := natstest.Start(t, server.Options{})
	const n = 5000
	fakes := [2]*fake{newFake(), newFake()}
	for i := range n {
		fakes[0].set(active(numbered(i), pg.LSN(i+1)))
		fakes[1].set(active(numbered(i), pg.LSN(i+1)))
	}
	var mu sync.Mutex
	var rounds []Round
	interval := 200 * time.Millisecond
	start(t, Config{Node: "a", URL: e.URL(), Interval: interval, SilentAfter: patience, Events: Events{
		RoundEnded: func(_ context.Context, r Round) {
			mu.Lock()
			defer mu.Unlock()
			rounds = append(rounds, r)
		},
	}}, fakes[0])
	b := start(t, Config{Node: "b", URL: e.URL(), Interval: interval, SilentAfter: patience}, fakes[1])
	for i := range n {
		b.knows(t, "a", numbered(i), pg.LSN(i+1))
	}
	if n := b.rejected(Malformed) + b.rejected(SlowConsumer); n > 0 {
		t.Errorf("%v", b.Stats().Rejected)
	}
	mu.Lock()
	defer mu.Unlock()
	at := slices.IndexFunc(rounds, func(r Round) bool { return r.Messages > 0 })
	if r := rounds[at]; r.Timelines != n || r.Messages > 2+r.Bytes/(maxMessageBytes-statusRoom) {
		t.Errorf("%+v", r)
	}
}

// TestASlowSubscriberDisturbsNobody: b does not come to read, and node c and the server have to go on. Nobody falls silent for b
// meanwhile: what is held up is what it hears.
func TestASlowSubscriberDisturbsNobody(t *testing.T) {
	e := natstest.Start(t, server.Options{})
	a := start(t, Config{Node: "a", URL: e.URL()}, newFake(active(one, 0x2000000)))
	b := start(t, Config{Node: "b", URL: e.URL(), SilentAfter: time.Hour}, newFake(active(one, 0x3000000)))
	a.knows(t, "b", one, 0x3000000)
	b.knows(t, "a", one, 0x2000000)
	c := start(t, Config{Node: "c", URL: e.URL()}, newFake(active(one, 0x4000000)))
	c.knows(t, "a", one, 0x2000000)
	a.knows(t, "c", one, 0x4000000)

	hold := make(chan struct{})
	b.holdUp(hold)
	goesOn(t, a, c)
	flood := e.Client(t)
	for range 2 * receiveQueue {
		if err := flood.Publish(GreetingSubject("flood"), encodeAs(header{version, "flood", 1, 0})); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "b is said to be slow", func() bool { return b.rejected(SlowConsumer) > 0 })
	goesOn(t, a, c)
	goesOn(t, c, a)
	goesOn(t, b, a) // it goes on speaking

	b.holdUp(nil)
	close(hold)
	goesOn(t, a, b)
}

func TestMalformedMessagesDisturbNobody(t *testing.T) {
	e := natstest.Start(t, server.Options{})
	a, b := pair(t, e)
	nc := e.Client(t)
	good := encodeAs(header{version, "x", 1, 1}, active(one, 0x7000000))
	for _, m := range []struct {
		subject string
		data    []byte
	}{
		{Subject("b", "a"), []byte("hello")},
		{Subject("b", "a"), good[:len(good)-3]},
		{Subject("b", "a"), nil},
		{GreetingSubject("a"), []byte{0xff, 0xff, 0xff}},
		{Subject("b", "a"), good}, // in another's name
		{Subject("b", "x"), encodeAs(header{version + 1, "x", 1, 1})},
	} {
		if err := nc.Publish(m.subject, m.data); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "b has rejected them", func() bool {
		return b.rejected(Malformed) == 4 && b.rejected(WrongSender) == 1 && b.rejected(OtherVersion) == 1
	})
	goesOn(t, a, b)
	goesOn(t, b, a)
	if _, ok := b.word("x", one); ok {
		t.Error("b believes a node that nobody is")
	}
}

func TestANodeHearsNoEchoAndNeedsNone(t *testing.T) {
	e := natstest.Start(t, server.Options{})
	a, b := pair(t, e)
	if _, ok := a.word("a", one); ok {
		t.Error("a is a peer of itself")
	}
	nc := e.Client(t) // sends a's own words back
	must(nc.Subscribe(Subject("b", "a"), func(m *nats.Msg) { _ = nc.Publish(Subject("a", "a"), m.Data) }))(t)
	must(nc.Subscribe(GreetingSubject("a"), func(m *nats.Msg) { _ = nc.Publish(Subject("a", "a"), m.Data) }))(t)
	for range 5 {
		goesOn(t, a, b)
	}
	if n := len(a.Nodes()); n != 1 || a.rejected(OwnName) != 0 {
		t.Errorf("%+v, %v", a.Nodes(), a.Stats().Rejected)
	}
}

func TestASecondProcessUnderOneNameIsSaid(t *testing.T) {
	e := natstest.Start(t, server.Options{})
	a, b := pair(t, e)
	second := start(t, Config{Node: "a", URL: e.URL()}, newFake(active(one, 0x9000000)))
	eventually(t, "all say so", func() bool {
		return a.rejected(OwnName) > 0 && second.rejected(OwnName) > 0 && b.rejected(EarlierProcess) > 0
	})
	goesOn(t, second, b) // the one that started last
}

func TestBrokerRestarts(t *testing.T) {
	e := natstest.Start(t, server.Options{})
	var mu sync.Mutex
	var links []bool
	a := start(t, Config{Node: "a", URL: e.URL(), Events: Events{Connected: func(_ context.Context, c Connection) {
		mu.Lock()
		defer mu.Unlock()
		links = append(links, c.Up)
	}}}, newFake(active(one, 0x2000000)))
	b := start(t, Config{Node: "b", URL: e.URL()}, newFake(active(one, 0x3000000)))
	a.knows(t, "b", one, 0x3000000)
	b.knows(t, "a", one, 0x2000000)
	for range 3 {
		e.Kill()
		eventually(t, "both say that it is away", func() bool { return !a.Stats().Connected && !b.Stats().Connected })
		idle := active(one, 0)
		idle.Active = false
		p, _ := a.word("b", one)
		idle.Flush.LSN = p.Flush.LSN + 1
		b.set(idle) // it changes meanwhile, and is not active any more
		b.Tell(one)
		e.Restart(t)
		a.knows(t, "b", one, idle.Flush.LSN)
		b.set(active(one, idle.Flush.LSN+1))
		a.knows(t, "b", one, idle.Flush.LSN+1)
		goesOn(t, a, b)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []bool{true, false, true, false, true, false, true}; !slices.Equal(links, want) {
		t.Errorf("connected: %v, want %v", links, want)
	}
}

// TestBrokerAway: what a node knows keeps its age, what it does not know it does not invent, and nobody waits.
func TestBrokerAway(t *testing.T) {
	e := natstest.Start(t, server.Options{})
	a, b := pair(t, e)
	e.Kill()
	eventually(t, "a says that b is silent", func() bool {
		nodes := a.Nodes()
		return len(nodes) == 1 && nodes[0].Silent && !a.Stats().Connected && a.Stats().Err != nil
	})
	p, ok := a.word("b", one)
	if !ok || p.Flush.LSN != 0x3000000 || time.Since(p.Heard) < a.cfg.SilentAfter {
		t.Errorf("%+v", p)
	}
	began := time.Now()
	for range 10_000 {
		a.Tell(one)
	}
	if err := a.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > dialTimeout*4/5 {
		t.Errorf("it took %s to tell and to stop", took)
	}
	// One that starts while the broker is away goes on trying.
	c := start(t, Config{Node: "c", URL: e.URL()}, newFake(active(one, 0x4000000)))
	eventually(t, "c says why", func() bool { return c.Stats().Err != nil && c.rejected(Refused) > 0 })
	e.Restart(t)
	b.knows(t, "c", one, 0x4000000)
}

// TestAServerThatSaysNothing accepts, and neither speaks nor reads.
func TestAServerThatSaysNothing(t *testing.T) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer l.Close()
	accepted := make(chan net.Conn, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	a := start(t, Config{Node: "a", URL: "nats://" + l.Addr().String()}, newFake(active(one, 0x2000000)))
	c := <-accepted
	defer c.Close()
	began := time.Now()
	if err := a.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > dialTimeout*4/5 {
		t.Errorf("it took %s to stop", took)
	}
	l.Close()
	for c := range accepted {
		c.Close()
	}
}

// cluster starts nodes with embedded servers that are each other's routes.
func cluster(t testing.TB, userinfo string, ids ...string) []*member {
	t.Helper()
	ca := natstest.NewAuthority(t)
	var members []*member
	var routes []string
	for i, id := range ids {
		m := start(t, Config{
			Node: id, ClusterListen: "127.0.0.1:0", Routes: routes, TLS: TLS(ca.Issue(t, id)),
		}, newFake(active(one, pg.LSN(0x2000000+i))))
		eventually(t, id+" listens", func() bool { return m.ClusterAddr() != "" })
		routes = append(routes, "nats://"+userinfo+m.ClusterAddr())
		members = append(members, m)
	}
	return members
}

func TestEmbeddedServersFormACluster(t *testing.T) {
	nodes := cluster(t, "", "a", "b", "c")
	for _, n := range nodes {
		for i, other := range nodes {
			if other != n {
				n.knows(t, other.cfg.Node, one, pg.LSN(0x2000000+i))
			}
		}
	}
	if err := nodes[1].stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a and c say that b is silent", func() bool {
		silent := func(m *member) bool {
			return slices.ContainsFunc(m.Nodes(), func(n Node) bool { return n.ID == "b" && n.Silent })
		}
		return silent(nodes[0]) && silent(nodes[2])
	})
	goesOn(t, nodes[0], nodes[2])
	goesOn(t, nodes[2], nodes[0])
}

func TestStrangersAreNoRoutes(t *testing.T) {
	t.Parallel() // it mostly waits
	ours, theirs := natstest.NewAuthority(t), natstest.NewAuthority(t)
	a := start(t, Config{Node: "a", ClusterListen: "127.0.0.1:0", TLS: TLS(ours.Issue(t, "a"))}, newFake(active(one, 0x2000000)))
	eventually(t, "a listens", func() bool { return a.ClusterAddr() != "" })
	for name, files := range map[string]TLS{"x": TLS(theirs.Issue(t, "x")), "y": {}} {
		x := start(t, Config{Node: name, ClusterListen: "127.0.0.1:0", Routes: []string{"nats://" + a.ClusterAddr()}, TLS: files},
			newFake(active(one, 0x9000000)))
		eventually(t, "x runs", func() bool { return x.Stats().Sent[KindGreeting] > 20 })
	}
	// A password is wanted of whoever connects, where the routes have one.
	pw := start(t, Config{Node: "p", ClusterListen: "127.0.0.1:0", Routes: []string{"nats://sluice:secret@127.0.0.1:1"}},
		newFake(active(one, 0x2000000)))
	eventually(t, "p listens", func() bool { return pw.ClusterAddr() != "" })
	for name, userinfo := range map[string]string{"q": "sluice:wrong@", "r": "", "s": "sluice:secret@"} {
		x := start(t, Config{Node: name, ClusterListen: "127.0.0.1:0", Routes: []string{"nats://" + userinfo + pw.ClusterAddr()}},
			newFake(active(one, 0x9000000)))
		if name == "s" {
			pw.knows(t, "s", one, 0x9000000)
			continue
		}
		eventually(t, name+" runs", func() bool { return x.Stats().Sent[KindGreeting] > 20 })
	}
	if len(a.Nodes()) != 0 || len(pw.Nodes()) != 1 {
		t.Errorf("%+v, %+v", a.Nodes(), pw.Nodes())
	}
}

// credentials are of a node that may say nothing in another's name.
func credentials(t testing.TB, account *natstest.Account, node string) string {
	t.Helper()
	return account.Credentials(t, []string{Subject("*", node), GreetingSubject(node)}, []string{Subject(node, "*"), GreetingSubject("*")})
}

func TestExternalServerWithTLSAndCredentials(t *testing.T) {
	ca, account := natstest.NewAuthority(t), natstest.NewAccount(t)
	opts := account.Options
	opts.TLSConfig, opts.TLS, opts.TLSVerify = ca.ServerTLS(t), true, true
	e := natstest.Start(t, opts)
	node := func(id string, files TLS, credentials string, flush pg.LSN) *member {
		return start(t, Config{Node: id, URL: e.URL(), TLS: files, CredentialsFile: credentials}, newFake(active(one, flush)))
	}
	a := node("a", TLS(ca.Issue(t, "a")), credentials(t, account, "a"), 0x2000000)
	b := node("b", TLS(ca.Issue(t, "b")), credentials(t, account, "b"), 0x3000000)
	a.knows(t, "b", one, 0x3000000)
	b.knows(t, "a", one, 0x2000000)

	for _, stranger := range []*member{
		node("x", TLS(natstest.NewAuthority(t).Issue(t, "x")), credentials(t, account, "x"), 0x9000000), // another CA
		node("y", TLS{CA: ca.Issue(t, "y").CA}, credentials(t, account, "y"), 0x9000000),                // no certificate
		node("z", TLS(ca.Issue(t, "z")), credentials(t, natstest.NewAccount(t), "z"), 0x9000000),        // another account
		node("v", TLS(ca.Issue(t, "v")), "", 0x9000000),                                                 // no credentials
		node("w", TLS(ca.Issue(t, "w")), credentials(t, account, "a"), 0x9000000),                       // a's: it may not speak as w
	} {
		eventually(t, stranger.cfg.Node+" is refused, and says so", func() bool { return stranger.rejected(Refused) > 0 })
		if err := stranger.stop(); err != nil {
			t.Errorf("node %s: %v", stranger.cfg.Node, err)
		}
	}
	if n := len(a.Nodes()); n != 1 {
		t.Errorf("%+v", a.Nodes())
	}
	goesOn(t, a, b)
}

func TestWhatCannotBeStartedIsSaid(t *testing.T) {
	taken := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer taken.Close()
	files := TLS(natstest.NewAuthority(t).Issue(t, "a"))
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"a port that is taken":              {Config{ClusterListen: taken.Addr().String()}, "address already in use"},
		"routes without a port":             {Config{Routes: []string{"nats://127.0.0.1:6222"}}, "cluster_listen"},
		"two passwords":                     {Config{ClusterListen: "127.0.0.1:0", Routes: []string{"nats://a:b@h:1", "nats://a:c@h:1"}}, "several"},
		"an address without a port":         {Config{ClusterListen: "127.0.0.1"}, "missing port"},
		"half of TLS":                       {Config{ClusterListen: "127.0.0.1:0", TLS: TLS{Cert: files.Cert, Key: files.Key}}, "ca, cert and key"},
		"a CA that is not there":            {Config{ClusterListen: "127.0.0.1:0", TLS: TLS{"/nonexistent", files.Cert, files.Key}}, "no such file"},
		"a CA that is not a CA":             {Config{ClusterListen: "127.0.0.1:0", TLS: TLS{files.Key, files.Cert, files.Key}}, "has no certificate"},
		"a key that is not the cert":        {Config{ClusterListen: "127.0.0.1:0", TLS: TLS{files.CA, files.Cert, files.CA}}, "load the broker's certificate"},
		"a CA of clients that is not there": {Config{URL: "tls://127.0.0.1:1", TLS: TLS{"/nonexistent", files.Cert, files.Key}}, "no such file"},
		"a URL that is none":                {Config{URL: "nats://host:port:port"}, "connect to NATS"},
	} {
		c.cfg.Node = "a"
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := New(c.cfg, newFake()).Run(ctx)
		cancel()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestPasswordsAreNotShown: errors end up in logs.
func TestPasswordsAreNotShown(t *testing.T) {
	for _, cfg := range []Config{
		{Node: "a", ClusterListen: "127.0.0.1:0", Routes: []string{"nats://user:hunter2@h:port"}},
		{Node: "a", URL: "nats://user:hunter2@host:port"},
	} {
		if err := New(cfg, newFake()).Run(t.Context()); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v", err)
		}
	}
}

// sink is a NATS that takes everything.
type sink struct{ messages, bytes int }

func (s *sink) IsConnected() bool { return true }
func (s *sink) LastError() error  { return nil }
func (s *sink) MaxPayload() int64 { return 1 << 20 }
func (s *sink) Publish(_ string, data []byte) error {
	s.messages++
	s.bytes += len(data)
	return nil
}

// dense is timelines that cost nothing to tell of: what is measured is the broker.
type dense []Status

func (d dense) Active(tell func(*Status)) {
	for i := range d {
		tell(&d[i])
	}
}
func (d dense) All(tell func(*Status))   { d.Active(tell) }
func (d dense) One(Key, func(*Status))   {}
func (d dense) Keeps(Key) (uint64, bool) { return 7, true }
func (d dense) PeerUpdate(Key)           {}

// BenchmarkRound makes a round with 10,000 active timelines that two other nodes keep, and reads what one of those says
// in such a round.
func BenchmarkRound(b *testing.B) {
	const n = 10_000
	timelines := make(dense, n)
	for i := range timelines {
		timelines[i] = active(Key{fmt.Sprintf("tenant-%d/main", i), fmt.Sprintf("0195e7a0-0000-7000-8000-%012d", i)}, pg.LSN(i))
		timelines[i].Commit, timelines[i].Backup = timelines[i].Flush, timelines[i].Flush
	}
	// What others say is recorded from a round of theirs.
	type recorded struct {
		subject string
		data    []byte
	}
	say := func(node string, round int) (list []recorded) {
		for i := range timelines {
			timelines[i].Flush.LSN = pg.LSN(i + round*8192)
		}
		other := New(Config{Node: node}, timelines)
		other.sequence = uint64(round * 100)
		other.started = 1
		other.take(b.Context(), GreetingSubject("a"), encodeAs(header{version, "a", 1, 0}), nil)
		other.round(b.Context(), recorder(func(subject string, data []byte) {
			list = append(list, recorded{subject, slices.Clone(data)})
		}), RoundAll)
		return list
	}
	a := New(Config{Node: "a"}, timelines)
	for _, node := range []string{"b", "c"} {
		for _, m := range say(node, 1) {
			a.take(b.Context(), m.subject, m.data, nil)
		}
	}
	b.Run("tell", func(b *testing.B) {
		b.ReportAllocs()
		var s sink
		for b.Loop() {
			a.round(b.Context(), &s, RoundActive)
		}
		b.ReportMetric(float64(s.messages)/float64(b.N), "messages/round")
		b.ReportMetric(float64(s.bytes)/float64(b.N)/n/2, "bytes/status")
	})
	b.Run("hear", func(b *testing.B) {
		b.ReportAllocs()
		for round := 2; b.Loop(); round++ {
			b.StopTimer()
			messages := say("b", round)
			b.StartTimer()
			for _, m := range messages {
				a.take(b.Context(), m.subject, m.data, nil)
			}
		}
	})
}

// recorder is a NATS that hands over what is published.
type recorder func(subject string, data []byte)

func (recorder) IsConnected() bool { return true }
func (recorder) LastError() error  { return nil }
func (recorder) MaxPayload() int64 { return 1 << 20 }
func (r recorder) Publish(subject string, data []byte) error {
	r(subject, data)
	return nil
}
