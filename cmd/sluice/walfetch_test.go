package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
)

const (
	segmentOne = "000000010000000000000001"
	segmentTwo = "000000010000000000000002"
)

// sluice is one run of the program.
type sluice struct {
	status int // -1: ended by signal
	signal syscall.Signal
	stderr string
}

// program is a run of sluice under way.
type program struct {
	*exec.Cmd
	stderr string // a file: waiting for the program must not mean waiting for its child
}

// start runs sluice in a directory, as the leader of a process group.
func start(t *testing.T, dir string, env []string, args ...string) program {
	t.Helper()
	return startProgram(t, dir, env, "sluice", args...)
}

func startProgram(t *testing.T, dir string, env []string, name string, args ...string) program {
	t.Helper()
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	must(t, err)
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Stderr, cmd.Env = dir, stderr, append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, errors.Join(cmd.Start(), stderr.Close()))
	return program{cmd, stderr.Name()}
}

// end waits for the program's end.
func (p program) end(t *testing.T) sluice {
	t.Helper()
	var exit *exec.ExitError
	if err := p.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	said, err := os.ReadFile(p.stderr)
	must(t, err)
	s := sluice{status: p.ProcessState.ExitCode(), stderr: string(said)}
	if w, ok := p.ProcessState.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		s.signal = w.Signal()
	}
	return s
}

func runSluice(t *testing.T, dir string, env []string, args ...string) sluice {
	t.Helper()
	return start(t, dir, env, args...).end(t)
}

// standbyDir is a working directory as a standby has one.
func standbyDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "standby.signal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// nobody is a URL at which nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return "http://" + l.Addr().String()
}

func answering(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// deny says that the file does not exist, or anything else.
func deny(status int, answer, kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Sluice-Answer", answer)
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"type":"urn:sluice:problem:%s","detail":"the detail"}`, kind)
	}
}

// TestWalFetchStatus: 1 only where it is certain that the file does not exist, or where a standby asks.
func TestWalFetchStatus(t *testing.T) {
	absent := answering(t, deny(404, "absent", "absent"))
	tests := map[string]struct {
		args   []string
		status int
		stderr string
	}{
		"does not exist":         {[]string{"wal-fetch", "--server", absent, "acme/main", segmentOne, "out"}, 1, "does not exist: "},
		"nobody there":           {[]string{"wal-fetch", "--server", nobody(t), "--retry-for", "0", "acme/main", segmentOne, "out"}, 126, "could not be asked"},
		"a bad token":            {[]string{"wal-fetch", "--server", answering(t, deny(401, "unknown", "unauthorized")), "acme/main", segmentOne, "out"}, 126, "the detail"},
		"another service":        {[]string{"wal-fetch", "--server", answering(t, http.NotFound), "acme/main", segmentOne, "out"}, 126, "is the address right?"},
		"no arguments":           {[]string{"wal-fetch"}, 126, "usage: sluice wal-fetch"},
		"one is missing":         {[]string{"wal-fetch", "acme/main", segmentOne}, 126, "usage"},
		"one too many":           {[]string{"wal-fetch", "acme/main", segmentOne, "out", "more"}, 126, "usage"},
		"an unknown flag":        {[]string{"wal-fetch", "--frobnicate", "acme/main", segmentOne, "out"}, 126, "--frobnicate"},
		"a flag before":          {[]string{"--frobnicate", "wal-fetch", "acme/main", segmentOne, "out"}, 126, "--frobnicate"},
		"a good flag before":     {[]string{"--server", absent, "wal-fetch", "acme/main", segmentOne, "out"}, 1, "does not exist"},
		"seal and copy":          {[]string{"wal-fetch", "--seal", "--copy", "acme/main", segmentOne, "out"}, 126, "choose one"},
		"a negative time":        {[]string{"wal-fetch", "--retry-for", "-1s", "acme/main", segmentOne, "out"}, 126, "--retry-for"},
		"no timeline's name":     {[]string{"wal-fetch", "acme", segmentOne, "out"}, 126, "TENANT/TIMELINE"},
		"no URL":                 {[]string{"wal-fetch", "--server", "node-a", "acme/main", segmentOne, "out"}, 126, "want a URL"},
		"no such directory":      {[]string{"wal-fetch", "--data-dir", "/no/such", "acme/main", segmentOne, "out"}, 126, "/no/such"},
		"no such object storage": {[]string{"wal-fetch", "--object-store", "file:///no/such", "acme/main", segmentOne, "out"}, 126, "/no/such"},
		"no URL of a store":      {[]string{"wal-fetch", "--object-store", "ftp://bucket", "acme/main", segmentOne, "out"}, 126, "its scheme is"},
		"help, which is no file": {[]string{"wal-fetch", "--help"}, 126, ""},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			recovery := runSluice(t, t.TempDir(), nil, c.args...)
			if recovery.status != c.status || !strings.Contains(recovery.stderr, c.stderr) {
				t.Errorf("exit %d: %s; want %d, and %q", recovery.status, recovery.stderr, c.status, c.stderr)
			}
			if standby := runSluice(t, standbyDir(t), nil, c.args...); standby.status != 1 {
				t.Errorf("in a standby: exit %d: %s; want 1", standby.status, standby.stderr)
			}
		})
	}
}

// TestWalFetchSurvivesItsChild: no end of the work but its own two means that the file is there, or does not exist.
func TestWalFetchSurvivesItsChild(t *testing.T) {
	for _, how := range []string{"panics", "fatal error", "exits 0", "exits 1", "is killed"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			args := []string{"wal-fetch", "--server", answering(t, deny(404, "absent", "absent")), "acme/main", segmentOne, "out"}
			if s := runSluice(t, t.TempDir(), []string{misbehaveEnv + "=" + how}, args...); s.status != 126 || !strings.Contains(s.stderr, "unexpectedly") {
				t.Errorf("exit %d: %s", s.status, s.stderr)
			}
			if s := runSluice(t, standbyDir(t), []string{misbehaveEnv + "=" + how}, args...); s.status != 1 {
				t.Errorf("in a standby: exit %d: %s", s.status, s.stderr)
			}
		})
	}
}

func TestMarkOfAChildIsNotInherited(t *testing.T) {
	args := []string{"wal-fetch", "--server", answering(t, deny(404, "absent", "absent")), "acme/main", segmentOne, "out"}
	if s := runSluice(t, t.TempDir(), []string{childEnv + "=1"}, args...); s.status != 1 {
		t.Errorf("exit %d: %s", s.status, s.stderr)
	}
}

// TestWalFetchEndsBySignal: PostgreSQL tells a shutdown from a failure by it. The child must not outlive its parent.
func TestWalFetchEndsBySignal(t *testing.T) {
	// Programs that are started do not inherit that a signal is ignored once it is handled here: the tests may run under nohup.
	handled := make(chan os.Signal, 1)
	signal.Notify(handled, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(handled) })
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGKILL} {
		for _, group := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, group %t", sig, group), func(t *testing.T) {
				t.Parallel()
				asked, left := make(chan struct{}), make(chan struct{})
				url := answering(t, func(_ http.ResponseWriter, r *http.Request) {
					close(asked)
					<-r.Context().Done() // the child is gone
					close(left)
				})
				dir := t.TempDir()
				p := start(t, dir, nil, "wal-fetch", "--server", url, "acme/main", segmentOne, "out")
				await(t, asked, "wal-fetch asks")
				target := p.Process.Pid
				if group {
					target = -target
				}
				must(t, syscall.Kill(target, sig))
				if s := p.end(t); s.signal != sig {
					t.Errorf("exit %d, signal %v: %s", s.status, s.signal, s.stderr)
				}
				await(t, left, "the child ends")
				if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
					t.Errorf("left behind: %v, %v", entries, err)
				}
			})
		}
	}
}

// TestIgnoredHangupChangesNothing: a server that was started with nohup lives on when its terminal goes, and so does what it starts.
func TestIgnoredHangupChangesNothing(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	url := answering(t, func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-answer
		deny(404, "absent", "absent")(w, r)
	})
	p := startProgram(t, t.TempDir(), nil, "sh", "-c", `trap "" HUP; exec sluice wal-fetch --server "$0" acme/main "$1" out`, url, segmentOne)
	await(t, asked, "wal-fetch asks")
	must(t, syscall.Kill(-p.Process.Pid, syscall.SIGHUP))
	close(answer)
	if s := p.end(t); s.status != 1 {
		t.Errorf("exit %d, signal %v: %s; want the answer's 1", s.status, s.signal, s.stderr)
	}
}

// TestSignalThatTheChildSawFirst: of a group that is told to end, the child may be the first to do so.
func TestSignalThatTheChildSawFirst(t *testing.T) {
	for script, want := range map[string]os.Signal{
		fmt.Sprintf("exit %d", childInterrupted): syscall.SIGTERM,
		"kill -TERM $$":                          syscall.SIGTERM,
		fmt.Sprintf("exit %d", childPresent):     nil, // it was ready
	} {
		signals := make(chan os.Signal, 1)
		signals <- syscall.SIGTERM
		child := exec.CommandContext(t.Context(), "sh", "-c", script)
		_ = child.Run() // judged by its status
		if got := lateSignal(child, signals); got != want {
			t.Errorf("%s: %v, want %v", script, got, want)
		}
	}
}

func await(t *testing.T, happened <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-happened:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: not within 20 s", what)
	}
}

// untilTheyLeave never answers.
func untilTheyLeave(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func TestQuitIsNoUsageError(t *testing.T) {
	asked := make(chan struct{})
	url := answering(t, func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	})
	p := start(t, t.TempDir(), nil, "wal-fetch", "--server", url, "acme/main", segmentOne, "out")
	await(t, asked, "wal-fetch asks")
	must(t, p.Process.Signal(syscall.SIGQUIT))
	if s := p.end(t); s.status != 126 {
		t.Errorf("exit %d, signal %v: %s", s.status, s.signal, s.stderr)
	}
}

// TestPartOfAFileIsTakenAway: a signal comes while the file is being written.
func TestPartOfAFileIsTakenAway(t *testing.T) {
	half := make(chan struct{})
	url := answering(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Sluice-Answer", "file")
		w.Header().Set("Content-Length", "1048576")
		w.Header().Set("Repr-Digest", "sha-256=:"+strings.Repeat("A", 43)+"=:")
		_, _ = w.Write(make([]byte, 1<<19))
		_ = http.NewResponseController(w).Flush()
		close(half)
		<-r.Context().Done()
	})
	dir := t.TempDir()
	p := start(t, dir, nil, "wal-fetch", "--server", url, "acme/main", segmentOne, "out")
	await(t, half, "half of it is sent")
	must(t, p.Process.Signal(syscall.SIGTERM))
	if s := p.end(t); s.signal != syscall.SIGTERM {
		t.Errorf("exit %d, signal %v: %s", s.status, s.signal, s.stderr)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestOtherCommandsAreNotWalFetch(t *testing.T) {
	for _, args := range [][]string{nil, {"version"}, {"tenant", "show", "wal-fetch"}, {"--help"}} {
		if got, handled := walFetchArgs(args); handled {
			t.Errorf("%q is taken for wal-fetch %q", args, got)
		}
	}
}

// fetch runs wal-fetch and returns the file.
func fetch(t *testing.T, dir string, args ...string) (sluice, []byte) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "RECOVERYXLOG")
	s := runSluice(t, dir, nil, append(append([]string{"wal-fetch"}, args...), out)...)
	b, err := os.ReadFile(out)
	if (err == nil) != (s.status == 0) || err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("exit %d, and the file: %v", s.status, err)
	}
	return s, b
}

// TestDataDirOfADeadNode: whole segments go to anyone, the tail once it is sealed.
func TestDataDirOfADeadNode(t *testing.T) {
	n := newDeadNode(t, "a", "a")
	from := []string{"--data-dir", n.dir, "acme/main"}
	if s, b := fetch(t, "", append(from, segmentOne)...); s.status != 0 || !bytes.Equal(b, n.wal[:deadSegment]) {
		t.Errorf("a whole segment: exit %d: %s", s.status, s.stderr)
	}
	if s, _ := fetch(t, "", append(from, segmentTwo)...); s.status != 126 || !strings.Contains(s.stderr, "sluice timeline seal acme/main") ||
		!strings.Contains(s.stderr, "--copy") {
		t.Errorf("the tail: exit %d: %s", s.status, s.stderr)
	}
	if s, _ := fetch(t, "", append(from, "--copy", segmentTwo)...); s.status != 1 || !strings.Contains(s.stderr, "this copy ends at 0/200000") {
		t.Errorf("the tail, for a copy: exit %d: %s", s.status, s.stderr)
	}
	if s, _ := fetch(t, standbyDir(t), append(from, "--seal", segmentTwo)...); s.status != 1 || !strings.Contains(s.stderr, "no effect in a standby") {
		t.Errorf("the tail, for a standby: exit %d: %s", s.status, s.stderr)
	}
	if c := n.control(t); len(c.Seals) != 0 {
		t.Fatalf("something sealed it: %+v", c.Seals)
	}
	tail := append(bytes.Clone(n.wal[deadSegment:]), make([]byte, 2*deadSegment-len(n.wal))...)
	for _, flags := range [][]string{{"--seal"}, nil} { // once it is sealed, it is
		if s, b := fetch(t, "", append(append(from, flags...), segmentTwo)...); s.status != 0 || !bytes.Equal(b, tail) {
			t.Errorf("the tail, with %q: exit %d: %s", flags, s.status, s.stderr)
		}
	}
	if c := n.control(t); len(c.Seals) != 1 || !c.Seals[0].TailServed || c.Seals[0].End != n.end {
		t.Errorf("the seal is %+v, the end %s", c.Seals, n.end)
	}
	for _, gone := range []string{"000000010000000000000003", "00000002.history"} {
		if s, _ := fetch(t, "", append(from, gone)...); s.status != 1 {
			t.Errorf("%s: exit %d: %s", gone, s.status, s.stderr)
		}
	}
}

// TestTailOfASealedNodeGoesOutOnlyOnceThatIsWrittenDown: afterwards nobody may take the seal back.
func TestTailOfASealedNodeGoesOutOnlyOnceThatIsWrittenDown(t *testing.T) {
	n := newDeadNode(t, "a", "a")
	n.seal(t)
	unlock := n.lock(t)
	if s, _ := fetch(t, "", "--data-dir", n.dir, "acme/main", segmentTwo); s.status != 126 || !strings.Contains(s.stderr, "sluice timeline seal --data-dir") {
		t.Errorf("it cannot be written down: exit %d: %s", s.status, s.stderr)
	}
	unlock()
	if s, _ := fetch(t, "", "--data-dir", n.dir, "acme/main", segmentOne); s.status != 0 || n.control(t).Seals[0].TailServed {
		t.Errorf("a segment that is no tail: exit %d: %s; the seal is %+v", s.status, s.stderr, n.control(t).Seals)
	}
	if s, _ := fetch(t, "", "--data-dir", n.dir, "acme/main", segmentTwo); s.status != 0 || !n.control(t).Seals[0].TailServed {
		t.Errorf("exit %d: %s; the seal is %+v", s.status, s.stderr, n.control(t).Seals)
	}
}

// TestEndBehindASwitchRecord: the primary died before it sent the zeros that follow pg_switch_wal's record. That ends with its
// segment all the same.
func TestEndBehindASwitchRecord(t *testing.T) {
	w := pgtest.NewWriter(pg.MinSegmentSize.Start(1), pg.MinSegmentSize, 1, deadCluster)
	raw := w.Record(5000).End + 24 - w.Start()
	end := w.Switch().End
	n := newDeadNodeWith(t, "a", "a", w.Start(), w.Bytes()[:raw], end)
	if s, b := fetch(t, "", "--data-dir", n.dir, "acme/main", segmentOne); s.status != 0 || !bytes.Equal(b, w.Bytes()) {
		t.Errorf("exit %d: %s", s.status, s.stderr)
	}
	if s, _ := fetch(t, "", "--data-dir", n.dir, "--seal", "acme/main", segmentTwo); s.status != 1 {
		t.Errorf("above the end: exit %d: %s", s.status, s.stderr)
	}
	if s, b := fetch(t, "", "--data-dir", n.dir, "acme/main", segmentOne); s.status != 0 || !bytes.Equal(b, w.Bytes()) {
		t.Errorf("sealed: exit %d: %s", s.status, s.stderr)
	}
}

func TestDataDirOfALivingNodeIsNotSealed(t *testing.T) {
	n := newDeadNode(t, "a", "a")
	defer n.lock(t)()
	from := []string{"--data-dir", n.dir, "--seal", "acme/main"}
	if s, _ := fetch(t, "", append(from, segmentTwo)...); s.status != 126 || !strings.Contains(s.stderr, "locked") {
		t.Errorf("exit %d: %s", s.status, s.stderr)
	}
	if s, _ := fetch(t, "", append(from, segmentOne)...); s.status != 0 {
		t.Errorf("a whole segment: exit %d: %s", s.status, s.stderr)
	}
}

// TestFlippedByteInADataDir: PostgreSQL would take it for the end of WAL, and promote.
func TestFlippedByteInADataDir(t *testing.T) {
	for _, offset := range []int{100, deadSegment / 2, deadSegment - 1, deadSegment + 3000} {
		n := newDeadNode(t, "a", "a")
		n.flip(t, offset)
		name := segmentOne
		if offset >= deadSegment {
			name = segmentTwo
		}
		s, _ := fetch(t, "", "--data-dir", n.dir, "--seal", "acme/main", name)
		if s.status != 126 || !strings.Contains(s.stderr, "amaged") {
			t.Errorf("a byte at %d is flipped: exit %d: %s", offset, s.status, s.stderr)
		}
	}
}

// TestTwoDeadNodes: with ANY 2 of two names, one node's word is enough; with ANY 1 of 2 it is not.
func TestTwoDeadNodes(t *testing.T) {
	a, b := newDeadNode(t, "a", "ANY 1 (a, b)"), newDeadNode(t, "b", "ANY 1 (a, b)")
	if s, _ := fetch(t, "", "--data-dir", a.dir, "acme/main", "00000002.history"); s.status != 126 || !strings.Contains(s.stderr, "2 qualified nodes have to say so, and 1 did") {
		t.Errorf("one of two: exit %d: %s", s.status, s.stderr)
	}
	if s, _ := fetch(t, "", "--data-dir", a.dir, "--data-dir", b.dir, "acme/main", "00000002.history"); s.status != 1 {
		t.Errorf("both: exit %d: %s", s.status, s.stderr)
	}
	if s, _ := fetch(t, "", "--data-dir", a.dir, "--data-dir", a.dir, "acme/main", "00000002.history"); s.status != 126 || !strings.Contains(s.stderr, `both belong to node "a"`) {
		t.Errorf("one of them twice: exit %d: %s", s.status, s.stderr)
	}
	if s, _ := fetch(t, "", "--data-dir", a.dir, "--accept-data-loss", "acme/main", "00000002.history"); s.status != 1 || !strings.Contains(s.stderr, "alone") {
		t.Errorf("one of two, loss accepted: exit %d: %s", s.status, s.stderr)
	}
	if s, _ := fetch(t, "", "--data-dir", a.dir, "--seal", "acme/main", segmentTwo); s.status != 126 || !strings.Contains(s.stderr, "commits may lie on b") {
		t.Errorf("one of two, to be sealed: exit %d: %s", s.status, s.stderr)
	}
}

// TestServerIsNotAskedForADeadNode: the environment's server may be another one by now.
func TestServerIsNotAskedForADeadNode(t *testing.T) {
	n := newDeadNode(t, "a", "a")
	env := []string{"SLUICE_SERVER=" + answering(t, func(http.ResponseWriter, *http.Request) { t.Error("it was asked") })}
	if s := runSluice(t, t.TempDir(), env, "wal-fetch", "--data-dir", n.dir, "acme/main", segmentOne, "out"); s.status != 0 {
		t.Errorf("exit %d: %s", s.status, s.stderr)
	}
	asked := false
	env = []string{"SLUICE_SERVER=" + answering(t, func(w http.ResponseWriter, r *http.Request) {
		asked = true
		deny(404, "absent", "absent")(w, r)
	})}
	if s := runSluice(t, t.TempDir(), env, "wal-fetch", "acme/main", segmentOne, "out"); s.status != 1 || !asked {
		t.Errorf("exit %d, asked %t: %s", s.status, asked, s.stderr)
	}
}

// TestDeadNodeHelpsOut: all places that are named have to agree on what does not exist, and any may have the file.
func TestDeadNodeHelpsOut(t *testing.T) {
	n := newDeadNode(t, "a", "a")
	both := []string{"--server", nobody(t), "--retry-for", "0", "--data-dir", n.dir, "acme/main"}
	if s, b := fetch(t, "", append(both, segmentOne)...); s.status != 0 || !bytes.Equal(b, n.wal[:deadSegment]) {
		t.Errorf("exit %d: %s", s.status, s.stderr)
	}
	if s, _ := fetch(t, "", append(both, "00000002.history")...); s.status != 126 || !strings.Contains(s.stderr, "leave it out") {
		t.Errorf("exit %d: %s", s.status, s.stderr)
	}
}

func TestWALEnd(t *testing.T) {
	n := newDeadNode(t, "a", "a")
	var out bytes.Buffer
	if err := n.walEnd("acme/main", &out); err != nil || out.String() != fmt.Sprintf("1 %s\n", n.end) {
		t.Errorf("%q, %v; want 1 %s", out.String(), err, n.end)
	}
	if err := n.walEnd("acme/other", &out); err == nil {
		t.Error("there is no such timeline, and it has an end")
	}
}
