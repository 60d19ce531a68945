package e2e

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/test/rig"
)

// The node and its disk are gone: what is left is object storage (R3, F3, F16).

func TestRestoreFromObjectStorageAlone(t *testing.T) {
	for _, kind := range storeKinds() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t, kind.url(t))
			s.stopped(s.launch(s.command(), nil), "could not find out", "--copy", "--accept-data-loss")
			s.restored(s.launch(s.command("--copy"), nil), s.rows[0], 2)
			lossy := s.launch(s.command("--accept-data-loss"), nil)
			s.restored(lossy, s.rows[1], 2)
			if fork := s.forkOf(lossy, 1); fork != s.open {
				t.Errorf("it went on from %s, and %s was stored", fork, s.open)
			}
			if log := lossy.Log(1000); !strings.Contains(log, "as node "+rig.NodeID+" stored it at 20") || !strings.Contains(log, s.open.String()) {
				t.Errorf("the log does not say from when the end is, and where:\n%s", log)
			}
		})
	}
}

// F16 and F3: a child was claimed, and nothing of it was stored. It is
// restorable, and the parent is never replayed past the fork, though its copy in
// object storage goes on.
func TestChildWithoutAByteInObjectStorage(t *testing.T) {
	t.Parallel()
	s := newShelf(t, storeKinds()[0].url(t))
	first := s.launch(s.command("--accept-data-loss"), nil)
	s.restored(first, s.rows[1], 2)
	history := s.historyOf(first, 2)
	s.do(first.Kill())
	s.do(s.timeline.PutHistory(s.ctx, 2, history))
	s.do(s.timeline.Claim(s.ctx, backup.Claim{TLI: 2, History: history, Record: []byte("a record")}))
	s.partial(s.end)
	s.stopped(s.launch(s.command(), nil), "00000003.history: could not find out")
	parents := pg.SegmentName(1, shelfSegment.SegNo(s.open), shelfSegment)
	if r := s.fetch("--object-store", s.url, rig.Timeline, parents); r.Code != 126 || !strings.Contains(r.Stderr, "TLI 2 goes on from TLI 1 here") {
		t.Errorf("the parent's segment: exit %d: %s", r.Code, r.Stderr)
	}
	again := s.launch(s.command("--accept-data-loss"), nil)
	s.restored(again, s.rows[1], 3)
	if fork := s.forkOf(again, 2); fork != s.open {
		t.Errorf("TLI 2 was left at %s, and began at %s", fork, s.open)
	}

	_, err := s.timeline.DecideSeal(s.ctx, backup.Seal{TLI: 2, End: s.open})
	s.do(err)
	s.give()
	r := s.fetch("--object-store", s.url, rig.Timeline, pg.SegmentName(2, shelfSegment.SegNo(s.open), shelfSegment))
	if r.Code != 0 {
		t.Errorf("the child is sealed: exit %d: %s", r.Code, r.Stderr)
	}
}

// A point that lies in whole segments is reached by a copy.
func TestPointInTimeFromObjectStorage(t *testing.T) {
	t.Parallel()
	s := newShelf(t, storeKinds()[0].url(t))
	p := s.launch(s.command("--copy"), map[string]string{"recovery_target_name": "here", "recovery_target_action": "promote"})
	s.restored(p, "1000", 2)
}

// fetch runs wal-fetch as the user who restores.
func (s *shelf) fetch(args ...string) rig.Result {
	s.t.Helper()
	return s.fetchWith(nil, args...)
}

func (s *shelf) fetchWith(env []string, args ...string) rig.Result {
	s.t.Helper()
	dir := rig.TempDir(s.t)
	out := filepath.Join(dir, "out")
	cmd, err := rig.Command(s.ctx, dir, program, slices.Concat([]string{"wal-fetch", "--retry-for", "3s"}, args, []string{out})...)
	s.do(err)
	cmd.Env = append(cmd.Env, env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	_ = cmd.Run() // judged by its status
	_, err = os.Stat(out)
	if code := cmd.ProcessState.ExitCode(); (err == nil) != (code == 0) {
		s.t.Errorf("exit %d, and the file: %v", code, err)
	}
	return rig.Result{Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// What goes wrong with S3 is never "does not exist", and says what it is. What
// is over in a moment is asked for again.
func TestFaultsOfObjectStorage(t *testing.T) {
	t.Parallel()
	server := rig.StartS3(t)
	s := newShelf(t, server.URL())
	proxy := rig.StartS3Proxy(t, server.Address)
	whole := pg.SegmentName(1, shelfSegment.SegNo(s.open)-1, shelfSegment)
	url, behind := server.URL(), rig.S3URL(proxy.Address)
	for _, c := range []struct {
		name  string
		fault func(*http.Request) rig.S3Fault
		url   string
		env   []string
		args  []string
		code  int
		said  string
	}{
		{"nothing", nil, behind, nil, []string{rig.Timeline, whole}, 0, ""},
		{"503, a few times", rig.Times(4, rig.On(http.MethodGet, "", rig.Unavailable)), behind, nil, []string{"--retry-for", "30s", rig.Timeline, whole}, 0, ""},
		{"503, always", rig.On(http.MethodGet, "/wal/", rig.Unavailable), behind, nil, []string{rig.Timeline, whole}, 126, "SlowDown"},
		{"reset in the body, once", rig.Times(1, rig.On(http.MethodGet, whole, rig.ResetOut)), behind, nil, []string{rig.Timeline, whole}, 0, ""},
		{"no answer", rig.On(http.MethodGet, whole, rig.Stalled), behind, nil, []string{rig.Timeline, whole}, 126, "did not answer in time"},
		{"no history, and no answer", rig.On(http.MethodGet, "claim", rig.Unavailable), behind, nil, []string{"--accept-data-loss", rig.Timeline, "00000002.history"}, 126, "SlowDown"},
		{"a wrong secret", nil, url, []string{"AWS_SECRET_ACCESS_KEY=wrong"}, []string{rig.Timeline, whole}, 126, "refuses the credentials"},
		{"no credentials", nil, url, []string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "HOME=/nonexistent"}, []string{rig.Timeline, whole}, 126, "refuses the credentials"},
		{"no such bucket", nil, strings.Replace(url, "s3://"+rig.S3Bucket, "s3://other", 1), nil, []string{rig.Timeline, whole}, 126, "the bucket is not there"},
		{"nobody listens", nil, rig.S3URL("127.0.0.1:1"), nil, []string{rig.Timeline, whole}, 126, "connection refused"},
		{"no such timeline", nil, url, nil, []string{"acme/other", whole}, 126, "there is no timeline acme/other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			proxy.Fail(c.fault)
			begin := time.Now()
			r := s.fetchWith(c.env, append([]string{"--object-store", c.url}, c.args...)...)
			if r.Code != c.code || !strings.Contains(r.Stderr, c.said) {
				t.Errorf("exit %d: %s; want %d, and %q", r.Code, r.Stderr, c.code, c.said)
			}
			if strings.Contains(r.Stderr, rig.S3Secret) {
				t.Errorf("it tells the secret: %s", r.Stderr)
			}
			if took := time.Since(begin); took > time.Minute {
				t.Errorf("it took %v", took)
			}
		})
	}
}
