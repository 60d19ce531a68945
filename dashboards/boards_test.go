package dashboards

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/dashboards/internal/boards"
)

// update writes the dashboards instead of comparing them; go generate does.
var update = flag.Bool("update", false, "write the dashboards")

func TestDashboardsAreFresh(t *testing.T) {
	files := map[string]bool{}
	for _, b := range boards.All() {
		name := b.File + ".json"
		files[name] = true
		want, err := b.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(name, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(name)
		if err != nil || string(got) != string(want) {
			t.Errorf("%s is not what its source says: run go generate ./dashboards", name)
		}
	}
	all, err := filepath.Glob("*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		if !files[name] {
			t.Errorf("%s has no source", name)
		}
	}
}

func TestThereAreNineDashboardsOfAllThatMatters(t *testing.T) {
	panels := 0
	titles := map[string]string{}
	for _, b := range boards.All() {
		for _, p := range panelsOf(b) {
			panels++
			key := b.File + ": " + p.Title
			if titles[key] != "" {
				t.Errorf("%s is there twice", key)
			}
			titles[key] = key
		}
	}
	if n := len(boards.All()); n != 9 || panels < 110 {
		t.Errorf("there are %d dashboards with %d panels", n, panels)
	}
}

func TestPanelsExplainThemselves(t *testing.T) {
	alerts := alertsByName(t)
	for _, b := range boards.All() {
		for _, p := range panelsOf(b) {
			at := b.File + ": " + p.Title
			if p.Unit == "" || len(p.Text) < 20 || !strings.HasSuffix(p.Text, ".") || len(p.Queries) == 0 {
				t.Errorf("%s has no unit, no query, or no description", at)
			}
			if question := strings.HasSuffix(p.Title, "?"); p.Kind != "stat" && !question {
				t.Errorf("%s is no question", at)
			}
			if p.Alert != "" && alerts[p.Alert] == nil {
				t.Errorf("%s leads to the runbook of %s, which is no alert", at, p.Alert)
			}
		}
	}
}

// What a panel colours has to be what the alert judges: the value is in the alert's expression. Of what may not happen at all, or
// only beyond an allowance, the panel colours some fraction.
func TestThresholdsAreTheAlerts(t *testing.T) {
	alerts := alertsByName(t)
	found := 0
	for _, b := range boards.All() {
		for _, p := range panelsOf(b) {
			rules := alerts[p.Alert]
			if p.Kind != "timeseries" || len(rules) == 0 {
				continue
			}
			for _, v := range p.Thresholds() {
				found++
				if !slices.ContainsFunc(rules, func(r rule) bool { return judges(t, r, v) }) {
					t.Errorf("%s: %s: the threshold %g is not one of %s", b.File, p.Title, v, p.Alert)
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d thresholds were compared", found)
	}
}

// judges reports whether a rule has the value, as it is, as the rest to 1, or in hours.
func judges(t *testing.T, r rule, v float64) bool {
	t.Helper()
	return hasNumber(t, r.Expr, v) || hasNumber(t, r.Expr, 1-v) || hasNumber(t, r.Expr, v/3600) ||
		v <= 1 && strings.HasSuffix(strings.TrimSpace(r.Expr), "> 0") || v == 1 && strings.Contains(r.Expr, ":rate2m")
}

func TestNoDataSourceIsHardCoded(t *testing.T) {
	for _, b := range boards.All() {
		text, err := b.JSON()
		if err != nil {
			t.Fatal(err)
		}
		for part := range strings.SplitSeq(string(text), `"uid": `) {
			uid, _, _ := strings.Cut(part, "\n")
			uid = strings.Trim(uid, `",`)
			if uid != "{" && uid != "${datasource}" && uid != "sluice-"+b.File {
				t.Errorf("%s has the id %s", b.File, uid)
			}
		}
	}
}

func TestFilesAreInTheBinary(t *testing.T) {
	for _, b := range boards.All() {
		if _, err := fs.Stat(Files, b.File+".json"); err != nil {
			t.Error(err)
		}
	}
	if _, err := fs.Stat(Files, "alerts.yaml"); err != nil {
		t.Error(err)
	}
}

func panelsOf(b *boards.Board) []*boards.Panel {
	var list []*boards.Panel
	for _, r := range b.Rows {
		list = append(list, r.Panels...)
	}
	return list
}
