package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// LieAboutSync makes every fsync and fdatasync of the running node a success
// that did nothing, until the node ends: the disk cache that lies. It needs
// strace; exec.ErrNotFound says that there is none.
func (n *Node) LieAboutSync(ctx context.Context, t testing.TB) error {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		return err
	}
	pid := strconv.Itoa(n.proc.cmd.Process.Pid)
	cmd := exec.CommandContext(t.Context(), strace, "-f", "-qq", "-o", "/dev/null", "-p", pid,
		"-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:retval=0")
	if err := cmd.Start(); err != nil {
		return err
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // the test's context has ended it
	return Poll(ctx, 10*time.Millisecond, func() (bool, error) { return traced(pid) })
}

// traced says whether all threads of a process are.
func traced(pid string) (bool, error) {
	threads, err := filepath.Glob("/proc/" + pid + "/task/*/status")
	if err != nil || len(threads) == 0 {
		return false, errors.Join(err, fmt.Errorf("no process %s", pid))
	}
	for _, file := range threads {
		b, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(b), "TracerPid:\t0\n") {
			return false, nil
		}
	}
	return true, nil
}
