package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicewal/sluice/internal/api"
	"github.com/sluicewal/sluice/internal/config"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/test/rig"
)

// running is `sluice serve` as a process of its own, on the data directory of a node that kept acme/main.
type running struct {
	t    *testing.T
	dir  string
	url  string
	cmd  *exec.Cmd
	log  syncBuffer
	done chan error
}

// syncBuffer is written by one goroutine and read by another.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// startNode runs a node, with some more lines of configuration, and waits until it is ready.
func startNode(t *testing.T, dir, more string, env ...string) *running {
	t.Helper()
	port := freePort(t)
	r := &running{t: t, dir: dir, url: "http://127.0.0.1:" + port, done: make(chan error, 1)}
	file := filepath.Join(t.TempDir(), "node.yaml")
	if !strings.Contains(more, "object_store:") {
		more += "\nobject_store: {url: \"\"}"
	}
	must(t, os.WriteFile(file, fmt.Appendf(nil, "node: {id: a, data_dir: %q, advertise: %q}\nlisten: {http: \"127.0.0.1:%s\"}\n%s\n",
		dir, r.url, port, more), 0o600))
	r.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), "sluice", "serve", "--config", file)
	r.cmd.Stderr, r.cmd.Env = &r.log, append(os.Environ(), env...)
	must(t, r.cmd.Start())
	go func() { r.done <- r.cmd.Wait() }()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill() // it has ended, if all is well
		if err := <-r.done; t.Failed() {
			t.Logf("the node ended with %v:\n%s", err, r.log.String())
		}
	})
	r.await("ready", func() bool { status, _ := r.get("/readyz"); return status == http.StatusOK })
	return r
}

// get asks the node; status 0: it does not answer.
func (r *running) get(path string) (status int, body string) {
	return ask(r.t, http.MethodGet, r.url+path)
}

func ask(t *testing.T, method, url string) (status int, body string) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, url, nil)
	if err != nil {
		return 0, err.Error()
	}
	req.Close = true
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, err.Error()
	}
	return resp.StatusCode, string(b)
}

func (r *running) await(what string, so func() bool) {
	r.t.Helper()
	for limit := time.Now().Add(time.Minute); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			r.t.Fatalf("not so: %s\n%s", what, r.log.String())
		}
	}
}

func (r *running) terminate() { must(r.t, r.cmd.Process.Signal(syscall.SIGTERM)) }

// exits waits for the end of the process.
func (r *running) exits(within time.Duration) (code int) {
	r.t.Helper()
	select {
	case err := <-r.done:
		r.done <- err
	case <-time.After(within):
		r.t.Fatalf("the process lives after %v\n%s", within, r.log.String())
	}
	return r.cmd.ProcessState.ExitCode()
}

func (r *running) gates() (gates []api.ClosingGate) {
	_, body := r.get("/v1/gates")
	_ = json.Unmarshal([]byte(body), &gates) // none, if it does not answer
	return gates
}

// inside says whether acme/main has a holder of that kind.
func (r *running) inside(holder string) bool {
	_, body := r.get("/v1/tenants/acme/timelines/main")
	var s timeline.Status
	_ = json.Unmarshal([]byte(body), &s)
	return slices.ContainsFunc(s.Gate.Holders, func(h timeline.GateHolder) bool { return h.Name == holder })
}

const acmeMain = "/v1/tenants/acme/timelines/main"

// hang has the disk hang under whoever opens the first segment: it is a pipe that nobody writes to. The function that is
// returned ends that.
func (r *running) hang() (release func()) {
	r.t.Helper()
	path := filepath.Join(timeline.WALDir(r.dir, deadTimeline), segmentOne)
	must(r.t, os.Rename(path, path+".aside"))
	must(r.t, syscall.Mkfifo(path, 0o600))
	go func() { _, _ = r.get(acmeMain + "/wal/" + segmentOne) }() // ends with the node, or its disk
	r.await("a download holds the gate", func() bool { return r.inside("wal_download") })
	return func() {
		// The segment is back before the reader goes on: from then on the files may go.
		pipe := filepath.Join(r.t.TempDir(), "pipe")
		must(r.t, errors.Join(os.Link(path, pipe), os.Rename(path+".aside", path)))
		f, err := os.OpenFile(pipe, os.O_WRONLY, 0)
		must(r.t, err)
		must(r.t, f.Close())
	}
}

// spanNames collects what is exported over OTLP; names of spans stand in it as they are.
func spanNames(t *testing.T) (url string, has func(string) bool) {
	t.Helper()
	var got syncBuffer
	s := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(&got, r.Body) })}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-served })
	return "http://" + l.Addr().String(), func(name string) bool { return strings.Contains(got.String(), name) }
}

// TestStuckStageIsNamedAndTheExitIsForced (X2, X3, G5, G8): a disk hangs under a download, and SIGTERM comes.
func TestStuckStageIsNamedAndTheExitIsForced(t *testing.T) {
	t.Parallel()
	otlp, exported := spanNames(t)
	r := startNode(t, newDeadNode(t, "a", "").dir, "shutdown_timeout: 12s\ntelemetry: {otlp_endpoint: \""+otlp+"\"}")
	r.hang()
	r.terminate()
	r.await("/v1/gates names the stage and the holder", func() bool {
		g := r.gates()
		return len(g) > 1 && g[0].Gate == api.GateStage && g[0].Stage == "tenants" && slices.ContainsFunc(g, func(g api.ClosingGate) bool {
			return g.Timeline == "main" && slices.ContainsFunc(g.Holders, func(h timeline.GateHolder) bool { return h.Name == "wal_download" })
		})
	})
	if status, body := r.get("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("a node that stops is ready: %d %s", status, body)
	}
	_, metrics := r.get("/metrics")
	for _, want := range []string{
		`sluice_gate_close_holders{gate="timeline",holder="wal_download",tenant="acme",timeline="main"} 1`,
		`sluice_shutdown_stage_seconds{stage="tenants"}`, `sluice_node_stage{stage="stopping: tenants"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	r.await("the spans of those who wait are exported while they do", func() bool { return exported("gate.close.wait") && exported("shutdown.stage.wait") })
	if status, _ := r.get("/v1/node"); status != http.StatusOK {
		t.Error("the node cannot be asked any more, and it has not ended")
	}
	if exported("tenant.shutdown") {
		t.Error("the tenants were shut down, and this test saw nothing")
	}
	if code := r.exits(time.Minute); code != exitFailed {
		t.Errorf("exit status %d", code)
	}
	for _, want := range []string{`"msg":"shutdown stage is late"`, "timeline acme/main: wal_download of " + segmentOne + " for 127.0.0.1:", `"msg":"gate not closed in time"`, "sluice: stage tenants: "} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("the log has no %s", want)
		}
	}
	if files := readDir(t, filepath.Join(r.dir, diagnosticsDir)); len(files) == 0 || !strings.Contains(files[0], "stage-tenants") {
		t.Errorf("the goroutines were not written down: %v", files)
	}
}

// TestSecondSignalExitsAtOnce, although the shutdown has a minute.
func TestSecondSignalExitsAtOnce(t *testing.T) {
	t.Parallel()
	r := startNode(t, newDeadNode(t, "a", "").dir, "shutdown_timeout: 60s")
	r.hang()
	r.terminate()
	r.await("it stops", func() bool { return len(r.gates()) > 0 })
	r.terminate()
	if code := r.exits(30 * time.Second); code != exitFailed {
		t.Errorf("exit status %d", code)
	}
}

// TestDeletionSaysWhomItWaitsFor (G8): the verb on stderr, `sluice gates` and `sluice timeline show` meanwhile. The node then stops in order.
func TestDeletionSaysWhomItWaitsFor(t *testing.T) {
	t.Parallel()
	r := startNode(t, newDeadNode(t, "a", "").dir, "")
	release := r.hang()
	server := "--server=" + r.url
	verb := func(args ...string) *exec.Cmd {
		return exec.CommandContext(t.Context(), "sluice", append(args, server)...)
	}
	var said syncBuffer
	deletion := verb("timeline", "delete", "acme/main")
	deletion.Stderr = &said
	must(t, deletion.Start())
	r.await("the deletion says whom it waits for", func() bool { return strings.Contains(said.String(), "delete, at stop for ") })
	if text := said.String(); !strings.Contains(text, "waiting for wal_download of "+segmentOne+" for 127.0.0.1:") {
		t.Errorf("it says: %s", text)
	}
	reader := regexp.MustCompile(`wal_download.*` + segmentOne + `.*127\.0\.0\.1:\d+`) // which file, and which client
	for _, args := range [][]string{{"gates"}, {"timeline", "show", "acme/main"}} {
		out, err := verb(args...).CombinedOutput()
		if err != nil || !reader.Match(out) {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if status, body := r.get(acmeMain + "/wal/" + segmentTwo); status != http.StatusServiceUnavailable {
		t.Errorf("a request of a timeline that shuts down is answered with %d: %s", status, body)
	}
	release()
	must(t, deletion.Wait())
	if lines := strings.Count(said.String(), "\n"); lines > 60 {
		t.Errorf("it said %d lines", lines)
	}
	r.terminate()
	if code := r.exits(time.Minute); code != exitDone {
		t.Errorf("exit status %d", code)
	}
	inOrder(t, r.log.String(), "readiness", "broker", "drain", "tenants", "broker_connection", "http", "telemetry")
}

// inOrder checks that stages ended one after the other.
func inOrder(t *testing.T, log string, stages ...string) {
	t.Helper()
	rest := log
	for _, s := range stages {
		var found bool
		if _, rest, found = strings.Cut(rest, `"msg":"shutdown stage ended","stage":"`+s+`"`); !found {
			t.Fatalf("stage %s did not end in its order", s)
		}
	}
}

// bigNode holds a whole segment of 16 MiB, more than a connection that nobody reads takes.
func bigNode(t *testing.T) (dir, segment string) {
	t.Helper()
	const size = pg.SegmentSize(16 << 20)
	w := pgtest.NewWriter(size.Start(1), size, 1, deadCluster)
	for len(w.Bytes()) < int(size)+100_000 {
		w.Record(60_000)
	}
	n := &deadNodeDir{dir: rig.TempDir(t)}
	n.keep(t, "a", "", deadCluster, size, w.Start(), w.Bytes())
	return n.dir, pg.SegmentName(1, 1, size)
}

// neverRead asks for a file and reads nothing of the answer.
func (r *running) neverRead(segment string) {
	neverRead(r.t, strings.TrimPrefix(r.url, "http://"), segment)
}

func neverRead(t *testing.T, addr, segment string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.(*net.TCPConn).SetReadBuffer(4096))
	_, err = io.WriteString(conn, "GET "+acmeMain+"/wal/"+segment+" HTTP/1.1\r\nHost: x\r\n\r\n")
	must(t, err)
}

// TestClientThatNeverReadsHoldsNoDeletion (G13), and nobody is told that the request was wrong.
func TestClientThatNeverReadsHoldsNoDeletion(t *testing.T) {
	dir, segment := bigNode(t)
	r := startNode(t, dir, "")
	r.neverRead(segment)
	r.await("the download holds the gate", func() bool { return r.inside("wal_download") })
	quit, asked := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(asked)
		for {
			select {
			case <-quit:
				return
			default:
			}
			if status, body := r.get(acmeMain + "/wal/" + segment + "?copy=1"); status >= 400 && status < 500 {
				t.Errorf("a request beside the deletion is answered with %d: %s", status, body)
				return
			}
		}
	}()
	began := time.Now()
	if status, body := ask(t, http.MethodDelete, r.url+acmeMain); status != http.StatusNoContent {
		t.Errorf("delete: %d %s", status, body)
	}
	if took := time.Since(began); took > 10*time.Second { // it takes what the files need; the client would be waited for three times as long
		t.Errorf("the deletion took %v", took)
	}
	close(quit)
	<-asked
}

// TestNodeStopsPromptlyAndLeavesNoGoroutine (X1, X4): in this process, with clients that never read, and never send.
func TestNodeStopsPromptlyAndLeavesNoGoroutine(t *testing.T) {
	before := goleak.IgnoreCurrent()
	dir, segment := bigNode(t)
	cfg := config.Default()
	cfg.Node.ID, cfg.Node.DataDir, cfg.ObjectStore.URL = "a", dir, ""
	cfg.Listen.HTTP = "127.0.0.1:" + freePort(t)
	ctx, stop := context.WithCancelCause(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, cfg) }()
	r := &running{t: t, url: "http://" + cfg.Listen.HTTP}
	r.await("ready", func() bool { status, _ := r.get("/readyz"); return status == http.StatusOK })
	r.neverRead(segment)
	r.await("the download holds the gate", func() bool { return r.inside("wal_download") })
	for _, start := range []string{"", "GET /v1/", "PUT " + acmeMain + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"} {
		conn, err := net.Dial("tcp", cfg.Listen.HTTP)
		must(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = io.WriteString(conn, start)
		must(t, err)
	}
	began := time.Now()
	stop(errors.New("the test says so"))
	if err := <-ended; err != nil {
		t.Errorf("it stopped with %v", err)
	}
	if took := time.Since(began); took > 15*time.Second { // half of what the whole shutdown has
		t.Errorf("it took %v", took)
	}
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

// TestSystemdIsTold what it waits for.
func TestSystemdIsTold(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	must(t, err)
	defer func() { _ = conn.Close() }() // nothing was written
	r := startNode(t, newDeadNode(t, "a", "").dir, "shutdown_timeout: 10s", "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=100000")
	var said strings.Builder
	hear := func(want string) {
		t.Helper()
		for buf := make([]byte, 4096); !strings.Contains(said.String(), want); {
			must(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("systemd was not told %q: %v; it was told %q", want, err, said.String())
			}
			said.WriteString(string(buf[:n]) + "\n")
		}
	}
	hear("READY=1\n")
	said.Reset()
	hear("WATCHDOG=1\nWATCHDOG=1\n") // again and again
	r.terminate()
	hear("STATUS=stopping: readiness\n")
	hear("STOPPING=1\nEXTEND_TIMEOUT_USEC=12000000\n")
	hear("STATUS=stopping: telemetry\n")
	if code := r.exits(time.Minute); code != exitDone {
		t.Errorf("exit status %d", code)
	}
}

// TestSecondProcessRefusesTheDataDirectory (X6), and the first is not disturbed.
func TestSecondProcessRefusesTheDataDirectory(t *testing.T) {
	t.Parallel()
	r := startNode(t, newDeadNode(t, "a", "").dir, "")
	file := filepath.Join(t.TempDir(), "second.yaml")
	must(t, os.WriteFile(file, fmt.Appendf(nil, "node: {id: a, data_dir: %q}\nlisten: {http: \"127.0.0.1:0\"}\nobject_store: {url: \"\"}\n", r.dir), 0o600))
	out, err := exec.CommandContext(t.Context(), "sluice", "serve", "--config", file).CombinedOutput()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != exitFailed || !strings.Contains(string(out), "data directory") {
		t.Errorf("the second process: %v\n%s", err, out)
	}
	if status, body := r.get(acmeMain + "/wal/" + segmentOne); status != http.StatusOK {
		t.Errorf("the first: %d %s", status, body)
	}
}

func readDir(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
