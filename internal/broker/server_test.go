package broker

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

// external is a NATS server as an operator runs one.
type external struct {
	*server.Server
	opts server.Options
}

func startExternal(t testing.TB, opts server.Options) *external {
	t.Helper()
	opts.Host, opts.NoSigs, opts.NoLog = "127.0.0.1", true, true
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	e := &external{opts: opts}
	e.start(t)
	t.Cleanup(func() { e.kill() })
	return e
}

func (e *external) start(t testing.TB) {
	t.Helper()
	opts := e.opts
	e.Server = must(server.NewServer(&opts))(t)
	e.Start()
	if !e.ReadyForConnections(patience) {
		t.Fatal("the NATS server does not listen")
	}
	e.opts.Port = e.Addr().(*net.TCPAddr).Port // the same when it is started again
}

func (e *external) kill() {
	e.Shutdown()
	e.WaitForShutdown()
}

func (e *external) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", e.opts.Port) }

// client is somebody else on that server.
func (e *external) client(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	closed := make(chan struct{})
	nc := must(nats.Connect(e.url(), append(opts, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))...))(t)
	t.Cleanup(func() {
		nc.Close()
		<-closed
	})
	return nc
}

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

func newAuthority(t testing.TB) *authority {
	a := &authority{key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t), dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key))(t)
	a.cert = must(x509.ParseCertificate(der))(t)
	a.write(t, "ca", "CERTIFICATE", der)
	return a
}

func (a *authority) write(t testing.TB, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// issue makes a certificate of 127.0.0.1, for both ends of a connection.
func (a *authority) issue(t testing.TB, name string) TLS {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der := must(x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key))(t)
	return TLS{
		CA:   filepath.Join(a.dir, "ca"),
		Cert: a.write(t, name+".crt", "CERTIFICATE", der),
		Key:  a.write(t, name+".key", "PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key))(t)),
	}
}

// serverTLS wants a certificate of its clients.
func (a *authority) serverTLS(t testing.TB) *tls.Config {
	files := a.issue(t, "server")
	roots := must(files.roots())(t)
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{must(files.certificate())(t)},
		ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
	}
}

// account is an account of an external server, with users that have credentials.
type account struct {
	key  nkeys.KeyPair
	opts server.Options
}

func newAccount(t testing.TB) *account {
	operator, key := must(nkeys.CreateOperator())(t), must(nkeys.CreateAccount())(t)
	claims := jwt.NewOperatorClaims(must(operator.PublicKey())(t))
	must(claims.Encode(operator))(t)
	public := must(key.PublicKey())(t)
	resolver := &server.MemAccResolver{}
	if err := resolver.Store(public, must(jwt.NewAccountClaims(public).Encode(operator))(t)); err != nil {
		t.Fatal(err)
	}
	return &account{key, server.Options{TrustedOperators: []*jwt.OperatorClaims{claims}, AccountResolver: resolver, NoSystemAccount: true}}
}

// credentials are of a node that may say nothing in another's name.
func (a *account) credentials(t testing.TB, node string) string {
	t.Helper()
	user := must(nkeys.CreateUser())(t)
	claims := jwt.NewUserClaims(must(user.PublicKey())(t))
	claims.Pub.Allow.Add(Subject("*", node), GreetingSubject(node))
	claims.Sub.Allow.Add(Subject(node, "*"), GreetingSubject("*"))
	text := must(jwt.FormatUserConfig(must(claims.Encode(a.key))(t), must(user.Seed())(t)))(t)
	path := filepath.Join(t.TempDir(), node+".creds")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
