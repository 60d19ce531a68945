package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sluicewal/sluice/internal/pgserver"
)

const (
	// askAgain is how often something is asked that will be so in a moment.
	askAgain = 200 * time.Millisecond
	// patience is how long that moment may last.
	patience = 20 * time.Second
)

// node is a running `sluice serve`.
type node struct {
	binary string
	dir    string
	url    string
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended
	err    error         // how it did; read after exited only
}

// startNode writes a configuration and starts the node. When ctx ends it is
// asked to stop.
func startNode(ctx context.Context, binary, dir string) (*node, error) {
	n := &node{binary: binary, dir: dir, exited: make(chan struct{})}
	if err := n.configure(); err != nil {
		return nil, fmt.Errorf("configure Sluice: %w", err)
	}
	log, err := os.Create(n.logFile())
	if err != nil {
		return nil, fmt.Errorf("start Sluice: %w", err)
	}
	defer log.Close()
	n.cmd = exec.CommandContext(ctx, binary, "serve", "--config", n.configFile())
	n.cmd.Dir, n.cmd.Stdout, n.cmd.Stderr = dir, log, log
	n.cmd.Cancel = func() error { return n.cmd.Process.Signal(syscall.SIGTERM) }
	n.cmd.WaitDelay = 15 * time.Second
	// A group of its own: Ctrl-C is for us, who end it in order.
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := n.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start Sluice: %w", err)
	}
	go n.wait() // stop waits for it, on n.exited
	return n, nil
}

func (n *node) wait() {
	n.err = n.cmd.Wait()
	close(n.exited)
}

// configure writes sluice.yaml: free ports, everything else in n.dir.
func (n *node) configure() error {
	httpPort, err := pgserver.FreePort()
	if err != nil {
		return err
	}
	postgresPort, err := pgserver.FreePort()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return err
	}
	n.url = fmt.Sprintf("http://127.0.0.1:%d", httpPort)
	return os.WriteFile(n.configFile(), []byte(configText(n.dir, httpPort, postgresPort)), 0o644)
}

func configText(dir string, httpPort, postgresPort int) string {
	return fmt.Sprintf(`node:
  id: %s
  data_dir: %q
listen:
  http: 127.0.0.1:%d
  postgres: 127.0.0.1:%d
object_store:
  url: ""
telemetry:
  log_format: text
`, nodeID, filepath.Join(dir, "data"), httpPort, postgresPort)
}

func (n *node) configFile() string { return filepath.Join(n.dir, "sluice.yaml") }
func (n *node) logFile() string    { return filepath.Join(n.dir, "sluice.log") }

// stop asks the node to end and waits until it has, in order or not.
func (n *node) stop() error {
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop Sluice: %w", err)
	}
	select {
	case <-n.exited:
		return nil
	case <-time.After(patience):
		err := n.cmd.Process.Kill()
		<-n.exited
		return errors.Join(fmt.Errorf("the node did not stop within %v", patience), err)
	}
}

// logTail is the end of the node's log.
func (n *node) logTail(lines int) string {
	b, err := os.ReadFile(n.logFile())
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// verb runs `sluice ARGS…` against the node and returns what it printed.
func (n *node) verb(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, n.binary, args...)
	cmd.Env = append(os.Environ(), "SLUICE_SERVER="+n.url)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w", commandLine("sluice", args...), err)
	}
	return string(out), err
}

// retry runs a verb until it succeeds, for a while. It returns what the last
// run printed.
func (n *node) retry(ctx context.Context, args ...string) (out string, err error) {
	err = n.until(ctx, func() error {
		out, err = n.verb(ctx, args...)
		return err
	})
	return out, err
}

// waitReady waits until the node says that it is.
func (n *node) waitReady(ctx context.Context) error {
	return n.until(ctx, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("GET /readyz answers %s", resp.Status)
		}
		return nil
	})
}

// waitConnected waits until the timeline receives: from then on nothing of
// the WAL is missed, and a base backup may begin.
func (d *demo) waitConnected(ctx context.Context) error {
	return d.node.until(ctx, func() error {
		out, err := d.node.verb(ctx, "timeline", "show", timelineName, "-o", "json")
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return connected([]byte(out))
	})
}

// connected says why a timeline's status is not that of one that receives.
func connected(status []byte) error {
	var s struct {
		StartLSN string `json:"start_lsn"`
		Source   struct {
			Connected bool   `json:"connected"`
			State     string `json:"state"`
			Error     string `json:"error"`
		} `json:"source"`
	}
	if err := json.NewDecoder(bytes.NewReader(status)).Decode(&s); err != nil {
		return fmt.Errorf("read the timeline's status: %w", err)
	}
	if !s.Source.Connected || s.StartLSN == "" || s.StartLSN == "0/0" {
		return fmt.Errorf("the timeline does not receive yet: %s %s", s.Source.State, s.Source.Error)
	}
	return nil
}

// until tries again and again, until it succeeds, the node ends, ctx does, or
// patience does; the error is then the last try's.
func (n *node) until(ctx context.Context, try func() error) error {
	ticker := time.NewTicker(askAgain)
	defer ticker.Stop()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-late.C:
			return err
		case <-n.exited:
			return errors.Join(errors.New("the node ended"), n.err, err)
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}
