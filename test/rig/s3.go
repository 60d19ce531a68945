package rig

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"
)

// s3Program is what scripts/versitygw.sh makes.
const s3Program = "versitygw-v1.8.0"

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
	*Server
	// Dir is where the bucket's objects lie, as files.
	Dir string
}

// HasS3 says whether there is an S3 server to start.
func HasS3() bool {
	_, err := Cached(s3Program)
	return err == nil
}

// StartS3 starts a server for a test, or skips the test where there is none.
func StartS3(t testing.TB) *S3 {
	t.Helper()
	program, err := Cached(s3Program)
	if err != nil {
		t.Skip("there is no S3 server: scripts/versitygw.sh builds one")
	}
	dir := t.TempDir()
	for _, d := range []string{filepath.Join("objects", S3Bucket), "metadata"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	address := FreeAddress(t)
	env := []string{"ROOT_ACCESS_KEY=" + S3User, "ROOT_SECRET_KEY=" + S3Secret}
	return &S3{Dir: filepath.Join(dir, "objects", S3Bucket), Server: StartServer(t, address, env, program, "--port", address, "--quiet", "posix",
		"--sidecar", filepath.Join(dir, "metadata"), filepath.Join(dir, "objects"))}
}

// URL is the object store's URL of the bucket.
func (s *S3) URL() string { return S3URL(s.Address) }

// S3URL is the URL of the bucket behind an address: the server's, or that of a
// proxy before it.
func S3URL(address string) string {
	return fmt.Sprintf("s3://%s?endpoint=%s&use_path_style=true&region=us-east-1", S3Bucket, url.QueryEscape("http://"+address))
}
