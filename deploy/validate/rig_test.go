package validate

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// deploy is the directory that is tested.
const deploy = ".."

// project loads the compose file as docker compose does, without anything of our environment.
func project(t *testing.T) *types.Project {
	t.Helper()
	opts, err := cli.NewProjectOptions([]string{filepath.Join(deploy, "compose.yaml")}, cli.WithWorkingDirectory(deploy), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	p, err := opts.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// run runs a program that has to succeed, with only the given environment.
func run(t *testing.T, env []string, program string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), find(t, program), args...)
	cmd.Env = append(env, "PATH="+os.Getenv("PATH"), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}

// find looks for a program; without it the test is skipped, as with all that scripts/deps.sh may not get.
func find(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skip(err)
	}
	return path
}

// sluice returns the path of the binary.
func sluice(t *testing.T) string {
	t.Helper()
	path := os.Getenv("SLUICE_BINARY")
	if path == "" {
		path = "../../bin/sluice"
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: 'make build' makes it", err)
	}
	return path
}

func read(t *testing.T, elem ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{deploy}, elem...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// makefile returns what the Makefile has for a variable.
func makeVariable(ctx context.Context, t *testing.T, name string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, "make", "-s", "-C", "../..", "--eval", "print: ; @echo '$("+name+")'", "print")
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "GOFLAGS=")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
