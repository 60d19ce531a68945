package notices

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// small is a module with one notice that a test misses, and one that none does.
var small = map[string]string{
	"go.mod": "module small\n\ngo 1.24\n",
	"wake.go": `package small

type Wake struct{ Rung int }

func (w *Wake) Ring() { w.Rung++ }

func Missed(w *Wake) { w.Ring() }

func NotMissed(w *Wake) { defer w.Ring() }
`,
	"wake_test.go": `package small

import (
	"os"
	"testing"
)

func TestMissed(t *testing.T) {
	if w := new(Wake); true {
		if Missed(w); w.Rung != 1 {
			t.Error("not rung")
		}
	}
}

func TestNotMissed(*testing.T) { NotMissed(new(Wake)) }

func TestFailsAnyway(t *testing.T) { NotMissed(new(Wake)); t.Error("as always") }

func TestIsSkipped(t *testing.T) { NotMissed(new(Wake)); t.Skip("as always") }

// TestFailsOnce fails in the run without the notice, and again in the one with it.
func TestFailsOnce(t *testing.T) {
	NotMissed(new(Wake))
	runs, err := os.ReadFile("runs")
	if err != nil {
		runs = nil
	}
	if err := os.WriteFile("runs", append(runs, '.'), 0o600); err != nil || len(runs) > 0 && len(runs) < 3 {
		t.Error("now and then")
	}
}
`,
}

// A survivor is found, and neither a test that fails whatever is left out nor one that fails now and then is taken for evidence.
func TestSurvivorIsFound(t *testing.T) {
	root := t.TempDir()
	for name, text := range small {
		must(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o600))
	}
	notices, err := find(root)
	must(t, err)
	if len(notices) != 2 {
		t.Fatalf("found were %v", notices)
	}
	s := &sweep{root: root, dir: t.TempDir(), notices: notices}
	must(t, s.build(t.Context(), regexp.MustCompile("")))
	s.measureAll(t)
	for i, want := range []string{"missed by ..TestMissed in ", "missed by nobody, of 2 tests that come by"} {
		verdict, missed, err := s.judge(t.Context(), &notices[i])
		must(t, err)
		if missed != (i == 0) || !strings.HasPrefix(verdict, want) {
			t.Errorf("%s is %s", &notices[i], verdict)
		}
	}
}
