//go:build !faults

package keeper

import (
	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/wal"
)

// What a build with the tag faults does instead is in faults.go; this one has nothing of it.

func faultyFS(cfg Config) wal.FS { return cfg.FS }

func faulty(tl manager.Timeline, bodies manager.Bodies, cfg manager.Config) (manager.Timeline, manager.Bodies, manager.Config) {
	return tl, bodies, cfg
}
