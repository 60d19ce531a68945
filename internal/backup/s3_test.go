package backup_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
)

// gateway is where scripts/versitygw.sh puts the S3 server.
const gateway = "../../.cache/bin/versitygw-v1.8.0"

const bucket = "wal"

// s3Server is a real S3 server, and the address of its bucket.
type s3Server struct{ address string }

// startS3 starts one for a test, or skips it.
func startS3(t *testing.T) s3Server {
	t.Helper()
	if _, err := os.Stat(gateway); err != nil {
		t.Skip("there is no S3 server: scripts/versitygw.sh builds one")
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "sluice")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "a secret")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "objects", bucket), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "metadata"), 0o755))
	address := freeAddress(t)
	ctx, cancel := context.WithCancel(context.Background())
	server := exec.CommandContext(ctx, gateway, "--port", address, "--quiet", "posix",
		"--sidecar", filepath.Join(dir, "metadata"), filepath.Join(dir, "objects"))
	server.Env = append(os.Environ(), "ROOT_ACCESS_KEY=sluice", "ROOT_SECRET_KEY=a secret")
	must(t, server.Start())
	t.Cleanup(func() {
		cancel()
		_ = server.Wait() // killed
	})
	await(t, address)
	return s3Server{address}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// await returns once somebody listens.
func await(t *testing.T, address string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(30 * time.Second); ; {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			must(t, conn.Close())
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("the S3 server does not listen: %v", err)
		}
	}
}

// s3URL is the URL of the bucket behind an address.
func s3URL(address string) string {
	return fmt.Sprintf("s3://%s?endpoint=%s&use_path_style=true&region=us-east-1", bucket, url.QueryEscape("http://"+address))
}

// s3Places is empty where there is no S3 server.
func s3Places(t *testing.T) []place {
	t.Helper()
	if _, err := os.Stat(gateway); err != nil {
		t.Log("not tested on S3: scripts/versitygw.sh builds a server")
		return nil
	}
	s := startS3(t)
	return []place{{"s3", func(t *testing.T, cfg backup.Config) *backup.Store { return open(t, s3URL(s.address), cfg) }}}
}
