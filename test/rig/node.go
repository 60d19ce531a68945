package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pgserver"
)

// NodeID is the id of every node here: the name for
// synchronous_standby_names, and "sluice_" + NodeID the slot.
const NodeID = "node"

// Timeline is the one timeline that the tests keep.
const Timeline = "acme/main"

// NodeOptions say how a node is set up. Only Binary is required.
type NodeOptions struct {
	Binary string
	// DataDir is where the WAL goes; empty: a directory of the node's own.
	DataDir string
	// Wrapper is a program with arguments that runs the binary, such as strace.
	Wrapper []string
	// Config is YAML that is added to the configuration file.
	Config string
	// ID names the node; empty: NodeID.
	ID string
	// Store is the object storage's URL; empty: none.
	Store string
	// PartialInterval is how old the copy of an open segment may become, as
	// "2s"; empty: the configuration's default.
	PartialInterval string
	// Env is added to the environment of the node, and of what Run runs.
	Env []string
}

// Node is one `sluice serve`, which may be started and killed many times on
// its data directory. Its methods are for one goroutine, but for those that
// only ask the node something.
type Node struct {
	opts   NodeOptions
	dir    string // the configuration, the log; the working directory
	http   string // host:port
	pgPort int
	proc   *process // the last one started; nil: none yet
	client *http.Client
}

// NewNode prepares a node; Start starts it. After the test it is killed, and
// its log is shown if the test failed.
func NewNode(t testing.TB, opts NodeOptions) (*Node, error) {
	t.Helper()
	if opts.ID == "" {
		opts.ID = NodeID
	}
	n := &Node{opts: opts, dir: TempDir(t), client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	if n.opts.DataDir == "" {
		n.opts.DataDir = filepath.Join(n.dir, "data")
	}
	port, err := pgserver.FreePort()
	if err != nil {
		return nil, err
	}
	n.http = fmt.Sprintf("127.0.0.1:%d", port)
	if n.pgPort, err = pgserver.FreePort(); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := n.Kill(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the end of the node's log:\n%s", Tail(n.LogFile(), 40))
		}
	})
	return n, os.WriteFile(n.configFile(), []byte(n.config()), 0o644)
}

func (n *Node) config() string {
	store := fmt.Sprintf("url: %q", n.opts.Store)
	if n.opts.PartialInterval != "" {
		store += ", partial_interval: " + n.opts.PartialInterval
	}
	return fmt.Sprintf(`node: {id: %s, data_dir: %q}
listen: {http: %q, postgres: "127.0.0.1:%d"}
object_store: {%s}
%s
`, n.opts.ID, n.opts.DataDir, n.http, n.pgPort, store, n.opts.Config)
}

// ID is the node's name, for synchronous_standby_names.
func (n *Node) ID() string { return n.opts.ID }

// DestroyDisk removes all that the node has on its disk. It must not run.
func (n *Node) DestroyDisk() error {
	if n.Running() {
		return errors.New("destroy the node's disk: the node runs")
	}
	return os.RemoveAll(n.opts.DataDir)
}

func (n *Node) configFile() string { return filepath.Join(n.dir, "sluice.yaml") }

// LogFile is what all runs of the node have written.
func (n *Node) LogFile() string { return filepath.Join(n.dir, "sluice.log") }

// DataDir is the node's data directory.
func (n *Node) DataDir() string { return n.opts.DataDir }

// WALDir is where the segments of Timeline lie.
func (n *Node) WALDir() string {
	return filepath.Join(n.opts.DataDir, "tenants", "acme", "timelines", "main", "wal")
}

// URL is the node's HTTP address.
func (n *Node) URL() string { return "http://" + n.http }

// Store is the object storage's URL; empty: none.
func (n *Node) Store() string { return n.opts.Store }

// Binary is the program that the node runs.
func (n *Node) Binary() string { return n.opts.Binary }

// Start starts the node and waits until it is ready.
func (n *Node) Start(ctx context.Context) error {
	if n.Running() {
		return errors.New("start the node: it runs already")
	}
	argv := append(append([]string{}, n.opts.Wrapper...), n.opts.Binary, "serve", "--config", n.configFile())
	cmd, err := command(context.Background(), n.dir, argv, n.opts.Env...) // the node outlives the time to start it
	if err != nil {
		return err
	}
	if n.proc, err = spawn(cmd, n.LogFile()); err != nil {
		return fmt.Errorf("start the node: %w", err)
	}
	err = Poll(ctx, 10*time.Millisecond, func() (bool, error) {
		if n.proc.ended() {
			return false, fmt.Errorf("it ended: %w", n.proc.err)
		}
		return n.ready(ctx), nil
	})
	if err != nil {
		return fmt.Errorf("start the node: %w\n%s", err, Tail(n.LogFile(), 15))
	}
	return nil
}

func (n *Node) ready(ctx context.Context) bool {
	resp, err := n.get(ctx, "/readyz")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// get asks the node over HTTP, on a connection of its own.
func (n *Node) get(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.URL()+path, nil)
	if err != nil {
		return nil, err
	}
	return n.client.Do(req)
}

// Get asks the node and returns the answer's status and body.
func (n *Node) Get(ctx context.Context, path string) (status int, body []byte, err error) {
	resp, err := n.get(ctx, path)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// Running says whether the node's process lives.
func (n *Node) Running() bool { return n.proc != nil && !n.proc.ended() }

// Kill ends the node by SIGKILL. One that is not running is no error.
func (n *Node) Kill() error {
	if n.proc == nil {
		return nil
	}
	return n.proc.kill()
}

// Stop ends the node by SIGTERM; an exit status but 0 is an error.
func (n *Node) Stop(ctx context.Context) error {
	if n.proc == nil {
		return nil
	}
	return n.proc.stop(ctx)
}

// Pause freezes the node, as a machine that swaps does; Resume ends that.
func (n *Node) Pause() error { return n.proc.signal(syscall.SIGSTOP) }

// Resume lets a paused node go on.
func (n *Node) Resume() error { return n.proc.signal(syscall.SIGCONT) }

// PID is the process id of the node's last run; 0 before the first.
func (n *Node) PID() int {
	if n.proc == nil {
		return 0
	}
	return n.proc.cmd.Process.Pid
}
