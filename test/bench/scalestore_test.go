package bench

import (
	"context"
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/test/rig"
)

// storeMany puts timelines into the directory that is object storage, as a node does that meets their sources.
func storeMany(ctx context.Context, t *testing.T, dir string, timelines int) {
	t.Helper()
	store, err := backup.Open(ctx, "file://"+dir, backup.Config{Node: "earlier"})
	must(t, err)
	var group errgroup.Group
	group.SetLimit(16)
	for i := 1; i <= timelines; i++ {
		group.Go(func() error {
			incarnation, err := timeline.NewIncarnation()
			if err != nil {
				return err
			}
			_, err = store.Adopt(ctx, "acme", fmt.Sprintf("t%d", i), backup.Identity{
				Incarnation: string(incarnation), SystemID: uint64(1000 + i), SegmentSize: pg.DefaultSegmentSize, Compression: backup.Zstd,
			}, false)
			return err
		})
	}
	must(t, group.Wait())
	must(t, store.Close())
	must(t, rig.GiveTree(dir))
}
