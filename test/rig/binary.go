package rig

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Build makes the binary that the tests drive, for a TestMain: where
// SLUICE_BINARY says, or by go build into a directory that cleanup removes.
// With SLUICE_RACE it has the race detector, whose reports fail the tests by
// their log scanner; it is several times slower.
func Build(ctx context.Context) (binary string, cleanup func(), err error) {
	if path := os.Getenv("SLUICE_BINARY"); path != "" {
		path, err = filepath.Abs(path)
		return path, func() {}, err
	}
	return BuildTagged(ctx)
}

// BuildTagged makes the binary with build tags beside the usual ones. It never is the one of SLUICE_BINARY.
func BuildTagged(ctx context.Context, tags ...string) (binary string, cleanup func(), err error) {
	dir, err := os.MkdirTemp("", "sluice-binary-")
	if err != nil {
		return "", nil, err
	}
	cleanup = func() { _ = os.RemoveAll(dir) } // best effort: the tests' verdict counts
	if err := os.Chmod(dir, 0o755); err != nil {
		cleanup()
		return "", nil, err
	}
	binary = filepath.Join(dir, "sluice")
	if err := build(ctx, binary, tags); err != nil {
		cleanup()
		return "", nil, err
	}
	return binary, cleanup, nil
}

// usualTags are those of the Makefile.
const usualTags = "disable_grpc_modules"

func build(ctx context.Context, binary string, tags []string) error {
	args := []string{"build", "-o", binary, "-ldflags", "-s -w", "-tags", strings.Join(append([]string{usualTags}, tags...), ",")}
	if os.Getenv("SLUICE_RACE") != "" {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "github.com/sluicewal/sluice/cmd/sluice")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build sluice: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// FaultWords are in a binary that was built with the tag faults, and in no other one: what switches faults on, and names of
// their code.
var FaultWords = []string{"SLUICE_FAULTS", "read-hangs", "manager-storms", "task-fails", "keeper.hangingFile", "keeper.storm", "keeper.failingBody"}
