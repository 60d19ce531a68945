package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/natstest"
	"github.com/sluicewal/sluice/test/rig"
)

// guarded is a node whose broker is a NATS server of an operator's, which wants a certificate and credentials.
type guarded struct {
	*bench
	account *natstest.Account
	files   string // the directory with the files that the node's configuration names
}

// newGuarded starts a node whose files are as given.
func newGuarded(t *testing.T, ca *natstest.Authority, given map[string]string) *guarded {
	t.Helper()
	g := &guarded{account: natstest.NewAccount(t), files: rig.TempDir(t)}
	opts := g.account.Options
	opts.TLSConfig, opts.TLS, opts.TLSVerify = ca.ServerTLS(t), true, true
	server := natstest.Start(t, opts)
	for name, source := range given {
		g.put(t, name, source)
	}
	g.bench = newBenchOn(t, pgserver.Options{SegmentSizeMiB: segmentMiB}, rig.NodeOptions{Binary: program, Config: fmt.Sprintf(
		"broker: {url: %q, credentials_file: \"%[2]s/creds\", tls: {ca: \"%[2]s/ca\", cert: \"%[2]s/cert\", key: \"%[2]s/key\"}}", server.URL(), g.files)})
	return g
}

// put replaces a file of the node's by a copy of another.
func (g *guarded) put(t *testing.T, name, source string) {
	t.Helper()
	text, err := os.ReadFile(source)
	path := filepath.Join(g.files, name)
	for _, step := range []func() error{
		func() error { return err },
		func() error { return os.WriteFile(path+".new", text, 0o600) },
		func() error { return rig.Give(path + ".new") },
		func() error { return os.Rename(path+".new", path) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

// says waits until the node says of its broker that it is connected, or why not.
func (g *guarded) says(connected bool, why string) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.ctx, patience)
	defer cancel()
	var last []byte
	err := rig.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		_, body, err := g.node.Get(ctx, "/v1/node")
		if err != nil {
			return false, err
		}
		last = body
		var node struct {
			Broker struct {
				Connected bool
				Error     string
			}
		}
		err = json.Unmarshal(body, &node)
		return node.Broker.Connected == connected && strings.Contains(node.Broker.Error, why), err
	})
	if err != nil {
		g.t.Fatalf("connected: %t, %q: %v; the node says %s", connected, why, err, last)
	}
}

// TestBrokerWithTLSAndCredentials (B9): a node that is configured by its file comes to a NATS server that wants a certificate and
// credentials. What is wrong with either is said, with the key to look at; it is put right without a restart, and commits go on.
func TestBrokerWithTLSAndCredentials(t *testing.T) {
	ca, strangers := natstest.NewAuthority(t), natstest.NewAuthority(t)
	ours, theirs := ca.Issue(t, rig.NodeID), strangers.Issue(t, rig.NodeID)
	anybody := []string{">"}
	g := newGuarded(t, ca, map[string]string{
		"ca": theirs.CA, "cert": theirs.Cert, "key": theirs.Key, "creds": natstest.NewAccount(t).Credentials(t, anybody, anybody),
	})
	g.explains("the node is refused", `^broker refuses this node`)
	g.says(false, "broker.tls.ca")
	g.commit(g.primary, 3)
	g.put(t, "ca", ours.CA)
	g.says(false, "broker.tls.cert has to be")
	g.put(t, "key", ours.Key)
	g.put(t, "cert", ours.Cert)
	g.says(false, "broker.credentials_file")
	g.commit(g.primary, 3)
	g.put(t, "creds", g.account.Credentials(t, anybody, anybody))
	g.says(true, "")
	g.commit(g.primary, 3)
	log, err := os.ReadFile(g.node.LogFile())
	g.do(err)
	if !strings.Contains(string(log), "broker.tls.ca") {
		t.Error("the log does not say what is wrong with the CA")
	}
}
