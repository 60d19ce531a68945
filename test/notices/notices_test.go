package notices

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	leaveOut = flag.Bool("leave-out", false, "leave out each notice, and run the tests that should notice")
	only     = flag.String("only", "", "only the notices of which file:line:call matches this expression")
)

// asked are tests of a package: those that a pattern matches, or those that it does not.
type asked struct{ pkg, flag, pattern string }

// slow are keeper's tests that run a PostgreSQL, or crash at each of many steps.
const slow = "Crash|Server|Failover|Foreign|Slot|NewTLI|EveryWait"

var (
	fastKeeper = asked{"internal/keeper", "-skip", slow}
	slowKeeper = asked{"internal/keeper", "-run", slow}
)

// missedBy names the tests that should notice, the quickest first. A directory that is not here tells nobody, which
// TestEveryNoticeIsAskedOf holds it to.
var missedBy = map[string][]asked{
	"internal/tasks":    {all("internal/tasks"), all("internal/manager")},
	"internal/timeline": {all("internal/timeline"), all("internal/manager"), fastKeeper, slowKeeper},
	"internal/manager":  {all("internal/manager"), fastKeeper, slowKeeper},
	"internal/broker":   {all("internal/broker"), fastKeeper},
	"internal/keeper":   {fastKeeper, slowKeeper},
}

func all(pkg string) asked { return asked{pkg, "-run", "."} }

// tooSlow is how long the tests of a package may take: one that waits for ever for what it was not told has noticed.
const tooSlow = 5 * time.Minute

func TestEveryNoticeIsAskedOf(t *testing.T) {
	found := map[string]int{}
	for _, dir := range directories(t) {
		notices, err := find(dir)
		must(t, err)
		if found[dir] = len(notices); len(notices) > 0 && missedBy[dir] == nil {
			t.Errorf("%s tells of changes, first by %s: say in missedBy whose tests would notice if it did not", dir, notices[0].text)
		}
	}
	for dir := range missedBy {
		if found[dir] == 0 {
			t.Errorf("no notice was found in %s: the expression does not fit the code any more", dir)
		}
	}
}

func directories(t *testing.T) (dirs []string) {
	t.Helper()
	for _, below := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, below), func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			if dir := strings.TrimPrefix(filepath.Dir(path), root+"/"); !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
			return nil
		})
		must(t, err)
	}
	return dirs
}

// Each call that tells somebody of a change is needed: without it, a test fails.
func TestNothingIsToldInVain(t *testing.T) {
	if !*leaveOut {
		t.Skip("takes the better part of an hour; 'make notices' runs it")
	}
	wanted := regexp.MustCompile(*only)
	for _, dir := range directories(t) {
		notices, err := find(dir)
		must(t, err)
		for i := range notices {
			n := &notices[i]
			name := n.file + ":" + strconv.Itoa(n.line) + ":" + n.text
			if wanted.MatchString(name) {
				t.Run(name, n.isMissed)
			}
		}
	}
}

func (n *notice) isMissed(t *testing.T) {
	overlay := n.overlay(t)
	for _, tests := range missedBy[n.dir] {
		began := time.Now()
		if out, failed := tests.run(t, overlay); failed {
			t.Logf("%s noticed after %v: %s", tests.pkg, time.Since(began).Round(time.Second), firstFailure(out))
			return
		}
	}
	t.Errorf("nobody noticed")
}

// overlay makes what 'go test -overlay' reads: the file without the call, in place of the one that is there.
func (n *notice) overlay(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, n.file))
	must(t, err)
	src, err := os.ReadFile(path)
	must(t, err)
	dir := t.TempDir()
	without := filepath.Join(dir, filepath.Base(n.file))
	must(t, os.WriteFile(without, n.leftOut(src), 0o600))
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{path: without}})
	must(t, err)
	overlay := filepath.Join(dir, "overlay.json")
	must(t, os.WriteFile(overlay, replace, 0o600))
	return overlay
}

// run runs the tests. What cannot be built is no test that failed.
func (a asked) run(t *testing.T, overlay string) (out string, failed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), tooSlow+time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-overlay", overlay, "-vet=off", "-count=1", "-failfast", "-timeout", tooSlow.String(), a.flag, a.pattern, "./"+a.pkg)
	cmd.Dir = root
	said, err := cmd.CombinedOutput()
	exit := new(exec.ExitError)
	switch {
	case err == nil:
		return string(said), false
	case !errors.As(err, &exit) || strings.Contains(string(said), "[build failed]") || strings.Contains(string(said), "[setup failed]"):
		t.Fatalf("%s: %v\n%s", a.pkg, err, said)
	}
	return string(said), true
}

var failure = regexp.MustCompile(`(?m)^\s*(--- FAIL: \S+|panic: .*|goleak: .*)`)

func firstFailure(out string) string {
	if first := failure.FindStringSubmatch(out); first != nil {
		return first[1]
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
