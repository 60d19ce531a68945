package broker

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// embedded is the NATS server inside this process. Its only client is this process, over a pipe; other nodes' servers
// are its routes. It stores nothing.
type embedded struct {
	nats  *server.Server
	token string // of its only client; "" where there is no socket
}

// routeErrorReports is how many tries to reach another node's server, one a second, share a line of the log.
const routeErrorReports = 3600

// startTimeout is how long the embedded server may take to listen.
const startTimeout = 10 * time.Second

// startServer starts the embedded server; it returns nil where an external one is used.
func (b *Broker) startServer(ctx context.Context) (*embedded, error) {
	if b.cfg.URL != Embedded {
		return nil, nil
	}
	opts, err := b.cfg.serverOptions()
	if err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	log := &serverLog{log: b.cfg.Log}
	s.SetLogger(log, false, false)
	e := &embedded{nats: s, token: opts.Authorization}
	s.Start()
	if err := e.ready(ctx, log); err != nil {
		e.stop()
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	b.listensAt(ctx, s)
	return e, nil
}

// ready waits until the server listens.
func (e *embedded) ready(ctx context.Context, log *serverLog) error {
	for began := time.Now(); ; {
		if e.nats.ReadyForConnections(50 * time.Millisecond) {
			return nil
		}
		switch err := log.fatal(); {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case time.Since(began) > startTimeout:
			return errors.New("it does not begin to listen")
		}
	}
}

func (e *embedded) stop() {
	if e == nil {
		return
	}
	e.nats.Shutdown()
	e.nats.WaitForShutdown()
}

// listensAt notes where the other nodes' servers connect.
func (b *Broker) listensAt(ctx context.Context, s *server.Server) {
	addr := s.ClusterAddr()
	if addr == nil {
		return
	}
	b.mu.Lock()
	b.clusterAddr = addr.String()
	b.mu.Unlock()
	if b.cfg.TLS == (TLS{}) && !addr.IP.IsLoopback() {
		b.cfg.Log.LogAttrs(ctx, slog.LevelWarn,
			"whoever reaches broker.cluster_listen may speak for a node, or can read what they say; set broker.tls",
			slog.String("address", addr.String()))
	}
}

func (c *Config) serverOptions() (*server.Options, error) {
	opts := &server.Options{
		ServerName: c.Node, NoSigs: true, NoSystemAccount: true, MaxPayload: maxMessageBytes, MaxPending: 16 << 20,
	}
	if c.ClusterListen == "" {
		if len(c.Routes) > 0 {
			return nil, errors.New("routes need cluster_listen: the servers of a cluster connect to each other")
		}
		opts.DontListen = true
		return opts, nil
	}
	// With DontListen the server starts no routes, and cannot even be shut down: they wait for the clients' socket
	// (Server.StartRouting). So there is one, on loopback, for whoever knows a token that never leaves this process.
	opts.Host, opts.Port, opts.Authorization = "127.0.0.1", server.RANDOM_PORT, rand.Text()
	host, port, err := net.SplitHostPort(c.ClusterListen)
	if err != nil {
		return nil, fmt.Errorf("cluster_listen: %w", err)
	}
	opts.Cluster.Name, opts.Cluster.Host = "sluice", host
	if opts.Cluster.Port, err = strconv.Atoi(port); err != nil {
		return nil, fmt.Errorf("cluster_listen: %w", err)
	}
	if opts.Cluster.Port == 0 {
		opts.Cluster.Port = server.RANDOM_PORT
	}
	opts.ConnectErrorReports, opts.ReconnectErrorReports = routeErrorReports, routeErrorReports
	opts.Cluster.PoolSize = -1 // one connection to each node carries all there is to say
	if err := c.addRoutes(opts); err != nil {
		return nil, err
	}
	return opts, c.addRouteTLS(opts)
}

// addRoutes takes user and password from the routes: they are those of the cluster.
func (c *Config) addRoutes(opts *server.Options) error {
	for _, route := range c.Routes {
		u, err := url.Parse(route)
		if err != nil {
			return errors.New("a route is not a URL") // the error would show the password
		}
		opts.Routes = append(opts.Routes, u)
		password, _ := u.User.Password()
		if opts.Cluster.Username == "" {
			opts.Cluster.Username, opts.Cluster.Password = u.User.Username(), password
		}
		if u.User.Username() != opts.Cluster.Username || password != opts.Cluster.Password {
			return errors.New("the routes name several users or passwords; a cluster has one")
		}
	}
	return nil
}

// addRouteTLS makes both ends of a route show a certificate of the same CA.
func (c *Config) addRouteTLS(opts *server.Options) error {
	if c.TLS == (TLS{}) {
		return nil
	}
	if c.TLS.CA == "" || c.TLS.Cert == "" || c.TLS.Key == "" {
		return errors.New("tls between embedded brokers needs ca, cert and key: each end checks the other's certificate")
	}
	roots, err := c.TLS.roots()
	if err != nil {
		return err
	}
	if _, err := c.TLS.certificate(); err != nil {
		return err
	}
	certificate := func() (*tls.Certificate, error) {
		cert, err := c.TLS.certificate()
		return &cert, err
	}
	opts.Cluster.TLSTimeout = 5
	opts.Cluster.TLSConfig = &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate() },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate() },
	}
	return nil
}

// serverLog passes on what the embedded server logs. NATS's own logger ends the process at what it finds fatal; here
// that is an error of the start.
type serverLog struct {
	log *slog.Logger

	mu    sync.Mutex
	first error // guarded by mu; the first that was fatal
}

func (l *serverLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// Fatalf implements [server.Logger].
func (l *serverLog) Fatalf(format string, args ...any) {
	l.mu.Lock()
	if l.first == nil {
		l.first = fmt.Errorf(strings.ToLower(format[:1])+format[1:], args...)
	}
	l.mu.Unlock()
	l.say(slog.LevelWarn, format, args)
}

// Errorf implements [server.Logger]. Routes that fail are tried again, so it is a warning.
func (l *serverLog) Errorf(format string, args ...any) { l.say(slog.LevelWarn, format, args) }

// Warnf implements [server.Logger].
func (l *serverLog) Warnf(format string, args ...any) { l.say(slog.LevelWarn, format, args) }

// Noticef implements [server.Logger].
func (l *serverLog) Noticef(format string, args ...any) { l.say(slog.LevelDebug, format, args) }

// Debugf implements [server.Logger].
func (l *serverLog) Debugf(string, ...any) {}

// Tracef implements [server.Logger].
func (l *serverLog) Tracef(string, ...any) {}

func (l *serverLog) say(level slog.Level, format string, args []any) {
	l.log.LogAttrs(context.Background(), level, "embedded broker", slog.String("said", fmt.Sprintf(format, args...)))
}
