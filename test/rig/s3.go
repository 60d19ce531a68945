package rig

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// s3Program is where scripts/versitygw.sh puts the S3 server, below the
// repository's root.
const s3Program = ".cache/bin/versitygw-v1.8.0"

// What opens the S3 server, and the bucket in it.
const (
	S3Bucket = "wal"
	S3User   = "sluice"
	S3Secret = "a secret"
)

// S3Env is the environment of a program that uses the S3 server.
func S3Env() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + S3User, "AWS_SECRET_ACCESS_KEY=" + S3Secret, "AWS_EC2_METADATA_DISABLED=true"}
}

// S3 is a real S3 server with an empty bucket.
type S3 struct {
	Address string
	// Dir is where the bucket's objects lie, as files.
	Dir string
}

// HasS3 says whether there is an S3 server to start.
func HasS3() bool {
	_, err := s3Path()
	return err == nil
}

func s3Path() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil || dir == filepath.Dir(dir) {
			path := filepath.Join(dir, s3Program)
			_, err := os.Stat(path)
			return path, err
		}
	}
}

// StartS3 starts a server for a test, or skips the test where there is none.
func StartS3(t testing.TB) *S3 {
	t.Helper()
	program, err := s3Path()
	if err != nil {
		t.Skip("there is no S3 server: scripts/versitygw.sh builds one")
	}
	dir := t.TempDir()
	for _, d := range []string{filepath.Join("objects", S3Bucket), "metadata"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := &S3{Address: freeAddress(t), Dir: filepath.Join(dir, "objects", S3Bucket)}
	cmd := exec.Command(program, "--port", s.Address, "--quiet", "posix",
		"--sidecar", filepath.Join(dir, "metadata"), filepath.Join(dir, "objects"))
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+S3User, "ROOT_SECRET_KEY="+S3Secret)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p, err := spawn(cmd, filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.kill(); err != nil {
			t.Error(err)
		}
	})
	s.awaitListening(t, p, filepath.Join(dir, "log"))
	return s
}

// URL is the object store's URL of the bucket.
func (s *S3) URL() string { return S3URL(s.Address) }

// S3URL is the URL of the bucket behind an address: the server's, or that of a
// proxy before it.
func S3URL(address string) string {
	return fmt.Sprintf("s3://%s?endpoint=%s&use_path_style=true&region=us-east-1", S3Bucket, url.QueryEscape("http://"+address))
}

func (s *S3) awaitListening(t testing.TB, p *process, log string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(30 * time.Second); ; {
		conn, err := net.Dial("tcp", s.Address)
		if err == nil {
			_ = conn.Close() // it is there, which is all
			return
		}
		select {
		case <-tick.C:
		case <-p.exited:
			t.Fatalf("the S3 server ended: %v\n%s", p.err, Tail(log, 10))
		case <-late:
			t.Fatalf("the S3 server does not listen: %v\n%s", err, Tail(log, 10))
		}
	}
}

// freeAddress is one on which nobody listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
