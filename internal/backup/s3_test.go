package backup_test

import (
	"strings"
	"testing"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/test/rig"
)

// startS3 starts a real S3 server for a test, or skips it, and gives this process what opens it.
func startS3(t *testing.T) *rig.S3 {
	t.Helper()
	s := rig.StartS3(t)
	for _, kv := range rig.S3Env() {
		key, value, _ := strings.Cut(kv, "=")
		t.Setenv(key, value)
	}
	return s
}

// s3Places is empty where there is no S3 server.
func s3Places(t *testing.T) []place {
	t.Helper()
	if !rig.HasS3() {
		t.Log("not tested on S3: scripts/versitygw.sh builds a server")
		return nil
	}
	s := startS3(t)
	return []place{{"s3", func(t *testing.T, cfg backup.Config) *backup.Store { return open(t, s.URL(), cfg) }}}
}
