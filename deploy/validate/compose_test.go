package validate

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
)

// nodes are the services that are Sluice.
var nodes = []string{"sluice-a", "sluice-b", "sluice-c"}

func TestComposeHasEveryPart(t *testing.T) {
	got := project(t).ServiceNames()
	want := append(slices.Clone(nodes), "postgres", "synchronous", "load", "nats", "s3", "prometheus", "alertmanager", "jaeger", "pyroscope", "grafana")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the services are %v, want %v", got, want)
	}
}

// What has no password worth the name must not be reached from elsewhere.
func TestEveryPortIsOnLoopback(t *testing.T) {
	published := map[string]string{}
	for name, s := range project(t).Services {
		if s.NetworkMode == "host" {
			t.Errorf("%s is on the host's network", name)
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is open on %q", name, p.Published, p.HostIP)
			}
			if other, taken := published[p.Published]; taken {
				t.Errorf("%s and %s both want port %s", name, other, p.Published)
			}
			published[p.Published] = name
		}
	}
	if len(published) < 9 {
		t.Errorf("only %d ports are published: %v", len(published), published)
	}
}

// An image without a version is another one tomorrow.
func TestEveryImageHasAVersion(t *testing.T) {
	version := regexp.MustCompile(`^[a-z0-9/-]+:v?[0-9]+\.[0-9]+[0-9.]*$`)
	for name, s := range project(t).Services {
		if s.Build == nil && !version.MatchString(s.Image) {
			t.Errorf("%s: the image %s has no version", name, s.Image)
		}
	}
}

func TestEveryMountIsThere(t *testing.T) {
	mounts := 0
	for name, s := range project(t).Services {
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			mounts++
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if !v.ReadOnly {
				t.Errorf("%s may write %s", name, v.Source)
			}
		}
	}
	if mounts < 10 {
		t.Errorf("only %d files are mounted", mounts)
	}
}

func TestNodesAreConfined(t *testing.T) {
	p := project(t)
	for _, name := range nodes {
		s := p.Services[name]
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || s.Privileged {
			t.Errorf("%s may more than it needs: read_only %v, cap_drop %v, security_opt %v", name, s.ReadOnly, s.CapDrop, s.SecurityOpt)
		}
	}
}

// Each node's configuration is read by Sluice, in the environment that compose gives it.
func TestNodesAcceptTheirConfiguration(t *testing.T) {
	p := project(t)
	for _, name := range nodes {
		var env []string
		for key, value := range p.Services[name].Environment {
			if value == nil {
				t.Fatalf("%s takes %s from whoever starts it", name, key)
			}
			env = append(env, key+"="+*value)
		}
		run(t, env, sluice(t), "check-config", filepath.Join(deploy, "sluice.yaml"))
	}
}

// A file that names another service, by a name that compose gives nobody, would be found out only when it runs.
func TestFilesNameServicesThatAreThere(t *testing.T) {
	p := project(t)
	host := regexp.MustCompile(`(?:://|%2F%2F|host=|PGHOST: |[\["/ ])([a-z][a-z0-9-]*(?:\$\{[A-Z_0-9]+\})?)(?:[:]|%3A)([0-9]{2,5})\b|host=([a-z][a-z0-9-]*)`)
	for _, file := range []string{
		"sluice.yaml", "prometheus/prometheus.yml", "grafana/provisioning/datasources/sluice.yaml",
	} {
		found := 0
		for _, m := range host.FindAllStringSubmatch(read(t, file), -1) {
			name := m[1] + m[3]
			if name == "localhost" {
				continue
			}
			found++
			for _, id := range []string{"a", "b", "c"} {
				service := regexp.MustCompile(`\$\{[A-Z_0-9]+\}`).ReplaceAllString(name, id)
				if _, ok := p.Services[service]; !ok {
					t.Errorf("%s names %s: no service has that name", file, service)
				}
			}
		}
		if found < 4 {
			t.Errorf("%s: only %d names were found", file, found)
		}
	}
}

// PostgreSQL waits for the nodes by their names.
func TestCommitsWaitForTheNodes(t *testing.T) {
	p := project(t)
	var ids []string
	for _, name := range nodes {
		ids = append(ids, *p.Services[name].Environment["SLUICE_NODE"])
	}
	if want := "ANY 2 (" + strings.Join(ids, ", ") + ")"; !strings.Contains(read(t, "postgres/synchronous.sh"), want) {
		t.Errorf("synchronous.sh does not set %s", want)
	}
	for _, script := range []string{"role.sh", "synchronous.sh"} {
		run(t, nil, "bash", "-n", filepath.Join(deploy, "postgres", script))
		info, err := os.Stat(filepath.Join(deploy, "postgres", script))
		if err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("%s cannot be run: %v", script, err)
		}
	}
}
