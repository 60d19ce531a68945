package timeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/sluicewal/sluice/internal/wal"
)

// LockFile is the name of the file in a data directory that its one user holds
// locked.
const LockFile = "lock"

// Dir returns the directory of a timeline below a data directory.
func Dir(dataDir string, id ID) string {
	return filepath.Join(dataDir, "tenants", string(id.Tenant), "timelines", id.Name)
}

// WALDir returns the directory that holds the plain WAL files of a timeline.
func WALDir(dataDir string, id ID) string { return filepath.Join(Dir(dataDir, id), walDir) }

// SealOffline seals a timeline in the data directory of a node that does not
// run, by the same steps as a running node, and marks its tail as handed out.
// It fails when the directory is locked: then the node runs, and is to be asked.
func SealOffline(ctx context.Context, dataDir, nodeID string, id ID, acceptDataLoss bool) (res SealResult, err error) {
	dir := Dir(dataDir, id)
	if _, err := LoadControl(wal.OSFS{}, dir); errors.Is(err, fs.ErrNotExist) { // before a lock file is made where no node was
		return SealResult{}, fmt.Errorf("no timeline %s in %s: look for the name in %s", id, dataDir, filepath.Join(dataDir, "tenants"))
	}
	lock, err := wal.Lock(filepath.Join(dataDir, LockFile))
	if err != nil {
		return SealResult{}, fmt.Errorf("data directory %s: %w", dataDir, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	t, err := load(ctx, Config{Dir: dir, FS: wal.OSFS{}, NodeID: nodeID}, id)
	if err != nil {
		return SealResult{}, err
	}
	t.start() // of a life that has ended, too: here may be all that is left of it
	res, err = t.sealAndMark(ctx, acceptDataLoss)
	return res, errors.Join(err, t.Shutdown(ctx, errors.New("sealed offline")))
}

func (t *Timeline) sealAndMark(ctx context.Context, acceptDataLoss bool) (SealResult, error) {
	if state, why := t.State(); state == StateBroken {
		return SealResult{}, fmt.Errorf("timeline %s: %w", t.id, why)
	}
	res, err := t.Seal(ctx, acceptDataLoss)
	if err != nil {
		return SealResult{}, err
	}
	return res, t.MarkTailServed(ctx, res.Seal)
}
