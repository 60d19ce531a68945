package notices

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// sweep has the tests of the packages that have notices, built once with every notice behind its switch.
type sweep struct {
	root    string
	dir     string // of what is built and written
	notices []notice
	tests   []test
}

// test is one test, as it runs with nothing left out.
type test struct {
	pkg, name string
	took      time.Duration
	reaches   map[int]bool // the numbers of the notices that it comes by
	bad       string       // why it is no evidence; "": it is
}

// String returns the package's last name and the test's.
func (x *test) String() string { return filepath.Base(x.pkg) + "." + x.name }

// limit is far beyond what the test takes with nothing left out: one that has not ended by then waits for what it was not told.
func (x *test) limit() time.Duration { return 30*time.Second + 20*x.took }

// build builds the tests of each package that has notices, and lists those that match.
func (s *sweep) build(ctx context.Context, wanted *regexp.Regexp) error {
	replaced, err := overlay(s.root, s.dir, s.notices)
	if err != nil {
		return err
	}
	built := map[string]bool{}
	for i := range s.notices {
		pkg := filepath.Dir(s.notices[i].file)
		if built[pkg] {
			continue
		}
		built[pkg] = true
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-overlay", replaced, "-vet=off", "-o", s.binary(pkg), "./"+pkg)
		cmd.Dir = s.root
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build the tests of %s: %w\n%s", pkg, err, out)
		}
		cmd = exec.CommandContext(ctx, s.binary(pkg), "-test.list", "^Test")
		cmd.Dir = filepath.Join(s.root, pkg)
		list, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("list the tests of %s: %w", pkg, err)
		}
		for name := range strings.FieldsSeq(string(list)) {
			if x := (test{pkg: pkg, name: name}); wanted.MatchString(x.String()) {
				s.tests = append(s.tests, x)
			}
		}
	}
	return nil
}

func (s *sweep) binary(pkg string) string {
	return filepath.Join(s.dir, strings.ReplaceAll(pkg, "/", "_")+".test")
}

// measure runs a test with nothing left out.
func (s *sweep) measure(ctx context.Context, x *test) error {
	reached := filepath.Join(s.dir, x.String()+".reached")
	began := time.Now()
	out, failed, err := s.run(ctx, x, 0, 10*time.Minute, reached)
	x.took = time.Since(began)
	switch {
	case err != nil:
		return err
	case failed:
		x.bad = "fails with nothing left out: " + firstFailure(out)
	case skipped.MatchString(out):
		x.bad = "is skipped"
	}
	numbers, err := os.ReadFile(reached)
	if err != nil {
		return err
	}
	x.reaches = map[int]bool{}
	for line := range strings.FieldsSeq(string(numbers)) {
		n, err := strconv.Atoi(line)
		if err != nil {
			return err
		}
		x.reaches[n] = true
	}
	return nil
}

// misses reports whether a test fails without a notice, again and again, and does not with it.
func (s *sweep) misses(ctx context.Context, x *test, n *notice) (how string, missed bool, err error) {
	for _, leftOut := range []int{n.number, 0, n.number} {
		out, failed, err := s.run(ctx, x, leftOut, x.limit(), os.DevNull)
		if err != nil || failed != (leftOut != 0) {
			return "", false, err
		}
		if failed {
			how = firstFailure(out)
		}
	}
	return how, true, nil
}

// run runs one test in a process of its own, without one notice.
func (s *sweep) run(ctx context.Context, x *test, leftOut int, limit time.Duration, reached string) (out string, failed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit+time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary(x.pkg), "-test.run", "^"+x.name+"$", "-test.v", "-test.count=1", "-test.failfast", "-test.timeout", limit.String())
	cmd.Dir = filepath.Join(s.root, x.pkg)
	cmd.Env = append(os.Environ(), leftOutVariable+"="+strconv.Itoa(leftOut), reachedVariable+"="+reached)
	cmd.WaitDelay = time.Second // a PostgreSQL of its own may hold the pipe
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Run()
	exit := new(exec.ExitError)
	switch {
	case err == nil:
		return said.String(), false, nil
	case errors.As(err, &exit) || errors.Is(err, exec.ErrWaitDelay):
		return said.String(), true, nil
	}
	return "", false, fmt.Errorf("run %s: %w", x, err)
}

var (
	skipped = regexp.MustCompile(`(?m)^--- SKIP: `)
	failure = regexp.MustCompile(`(?m)^\s*(\w+_test\.go:\d+: .*|panic: .*|goleak: .*|fatal error: .*)`)
)

func firstFailure(out string) string {
	if first := failure.FindStringSubmatch(out); first != nil {
		return first[1]
	}
	return "it fails"
}
