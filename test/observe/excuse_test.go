package observe

import (
	"os"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/prometheus/promql/parser"
)

// A rule is as much of one as tells how far it looks back.
type rule struct{ Record, Alert, Expr string }

func readRules(t testing.TB) (all []rule) {
	t.Helper()
	text, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// looksBack is the longest range of a rule's selectors, and of those rules' that it takes values of.
func looksBack(all []rule, name string) (longest time.Duration) {
	for _, r := range all {
		if r.Record != name && r.Alert != name {
			continue
		}
		expr, err := parser.ParseExpr(r.Expr)
		if err != nil {
			continue // Prometheus says so
		}
		parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
			switch n := n.(type) {
			case *parser.MatrixSelector:
				longest = max(longest, n.Range)
			case *parser.VectorSelector:
				if n.Name != name {
					longest = max(longest, looksBack(all, n.Name))
				}
			}
			return nil
		})
	}
	return longest
}

func TestRulesLookBack(t *testing.T) {
	for _, name := range ofDisks {
		if got := looksBack(readRules(t), name); got != 5*time.Minute {
			t.Errorf("%s looks back %v", name, got)
		}
	}
	if got := looksBack(readRules(t), "SluiceDown"); got != 24*time.Hour {
		t.Errorf("SluiceDown looks back %v", got)
	}
}

// TestExcuseOfASlowDiskExpires: what was slow before the alert looks back to explains nothing.
func TestExcuseOfASlowDiskExpires(t *testing.T) {
	began := time.Now()
	at := func(seconds ...int) (list []time.Time) {
		for _, s := range seconds {
			list = append(list, began.Add(time.Duration(s)*time.Second))
		}
		return list
	}
	for _, c := range []struct {
		name    string
		slow    []time.Time
		now     int
		excused bool
	}{
		{"no sync was slow", nil, 10, false},
		{"as many as a good disk has", at(1, 2, 3), 10, false},
		{"one more, within a minute", at(1, 20, 40, 60), 61, true},
		{"as many, over more than a minute", at(1, 20, 40, 62), 63, false},
		{"the last of a minute counts", at(1, 40, 70, 80, 90), 91, true},
		{"at the end of the window", at(1, 2, 3, 4), 4 + 300, true},
		{"behind it", at(1, 2, 3, 4), 5 + 300, false},
		{"behind it, and one sync was slow since", at(1, 2, 3, 4, 290), 306, false},
		{"slow again", at(1, 2, 3, 4, 400, 401, 402, 403), 420, true},
	} {
		if got := slowWithin(c.slow, began.Add(time.Duration(c.now)*time.Second), 5*time.Minute); got != c.excused {
			t.Errorf("%s: excused is %v", c.name, got)
		}
	}
}

// TestOnlyWhatLooksAtTheDiskIsExcused, and only while it does.
func TestOnlyWhatLooksAtTheDiskIsExcused(t *testing.T) {
	now := time.Now()
	d := &disk{windows: map[string]time.Duration{"SluiceFsyncSlow": 5 * time.Minute}}
	for range slowInAMinute {
		d.wasSlow(now)
	}
	slow, other := alert{Labels: of("SluiceFsyncSlow")}, alert{Labels: of("SluiceFsyncHangs")}
	if !d.explains(slow, now.Add(time.Minute)) || d.explains(other, now.Add(time.Minute)) {
		t.Error("slow syncs are not explained, or others are")
	}
	if d.explains(slow, now.Add(6*time.Minute)) {
		t.Error("a slow disk is an excuse for as long as one likes")
	}
}
