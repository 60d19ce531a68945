package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// connection is this node's connection to NATS.
type connection struct {
	nats   *nats.Conn
	closed chan struct{}
}

// connect begins to connect, and goes on with that for ever; what is heard goes to msgs.
func (b *Broker) connect(ctx context.Context, server *embedded, msgs chan *nats.Msg) (*connection, error) {
	c := &connection{closed: make(chan struct{})}
	nc, err := nats.Connect(b.serverURLs(), b.options(ctx, server, c)...)
	var invalid *url.Error
	switch {
	case errors.As(err, &invalid):
		return nil, fmt.Errorf("connect to NATS: its URL cannot be read: %w", invalid.Err) // without the URL: it may hold a password
	case err != nil:
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	c.nats = nc
	for _, subject := range []string{Subject(b.cfg.Node, "*"), GreetingSubject("*")} {
		if _, err := nc.ChanSubscribe(subject, msgs); err != nil {
			c.close()
			return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
		}
	}
	return c, nil
}

// close ends the connection, and waits until nothing of it is left that could call back.
func (c *connection) close() {
	c.nats.Close()
	<-c.closed
}

func (b *Broker) serverURLs() string {
	if b.cfg.URL == Embedded {
		return nats.DefaultURL // not used: the server is asked for a pipe
	}
	return strings.ReplaceAll(b.cfg.URL, " ", "")
}

func (b *Broker) options(ctx context.Context, server *embedded, c *connection) []nats.Option {
	opts := []nats.Option{
		nats.Name("sluice " + b.cfg.Node),
		nats.NoEcho(),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(b.cfg.Interval / 4),
		nats.ReconnectJitter(b.cfg.Interval/10, b.cfg.Interval/10),
		nats.IgnoreAuthErrorAbort(),       // credentials may be put right
		nats.ReconnectBufSize(-1),         // what could not be sent is out of date once it can
		nats.FlusherTimeout(writeTimeout), // or a server that reads nothing would hold up a round
		nats.Timeout(dialTimeout),
		nats.PingInterval(max(b.cfg.SilentAfter, time.Second)),
		nats.ConnectHandler(func(*nats.Conn) { b.linked(Connection{Up: true}) }),
		nats.ReconnectHandler(func(*nats.Conn) { b.linked(Connection{Up: true}) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { b.linked(Connection{Err: err}) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { b.unreachable(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { b.trouble(err) }),
		nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }), // the last that is ever called
	}
	if server != nil {
		return append(opts, nats.InProcessServer(server.nats), nats.Token(server.token))
	}
	opts = append(opts, nats.SetCustomDialer(dialFunc(func(network, address string) (net.Conn, error) {
		return dial(ctx, network, address)
	})))
	if b.cfg.CredentialsFile != "" {
		opts = append(opts, nats.UserCredentials(b.cfg.CredentialsFile))
	}
	return append(opts, b.cfg.TLS.clientOptions()...)
}

// dialTimeout is how long it may take to connect, writeTimeout how long a write may.
const (
	dialTimeout  = 5 * time.Second
	writeTimeout = 500 * time.Millisecond
)

// dialFunc implements [nats.CustomDialer].
type dialFunc func(network, address string) (net.Conn, error)

// Dial implements [nats.CustomDialer].
func (f dialFunc) Dial(network, address string) (net.Conn, error) { return f(network, address) }

// dial makes a connection that is closed when ctx ends: NATS's client has no context, and would wait for a server that
// does not speak or does not read.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &dialed{c, context.AfterFunc(ctx, func() { _ = c.Close() })}, nil
}

type dialed struct {
	net.Conn
	stop func() bool
}

// Close closes the connection, and lets the context forget it.
func (c *dialed) Close() error {
	c.stop()
	return c.Conn.Close()
}

// linked is told by NATS's client that the connection was made, or lost.
func (b *Broker) linked(c Connection) {
	b.mu.Lock()
	changed := b.link.Up != c.Up
	b.link = c
	b.mu.Unlock()
	if !changed {
		return
	}
	b.ask(func(ctx context.Context) { b.cfg.Events.connected(ctx, c) })
	if c.Up {
		b.tellAll()
	}
}

// unreachable is told why a try to connect failed.
func (b *Broker) unreachable(err error) {
	err = advise(err)
	b.mu.Lock()
	known := b.link.Err != nil && b.link.Err.Error() == err.Error()
	b.link.Err = err
	b.mu.Unlock()
	if !known {
		b.refused(Rejection{Reason: Refused, Err: err})
	}
}

func (b *Broker) trouble(err error) {
	reason := Refused
	if errors.Is(err, nats.ErrSlowConsumer) {
		reason = SlowConsumer
	}
	b.refused(Rejection{Reason: reason, Err: advise(err)})
}

// refused counts on NATS's goroutine, and leaves the event to ours.
func (b *Broker) refused(r Rejection) {
	b.counts.rejected[r.Reason].Add(1)
	b.ask(func(ctx context.Context) { b.cfg.Events.rejected(ctx, r) })
}

// clientOptions are those of a connection to an external server. Without any file, TLS is used where a server's URL
// says so, with the system's roots.
func (t TLS) clientOptions() []nats.Option {
	if t == (TLS{}) {
		return nil
	}
	var cert nats.TLSCertHandler
	if t.Cert != "" {
		cert = t.certificate
	}
	var roots nats.RootCAsHandler
	if t.CA != "" {
		roots = t.roots
	}
	return []nats.Option{nats.ClientTLSConfig(cert, roots)}
}

func (t TLS) certificate() (tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return cert, fmt.Errorf("load the broker's certificate: %w", err)
	}
	return cert, nil
}

func (t TLS) roots() (*x509.CertPool, error) {
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, fmt.Errorf("load the broker's CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("load the broker's CA: %s has no certificate", t.CA)
	}
	return pool, nil
}
