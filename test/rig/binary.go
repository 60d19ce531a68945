package rig

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	if err := build(ctx, binary); err != nil {
		cleanup()
		return "", nil, err
	}
	return binary, cleanup, nil
}

func build(ctx context.Context, binary string) error {
	args := []string{"build", "-o", binary}
	if os.Getenv("SLUICE_RACE") != "" {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "github.com/sluicewal/sluice/cmd/sluice")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build sluice: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}
