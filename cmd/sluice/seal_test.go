package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// TestSealOverSeveralNodesIsRefused: commits may lie only on another node, which this version does not ask. Over HTTP and by the
// command line that is an error that says what to do, and the operator's word that what is missing may be lost makes it a seal.
func TestSealOverSeveralNodesIsRefused(t *testing.T) {
	t.Parallel()
	dead := newDeadNode(t, "a", "ANY 2 (a, b, c)")
	r := startNode(t, dead.dir, `broker: {url: "nats://127.0.0.1:1"}
peers: [{id: b, url: "http://127.0.0.1:2"}, {id: c, url: "http://127.0.0.1:3"}]`)
	advice := []string{"ANY 2 (a, b, c)", "b, c", "cannot seal over several nodes", "--accept-data-loss"}
	status, body := ask(t, http.MethodPost, r.url+acmeMain+"/seal")
	if status != http.StatusConflict {
		t.Errorf("POST: %d %s", status, body)
	}
	names(t, body, advice...)
	code, out := verb(t, r, "timeline", "seal", "acme/main")
	if code != exitFailed {
		t.Errorf("exit status %d: %s", code, out)
	}
	names(t, out, advice...)
	if c := dead.control(t); len(c.Seals) > 0 {
		t.Fatalf("it was refused, and is sealed: %+v", c.Seals)
	}
	code, out = verb(t, r, "timeline", "seal", "acme/main", "--accept-data-loss")
	if code != 0 {
		t.Errorf("exit status %d: %s", code, out)
	}
	names(t, out, fmt.Sprintf("TLI 1 is sealed, its end is %s", dead.end), "--accept-data-loss")
	if c := dead.control(t); len(c.Seals) != 1 {
		t.Errorf("seals: %+v", c.Seals)
	}
}

// verb runs a verb on a node, and returns its exit status and all that it printed.
func verb(t *testing.T, r *running, args ...string) (code int, out string) {
	t.Helper()
	var b bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "sluice", append(args, "--server="+r.url)...)
	cmd.Stdout, cmd.Stderr = &b, &b
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), b.String()
}

// names wants a text to have each of some pieces.
func names(t *testing.T, text string, pieces ...string) {
	t.Helper()
	for _, p := range pieces {
		if !strings.Contains(text, p) {
			t.Errorf("%q is not in: %s", p, text)
		}
	}
}
