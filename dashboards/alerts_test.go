package dashboards

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/prometheus/promql/parser"
)

// rule is a rule as Prometheus has it.
type rule struct {
	Record, Alert, Expr, For string
	Labels, Annotations      map[string]string
}

// ruleTests is a file of promtool's tests.
type ruleTests struct {
	Tests []struct {
		Name        string
		InputSeries []struct{ Series, Values string } `yaml:"input_series"`
		Exprs       []struct {
			Expr       string
			EvalTime   string `yaml:"eval_time"`
			ExpSamples []struct {
				Labels string
				Value  float64
			} `yaml:"exp_samples"`
		} `yaml:"promql_expr_test"`
	}
}

func rules(t *testing.T) []rule {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []rule
		}
	}
	readYAML(t, "alerts.yaml", &file)
	var all []rule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// alertsByName has the rules of each alert; some have two.
func alertsByName(t *testing.T) map[string][]rule {
	t.Helper()
	all := map[string][]rule{}
	for _, r := range rules(t) {
		if r.Alert != "" {
			all[r.Alert] = append(all[r.Alert], r)
		}
	}
	return all
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalWithOptions(text, into, yaml.AllowDuplicateMapKey()); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func TestAlertsSayWhatTheyAreAbout(t *testing.T) {
	alerts := alertsByName(t)
	if len(alerts) < 35 {
		t.Errorf("there are only %d alerts", len(alerts))
	}
	object := regexp.MustCompile(`\$labels\.(instance|timeline|peer)\b`)
	for name, rules := range alerts {
		for _, r := range rules {
			if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
				t.Errorf("%s has the severity %q", name, r.Labels["severity"])
			}
			if r.For == "" {
				t.Errorf("%s does not say for how long", name)
			}
			if !object.MatchString(r.Annotations["summary"]) {
				t.Errorf("%s: the summary names neither a node nor a timeline: %s", name, r.Annotations["summary"])
			}
			if len(r.Annotations["description"]) < 60 {
				t.Errorf("%s has no description", name)
			}
			if url := r.Annotations["runbook_url"]; !strings.HasSuffix(url, "/dashboards/runbooks/"+name+".md") {
				t.Errorf("%s leads to %s", name, url)
			}
			if _, err := os.Stat(filepath.Join("runbooks", name+".md")); err != nil {
				t.Errorf("%s has no runbook: %v", name, err)
			}
		}
	}
}

// Each alert is tested in its case and in a neighbouring healthy one, and what its text refers to are labels that it has.
func TestEachAlertIsTestedBothWays(t *testing.T) {
	fires, silent := map[string]bool{}, map[string]bool{}
	labels := map[string][]string{} // of the alerts that fire
	name := regexp.MustCompile(`^(Sluice\w+) (fires|silent): .+`)
	for _, path := range testFiles(t) {
		var file ruleTests
		readYAML(t, path, &file)
		for _, test := range file.Tests {
			m := name.FindStringSubmatch(test.Name)
			if m == nil {
				t.Errorf("%s: the name of %q does not say which alert fires, or is silent, in which case", path, test.Name)
				continue
			}
			samples := 0
			for _, e := range test.Exprs {
				if e.Expr != `ALERTS{alertstate="firing"}` {
					t.Errorf("%s: %s does not ask for all alerts that fire", path, test.Name)
				}
				for _, s := range e.ExpSamples {
					samples++
					labels[m[1]] = append(labels[m[1]], s.Labels)
					if !strings.Contains(s.Labels, `alertname="`+m[1]+`"`) {
						t.Errorf("%s: in %s another alert fires: %s", path, test.Name, s.Labels)
					}
				}
			}
			if (samples > 0) != (m[2] == "fires") {
				t.Errorf("%s: %s expects %d alerts", path, test.Name, samples)
			}
			map[string]map[string]bool{"fires": fires, "silent": silent}[m[2]][m[1]] = true
		}
	}
	for alert, rules := range alertsByName(t) {
		if !fires[alert] || !silent[alert] {
			t.Errorf("%s is tested to fire: %v, to be silent: %v", alert, fires[alert], silent[alert])
		}
		for _, r := range rules {
			checkTemplate(t, r, labels[alert])
		}
	}
}

// checkTemplate: one of the alerts that a test saw has all labels that the rule's texts refer to.
func checkTemplate(t *testing.T, r rule, seen []string) {
	t.Helper()
	var wanted []string
	for _, text := range r.Annotations {
		for _, m := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
			wanted = append(wanted, m[1])
		}
	}
	if !slices.ContainsFunc(seen, func(labels string) bool {
		return !slices.ContainsFunc(wanted, func(l string) bool { return !regexp.MustCompile(`[{,]` + l + `="`).MatchString(labels) })
	}) {
		t.Errorf("%s refers to labels %v that it does not have in its test", r.Alert, wanted)
	}
}

func TestPromtoolAcceptsTheRules(t *testing.T) {
	promtool(t, "check", "rules", "alerts.yaml")
}

func TestPromtoolFiresEachAlert(t *testing.T) {
	promtool(t, append([]string{"test", "rules"}, testFiles(t)...)...)
}

func testFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests of rules: %v", err)
	}
	return files
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (Debian: prometheus)")
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// hasNumber reports whether a number is in an expression.
func hasNumber(t *testing.T, expr string, v float64) bool {
	t.Helper()
	e, err := parser.ParseExpr(expr)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	found := false
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if l, ok := n.(*parser.NumberLiteral); ok && math.Abs(l.Val-v) < 1e-9 {
			found = true
		}
		return nil
	})
	return found
}
