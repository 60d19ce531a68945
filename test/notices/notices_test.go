package notices

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	leaveOut = flag.Bool("leave-out", false, "leave out each notice, and run the tests that come by it")
	only     = flag.String("only", "", "only the notices of which 'file:line function: statement' matches this expression")
	tests    = flag.String("tests", "", "only the tests of which package.name matches this expression")
	report   = flag.String("report", "", "a file to which what became of each notice is written")
	longest  = flag.Duration("longest", time.Minute, "how long a test may take that is asked")
)

// Each statement that tells somebody of a change is needed: without it, a test fails.
func TestNothingIsToldInVain(t *testing.T) {
	if !*leaveOut {
		t.Skip("takes ten minutes; 'make notices' runs it")
	}
	notices, err := find(root)
	must(t, err)
	s := &sweep{root: root, dir: t.TempDir(), notices: notices}
	must(t, s.build(t.Context(), regexp.MustCompile(*tests)))
	s.measureAll(t)
	wanted := regexp.MustCompile(*only)
	lines := make([]string, 0, len(notices))
	for i := range notices {
		n := &notices[i]
		if !wanted.MatchString(n.String()) {
			continue
		}
		t.Run(fmt.Sprintf("%s:%d", n.file, n.line), func(t *testing.T) {
			verdict, missed, err := s.judge(t.Context(), n)
			must(t, err)
			lines = append(lines, n.String()+": "+verdict)
			if t.Log(verdict); !missed {
				t.Errorf("%s is %s", n, verdict)
			}
		})
	}
	if *report != "" {
		must(t, os.WriteFile(*report, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	}
}

// measureAll runs each test alone with nothing left out, two at a time, and sorts them: the quickest first.
func (s *sweep) measureAll(t *testing.T) {
	t.Helper()
	var wg sync.WaitGroup
	next := make(chan *test)
	for range 2 {
		wg.Go(func() {
			for x := range next {
				if err := s.measure(t.Context(), x); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range s.tests {
		next <- &s.tests[i]
	}
	close(next)
	wg.Wait()
	slices.SortFunc(s.tests, func(a, b test) int { return cmp.Compare(a.took, b.took) })
	var all time.Duration
	for i := range s.tests {
		x := &s.tests[i]
		if all += x.took; x.took > *longest && x.bad == "" {
			x.bad = fmt.Sprintf("takes %s", x.took.Round(time.Second))
		}
		if x.bad != "" {
			t.Logf("%s is not asked: it %s", x, x.bad)
		}
	}
	t.Logf("%d tests were measured in %s", len(s.tests), all.Round(time.Second))
}

// judge says which test misses a notice, if one does.
func (s *sweep) judge(ctx context.Context, n *notice) (verdict string, missed bool, err error) {
	asked := 0
	for i := range s.tests {
		x := &s.tests[i]
		if x.bad != "" || !x.reaches[n.number] {
			continue
		}
		asked++
		how, missed, err := s.misses(ctx, x, n)
		if err != nil {
			return "", false, err
		}
		if missed {
			return fmt.Sprintf("missed by %s in %s: %s", x, x.took.Round(time.Millisecond), how), true, nil
		}
	}
	return fmt.Sprintf("missed by nobody, of %d tests that come by", asked), false, nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
