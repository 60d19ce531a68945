package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
)

const (
	nodeFile         = "node.json"
	nodeFileMaxBytes = 64 << 10
	tenantsDir       = "tenants"
	timelinesDir     = "timelines"
)

// nodeIdentity is what a data directory remembers of its node. The id is a
// node's name towards PostgreSQL (application_name, slot) and towards other
// nodes: WAL that was acknowledged under one name must not change hands.
type nodeIdentity struct {
	ID string `json:"id"`
}

// lockDataDir makes the data directory if need be, and keeps every other
// process out of it.
func lockDataDir(fsys wal.FS, dir string) (*wal.FileLock, error) {
	if err := fsys.MkdirAll(filepath.Join(dir, tenantsDir)); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	lock, err := wal.Lock(filepath.Join(dir, timeline.LockFile))
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	return lock, nil
}

// NodeID returns the id of the node that a data directory belongs to; it is
// fs.ErrNotExist for a directory that no node has used.
func NodeID(fsys wal.FS, dir string) (string, error) {
	b, err := wal.ReadFile(fsys, filepath.Join(dir, nodeFile), nodeFileMaxBytes)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", nodeFile, err)
	}
	var n nodeIdentity
	if err := json.Unmarshal(b, &n); err != nil {
		return "", fmt.Errorf("read %s: %w", filepath.Join(dir, nodeFile), err)
	}
	if n.ID == "" {
		return "", fmt.Errorf("read %s: it has no id", filepath.Join(dir, nodeFile))
	}
	return n.ID, nil
}

// claimNodeID writes the id into a new data directory, and refuses another one
// in a directory that is in use.
func claimNodeID(fsys wal.FS, dir, id string) error {
	have, err := NodeID(fsys, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case have != id:
		return fmt.Errorf("data directory %s belongs to node %q, and node.id is %q: set node.id back to %q, or use another data_dir", dir, have, id, have)
	default:
		return nil
	}
	tenants, err := subdirectories(fsys, filepath.Join(dir, tenantsDir))
	if err != nil {
		return err
	}
	if len(tenants) > 0 {
		return fmt.Errorf(`data directory %s has tenants and no %s, which says whose they are: write {"id":"…"} into it, with the node.id that received them`, dir, nodeFile)
	}
	b, err := json.Marshal(nodeIdentity{ID: id})
	if err != nil {
		return fmt.Errorf("encode %s: %w", nodeFile, err)
	}
	if err := wal.WriteFileAtomic(fsys, filepath.Join(dir, nodeFile), b); err != nil {
		return fmt.Errorf("write %s: %w", nodeFile, err)
	}
	return nil
}
