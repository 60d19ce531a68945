package validate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPrometheusAcceptsItsFiles(t *testing.T) {
	// The rules are elsewhere in the container.
	run(t, nil, "promtool", "check", "config", "--syntax-only", filepath.Join(deploy, "prometheus", "prometheus.yml"))
	const mounted = "/etc/prometheus/sluice/"
	config := read(t, "prometheus", "prometheus.yml")
	_, rules, found := strings.Cut(config, "rule_files: ["+mounted)
	rules, _, _ = strings.Cut(rules, "]")
	if !found {
		t.Fatal("prometheus.yml names no rules")
	}
	run(t, nil, "promtool", "check", "rules", filepath.Join(deploy, "..", "dashboards", rules))
}

func TestAlertmanagerAcceptsItsFile(t *testing.T) {
	run(t, nil, "amtool", "check-config", filepath.Join(deploy, "alertmanager", "alertmanager.yml"))
}

// maxExposure is ten times what systemd-analyze security may say at most; it calls up to 2.0 "OK".
const maxExposure = "20"

func TestSystemdAcceptsTheUnit(t *testing.T) {
	unit := read(t, "systemd", "sluice.service")
	file := filepath.Join(t.TempDir(), "sluice.service")
	here := strings.Replace(unit, "/usr/bin/sluice", sluice(t), 1)
	if here == unit {
		t.Fatal("the unit starts another program")
	}
	if err := os.WriteFile(file, []byte(here), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "systemd-analyze", "verify", "--man=no", file)
	run(t, nil, "systemd-analyze", "security", "--offline=true", "--threshold="+maxExposure, file)
	for _, line := range []string{"Type=notify", "WatchdogSec=", "User=sluice", "StateDirectory=sluice"} {
		if !strings.Contains(unit, "\n"+line) {
			t.Errorf("the unit has no %s", line)
		}
	}
}
