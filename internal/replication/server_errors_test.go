package replication

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pgserver"
)

// connectError is what a session says that cannot begin.
func connectError(t *testing.T, conninfo string) string {
	t.Helper()
	r, err := NewReceiver(Config{Conninfo: conninfo, NodeID: "a"}, empty())
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err = r.Run(ctx)
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %s", err)
	}
	if s := r.State(); s.Name != StateConnecting || s.Error != err.Error() {
		t.Errorf("state %+v", s)
	}
	return err.Error()
}

func TestErrorsSayWhatToDo(t *testing.T) {
	s := server(t, pgserver.Options{Password: "right", HBA: []string{"host replication nowhere 127.0.0.1/32 reject"}})
	must(t, s.Exec(t.Context(), "CREATE ROLE plain LOGIN PASSWORD 'p'; CREATE ROLE nowhere LOGIN REPLICATION PASSWORD 'p'"))
	host := "host=127.0.0.1 port=" + strconv.Itoa(s.Port()) + " "
	for name, test := range map[string]struct {
		conninfo string
		says     []string
	}{
		"wrong password": {host + "user=postgres password=wrong", []string{"password authentication failed", "28P01", "check the password"}},
		"no such role":   {host + "user=nobody password=p", []string{"authentication failed", "nobody"}},
		"no REPLICATION": {host + "user=plain password=p", []string{"42501", "ALTER ROLE name REPLICATION"}},
		"pg_hba.conf":    {host + "user=nowhere password=p", []string{"pg_hba.conf", "host replication"}},
		"unknown key":    {host + "user=postgres password=right hots=x", []string{"hots", "neither Sluice nor the server knows"}},
		"nobody listens": {"host=127.0.0.1 port=" + strconv.Itoa(freePort(t)), []string{"refused", "check that the server runs"}},
		"no such host":   {"host=nowhere.invalid", []string{"nowhere.invalid", "check that the server runs"}},
	} {
		text := connectError(t, test.conninfo)
		for _, part := range test.says {
			if !strings.Contains(text, part) {
				t.Errorf("%s: %q is not in: %s", name, part, text)
			}
		}
		for _, secret := range []string{"password=wrong", "password=p", "password=right"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s: the password is in: %s", name, text)
			}
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := pgserver.FreePort()
	must(t, err)
	return port
}

func TestLimitsOfTheServerAreNamed(t *testing.T) {
	for name, test := range map[string]struct {
		config map[string]string
		says   []string
	}{
		"minimal WAL":    {map[string]string{"wal_level": "minimal", "max_wal_senders": "0"}, []string{"max_wal_senders", "wal_level"}},
		"no wal senders": {map[string]string{"max_wal_senders": "0"}, []string{"max_wal_senders", "each node needs two"}},
		"no slots":       {map[string]string{"max_replication_slots": "0"}, []string{"max_replication_slots"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := server(t, pgserver.Options{Config: test.config})
			contains(t, connectError(t, s.Conninfo()), test.says...)
		})
	}
	t.Run("all slots taken", func(t *testing.T) {
		s := server(t, pgserver.Options{Config: map[string]string{"max_replication_slots": "1"}})
		must(t, s.Exec(t.Context(), "SELECT pg_create_physical_replication_slot('other')"))
		contains(t, connectError(t, s.Conninfo()), "53400", "raise max_replication_slots", "drop a slot")
	})
	t.Run("a logical slot of our name", func(t *testing.T) {
		s := server(t, pgserver.Options{Config: map[string]string{"wal_level": "logical"}})
		must(t, s.Exec(t.Context(), "SELECT pg_create_logical_replication_slot('sluice_a', 'test_decoding')"))
		contains(t, connectError(t, s.Conninfo()), "logical")
		if n := value(t, s, "SELECT count(*) FROM pg_replication_slots"); n != "1" {
			t.Error("somebody's slot was dropped")
		}
	})
}

// A server that accepts connections and says nothing ends the attempt after the timeout.
func TestSilentServerIsLeft(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	must(t, err)
	r, err := NewReceiver(Config{
		Conninfo: "host=127.0.0.1 sslmode=disable port=" + port, NodeID: "a", ConnectTimeout: 50 * time.Millisecond,
	}, empty())
	must(t, err)
	err = r.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "hangs") {
		t.Errorf("got %v", err)
	}
}

func TestTLSAndSCRAM(t *testing.T) {
	s := server(t, pgserver.Options{Password: "secret", SegmentSizeMiB: 1, HBA: []string{
		"hostssl replication all 127.0.0.1/32 scram-sha-256", "hostnossl replication all 127.0.0.1/32 reject",
	}})
	authority := enableTLS(t, s)
	must(t, s.Exec(t.Context(), "CREATE TABLE t (v text)"))
	sink := empty()
	r := receive(t, s.Conninfo()+" sslmode=verify-full channel_binding=require sslrootcert="+authority, sink, nil)
	r.connected()
	waitForUs(t, s)
	for range 20 {
		must(t, s.Exec(t.Context(), "INSERT INTO t VALUES ('live')"))
	}
	must(t, s.Exec(t.Context(), "INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 10000)"))
	if v := value(t, s, "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)"); v != "t" {
		t.Error("the connection is not encrypted")
	}
	r.stop()
	sink.valid(t)
	contains(t, connectError(t, s.Conninfo()+" sslmode=disable"), "pg_hba.conf")
}

// enableTLS gives a running server a certificate for 127.0.0.1, and returns the file of the authority.
func enableTLS(t *testing.T, s *pgserver.Server) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	// The server itself writes the files, so that they are its own and nobody else may read the key.
	for name, block := range map[string]*pem.Block{
		"server.crt": {Type: "CERTIFICATE", Bytes: der}, "server.key": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		lines := strings.ReplaceAll(strings.TrimSpace(string(pem.EncodeToMemory(block))), "\n", "'), ('")
		must(t, s.Exec(t.Context(), "COPY (VALUES ('"+lines+"')) TO PROGRAM 'umask 077; cat > "+name+"'"))
	}
	must(t, s.Configure(t.Context(), map[string]string{"ssl": "on"}))
	return filepath.Join(s.Dir(), "server.crt")
}

func TestSettingsAreNoticedAfterAReload(t *testing.T) {
	s := server(t, pgserver.Options{})
	told := make(chan Settings, 100)
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	cfg := Config{Conninfo: s.Conninfo(), NodeID: "a"}
	go func() {
		ended <- WatchSettings(ctx, cfg, 20*time.Millisecond, func(set Settings) { told <- set })
	}()
	if set := <-told; set.SyncStandbyNames != "" || set.SynchronousCommit != "on" || set.InRecovery || set.ReadAt.IsZero() {
		t.Errorf("got %+v", set)
	}
	waitForUs(t, s)
	for set := range told {
		if set.SyncStandbyNames == "ANY 1 (a)" {
			break
		}
	}
	cancel(errStop)
	if err := <-ended; !errors.Is(err, errStop) {
		t.Errorf("got %v", err)
	}
}

func TestProbeChangesNothing(t *testing.T) {
	s := server(t, pgserver.Options{})
	cfg := Config{Conninfo: s.Conninfo(), NodeID: "a"}
	src, set, err := Probe(t.Context(), cfg)
	must(t, err)
	if src.TLI != 1 || src.SystemID == 0 || src.Slot.Exists || set.SyncStandbyNames != "" {
		t.Errorf("got %+v, %+v", src, set)
	}
	if n := value(t, s, "SELECT count(*) FROM pg_replication_slots"); n != "0" {
		t.Error("a slot was made")
	}
}

func TestDropSlot(t *testing.T) {
	s := server(t, pgserver.Options{})
	cfg := Config{Conninfo: s.Conninfo(), NodeID: "a"}
	must(t, DropSlot(t.Context(), cfg))
	r := receive(t, s.Conninfo(), empty(), nil)
	r.connected()
	err := DropSlot(t.Context(), cfg)
	if refused := new(RefusedError); !errors.As(err, &refused) || refused.Reason != NameTaken {
		t.Errorf("a slot in use: %v", err)
	}
	r.stop()
	must(t, DropSlot(t.Context(), cfg))
	if n := value(t, s, "SELECT count(*) FROM pg_replication_slots"); n != "0" {
		t.Error("the slot is still there")
	}
}
