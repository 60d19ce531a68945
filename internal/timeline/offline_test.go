package timeline_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
)

// diskConfig is of a timeline below a data directory of the real disk.
func diskConfig(dataDir string) timeline.Config {
	return timeline.Config{Dir: timeline.Dir(dataDir, id), FS: wal.OSFS{}, NodeID: "a"}
}

// deadNode is the data directory of a node that was killed: nothing was closed, and the control file lags.
func deadNode(t *testing.T, names string) (dataDir string, end pg.LSN) {
	t.Helper()
	dataDir = t.TempDir()
	must(t, os.MkdirAll(filepath.Dir(timeline.Dir(dataDir, id)), 0o700))
	tl, err := timeline.Create(t.Context(), diskConfig(dataDir), id, timeline.Creation{Source: "host=a"})
	must(t, err)
	w := source(1000, start+mib+50_000)
	receive(t, tl, w, w.End())
	setQuorum(t, tl, names)
	copyOf := filepath.Join(t.TempDir(), "data")
	must(t, os.CopyFS(copyOf, os.DirFS(dataDir)))
	must(t, tl.Shutdown(t.Context(), errStop))
	return copyOf, w.End()
}

func TestSealOffline(t *testing.T) {
	dataDir, end := deadNode(t, "a")
	var first timeline.SealResult
	for i := range 2 {
		res, err := timeline.SealOffline(t.Context(), dataDir, "a", id, false)
		must(t, err)
		if res.TLI != 1 || res.End != end || res.Warning != "" {
			t.Errorf("got %+v, want the end %s", res, end)
		}
		if i == 1 && (res.End != first.End || !res.At.Equal(first.At)) {
			t.Errorf("again: %+v, before: %+v", res, first)
		}
		first = res
	}
	c, err := timeline.LoadControl(wal.OSFS{}, timeline.Dir(dataDir, id))
	must(t, err)
	if s, ok := c.SealOf(1); !ok || !s.TailServed || !c.Clean || c.Flush.LSN != end {
		t.Errorf("the directory says %+v", c)
	}
	// The node comes back, and keeps the promise.
	tl, err := timeline.Open(t.Context(), diskConfig(dataDir), id)
	must(t, err)
	if h := tl.Held(); h.Seal == nil || h.Seal.End != end {
		t.Errorf("held is %+v", h)
	}
	if _, err := tl.Unseal(t.Context(), false); !errors.Is(err, timeline.ErrTailServed) {
		t.Errorf("unseal: %v", err)
	}
	must(t, tl.Shutdown(t.Context(), errStop))
}

func TestSealOfflineIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		names   string // of synchronous_standby_names
		prepare func(t *testing.T, dataDir string)
		id      timeline.ID
		text    string
	}{
		"the node runs": {"a", func(t *testing.T, dataDir string) {
			lock, err := wal.Lock(filepath.Join(dataDir, timeline.LockFile))
			must(t, err)
			t.Cleanup(func() { must(t, lock.Close()) })
		}, id, "is locked by process"},
		"no such timeline":       {"a", nil, timeline.ID{Tenant: "acme", Name: "other"}, "no timeline acme/other in"},
		"one word is not enough": {"ANY 1 (a, b)", nil, id, "on b only"},
		"broken": {"a", func(t *testing.T, dataDir string) {
			must(t, os.RemoveAll(timeline.WALDir(dataDir, id)))
		}, id, "damaged"},
		"no control file that can be read": {"a", func(t *testing.T, dataDir string) {
			must(t, os.WriteFile(filepath.Join(timeline.Dir(dataDir, id), "control"), []byte("hello"), 0o600))
		}, id, "control file is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			dataDir, _ := deadNode(t, c.names)
			if c.prepare != nil {
				c.prepare(t, dataDir)
			}
			res, err := timeline.SealOffline(t.Context(), dataDir, "a", c.id, false)
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %+v, %v; want %q", res, err, c.text)
			}
		})
	}
}

// TestSealOfflineInAPlaceThatIsNone leaves nothing there: a typing error makes no data directory.
func TestSealOfflineInAPlaceThatIsNone(t *testing.T) {
	dir := t.TempDir()
	if _, err := timeline.SealOffline(t.Context(), dir, "a", id, false); err == nil || !strings.Contains(err.Error(), "no timeline acme/main in "+dir) {
		t.Errorf("got %v", err)
	}
	if _, err := timeline.SealOffline(t.Context(), filepath.Join(dir, "absent"), "a", id, false); err == nil || !strings.Contains(err.Error(), "no timeline acme/main") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}
