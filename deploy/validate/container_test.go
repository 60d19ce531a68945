package validate

import (
	"regexp"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func stages(t *testing.T) []instructions.Stage {
	t.Helper()
	result, err := parser.Parse(strings.NewReader(read(t, "Containerfile")))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range result.Warnings {
		t.Errorf("the Containerfile: %s", w.Short)
	}
	all, _, err := instructions.Parse(result.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// only returns the one instruction of a kind.
func only[T instructions.Command](t *testing.T, stage instructions.Stage) T {
	t.Helper()
	var found []T
	for _, c := range stage.Commands {
		if it, ok := c.(T); ok {
			found = append(found, it)
		}
	}
	if len(found) != 1 {
		t.Fatalf("there are %d of %T", len(found), *new(T))
	}
	return found[0]
}

// The image has the binary alone, which runs as nobody in particular and says itself how it is.
func TestImageHasNoShellAndNoRoot(t *testing.T) {
	all := stages(t)
	last := all[len(all)-1]
	if last.BaseName != "scratch" {
		t.Errorf("the image is made from %s", last.BaseName)
	}
	if user := only[*instructions.UserCommand](t, last).User; !regexp.MustCompile(`^[1-9][0-9]+:[1-9][0-9]+$`).MatchString(user) {
		t.Errorf("it runs as %q; a name would be looked up in a file that is not there, and an engine could not tell that it is not root", user)
	}
	if e := only[*instructions.EntrypointCommand](t, last); e.PrependShell {
		t.Error("the entry point needs a shell")
	}
	health := only[*instructions.HealthCheckCommand](t, last).Health
	if len(health.Test) != 3 || health.Test[0] != "CMD" || health.Test[2] != "ready" {
		t.Errorf("the health check is %q", health.Test)
	}
	run(t, nil, sluice(t), health.Test[2], "--help") // the verb is there
	if volume := only[*instructions.VolumeCommand](t, last).Volumes; len(volume) != 1 || volume[0] != "/var/lib/sluice" {
		t.Errorf("the volumes are %q", volume)
	}
}

// What runs in a container is what 'make build' makes.
func TestImageIsBuiltAsTheBinaryIs(t *testing.T) {
	build := stages(t)[0]
	var compile string
	for _, c := range build.Commands {
		if r, ok := c.(*instructions.RunCommand); ok && strings.Contains(strings.Join(r.CmdLine, " "), "go build") {
			compile = strings.Join(r.CmdLine, " ")
		}
	}
	flags := makeVariable(t.Context(), t, "GOFLAGS")
	if flags == "" {
		t.Fatal("the Makefile has no GOFLAGS")
	}
	for _, want := range append(strings.Fields(flags), "CGO_ENABLED=0", "-trimpath", "-buildvcs=false", "-s -w -X main.version=") {
		if !strings.Contains(compile, want) {
			t.Errorf("the build has no %s: %s", want, compile)
		}
	}
	goVersion := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "../go.mod"))[1]
	if build.BaseName != "golang:"+goVersion {
		t.Errorf("it is built by %s, and go.mod wants Go %s", build.BaseName, goVersion)
	}
}
