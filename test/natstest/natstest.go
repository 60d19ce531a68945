// Package natstest is for tests that talk to a NATS server: one as an operator runs it, and what lets nodes in,
// certificates and accounts with credentials. It knows nothing of what is said there.
package natstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Server is a NATS server as an operator runs one, inside the test's process. It ends with the test.
type Server struct {
	*server.Server
	opts server.Options
}

// Start starts one on a free port of loopback, unless the options name a port.
func Start(t testing.TB, opts server.Options) *Server {
	t.Helper()
	opts.Host, opts.NoSigs, opts.NoLog = "127.0.0.1", true, true
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	s := &Server{opts: opts}
	s.Restart(t)
	t.Cleanup(s.Kill)
	return s
}

// Restart starts a server that was killed again, on the same port.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	opts := s.opts
	s.Server = must(server.NewServer(&opts))(t)
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the NATS server does not listen")
	}
	s.opts.Port = s.Addr().(*net.TCPAddr).Port
}

// Kill ends the server; one that has ended stays so.
func (s *Server) Kill() {
	s.Shutdown()
	s.WaitForShutdown()
}

// URL is where clients connect.
func (s *Server) URL() string { return fmt.Sprintf("nats://127.0.0.1:%d", s.opts.Port) }

// Client is somebody else on that server.
func (s *Server) Client(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	closed := make(chan struct{})
	nc := must(nats.Connect(s.URL(), append(opts, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))...))(t)
	t.Cleanup(func() {
		nc.Close()
		<-closed
	})
	return nc
}

// Authority makes certificates.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

// NewAuthority makes one with a key of its own.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t), dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key))(t)
	a.cert = must(x509.ParseCertificate(der))(t)
	a.write(t, "ca", "CERTIFICATE", der)
	return a
}

func (a *Authority) write(t testing.TB, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Files are a CA, and a certificate of it with its key, as PEM files.
type Files struct{ CA, Cert, Key string }

// Issue makes a certificate of 127.0.0.1, for both ends of a connection.
func (a *Authority) Issue(t testing.TB, name string) Files {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der := must(x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key))(t)
	return Files{
		CA:   filepath.Join(a.dir, "ca"),
		Cert: a.write(t, name+".crt", "CERTIFICATE", der),
		Key:  a.write(t, name+".key", "PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key))(t)),
	}
}

// ServerTLS wants a certificate of its clients.
func (a *Authority) ServerTLS(t testing.TB) *tls.Config {
	t.Helper()
	files := a.Issue(t, "server")
	clients := x509.NewCertPool()
	clients.AddCert(a.cert)
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{must(tls.LoadX509KeyPair(files.Cert, files.Key))(t)},
		ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert,
	}
}

// Account is an account of a server, with users that have credentials.
type Account struct {
	// Options are of a server that knows no other account.
	Options server.Options
	key     nkeys.KeyPair
}

// NewAccount makes one, of an operator of its own.
func NewAccount(t testing.TB) *Account {
	t.Helper()
	operator, key := must(nkeys.CreateOperator())(t), must(nkeys.CreateAccount())(t)
	claims := jwt.NewOperatorClaims(must(operator.PublicKey())(t))
	must(claims.Encode(operator))(t)
	public := must(key.PublicKey())(t)
	resolver := &server.MemAccResolver{}
	if err := resolver.Store(public, must(jwt.NewAccountClaims(public).Encode(operator))(t)); err != nil {
		t.Fatal(err)
	}
	opts := server.Options{TrustedOperators: []*jwt.OperatorClaims{claims}, AccountResolver: resolver, NoSystemAccount: true}
	return &Account{Options: opts, key: key}
}

// Credentials is a file with those of a new user, who may publish and subscribe to these subjects.
func (a *Account) Credentials(t testing.TB, publish, subscribe []string) string {
	t.Helper()
	user := must(nkeys.CreateUser())(t)
	claims := jwt.NewUserClaims(must(user.PublicKey())(t))
	claims.Pub.Allow.Add(publish...)
	claims.Sub.Allow.Add(subscribe...)
	text := must(jwt.FormatUserConfig(must(claims.Encode(a.key))(t), must(user.Seed())(t)))(t)
	path := filepath.Join(t.TempDir(), "node.creds")
	must(0, os.WriteFile(path, text, 0o600))(t)
	return path
}
