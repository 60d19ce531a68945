package observe

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluicewal/sluice/test/rig"
)

// rules is the file that is shipped, as it is.
const rules = "../../dashboards/alerts.yaml"

// watchers are the programs that look at the nodes.
type watchers struct {
	prometheus   prometheus
	alertmanager alertmanager
}

// startWatchers starts a Prometheus that scrapes nodes, and looks at the rules as often, and an Alertmanager.
func startWatchers(t testing.TB, every time.Duration, nodes ...*rig.Node) *watchers {
	t.Helper()
	w := &watchers{alertmanager: startAlertmanager(t)}
	dir := t.TempDir()
	absolute, err := filepath.Abs(rules)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`global: {scrape_interval: %v, evaluation_interval: %[1]v}
rule_files: [%q]
alerting: {alertmanagers: [{static_configs: [{targets: [%q]}]}]}
scrape_configs:
  - job_name: sluice
    static_configs:
`, every, absolute, w.alertmanager.Address)
	for _, n := range nodes {
		config += fmt.Sprintf("      - {targets: [%q]}\n", address(n))
	}
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	at := rig.FreeAddress(t)
	w.prometheus = prometheus{api{rig.StartServer(t, at, nil, find(t, "prometheus"), "--config.file="+file, "--web.listen-address="+at,
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--enable-feature=native-histograms,exemplar-storage")}}
	return w
}

func startAlertmanager(t testing.TB) alertmanager {
	t.Helper()
	dir, at := t.TempDir(), rig.FreeAddress(t)
	program := find(t, "prometheus-alertmanager", "alertmanager")
	return alertmanager{api{rig.StartServer(t, at, nil, program, "--config.file=../../deploy/alertmanager/alertmanager.yml",
		"--web.listen-address="+at, "--storage.path="+dir, "--cluster.listen-address=")}}
}

// find returns the first program that is there. Without any the test is skipped, as with all that scripts/deps.sh may not get.
func find(t testing.TB, programs ...string) string {
	t.Helper()
	for _, p := range programs {
		if path, err := exec.LookPath(p); err == nil {
			return path
		}
	}
	t.Skipf("there is no %s: scripts/deps.sh prometheus alertmanager installs it", programs[0])
	return ""
}

// address is a node's, as Prometheus calls it.
func address(n *rig.Node) string { return n.URL()[len("http://"):] }
