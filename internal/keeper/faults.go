//go:build faults

package keeper

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
)

// Faults that a right program cannot have, for those who want to see how they look from outside. A node that was built with
// the tag faults has one for as long as a file is there:
//
//	$SLUICE_FAULTS/TENANT/TIMELINE/read-hangs       whoever reads the segment that the file names gets no answer
//	$SLUICE_FAULTS/TENANT/TIMELINE/manager-storms   the manager wakes itself, again and again
//	$SLUICE_FAULTS/TENANT/TIMELINE/task-fails       the task that the file names fails, whenever it is started
//
// Without the variable, it has none.
const (
	faultsVariable = "SLUICE_FAULTS"
	faultReadHangs = "read-hangs"
	faultStorm     = "manager-storms"
	faultTaskFails = "task-fails"
)

const (
	// faultLook is how often it is looked whether a fault is there, where nobody asks by himself.
	faultLook = 100 * time.Millisecond
	// stormPause lets a storm be one, without taking a processor for it.
	stormPause = 2 * time.Millisecond
)

var errFault = errors.New("this node was built with faults, and a file says that this task fails")

// faultOf returns what the file of a fault says, and whether it is there. An empty timeline has no faults.
func faultOf(timeline, fault string) (string, bool) {
	dir := os.Getenv(faultsVariable)
	if dir == "" || timeline == "" {
		return "", false
	}
	b, err := os.ReadFile(filepath.Join(dir, timeline, fault))
	return strings.TrimSpace(string(b)), err == nil
}

// faultyFS returns a file system in which reads hang.
func faultyFS(cfg Config) wal.FS {
	cfg.Log.LogAttrs(context.Background(), slog.LevelWarn, "this node was built with faults: it is no node for WAL that matters",
		slog.String("directory", os.Getenv(faultsVariable)))
	return hangingFS{FS: cfg.FS, tenants: filepath.Join(cfg.DataDir, tenantsDir)}
}

// hangingFS is a file system on which what is open for reading can hang, as a disk does: no context ends that.
type hangingFS struct {
	wal.FS
	tenants string // where their directories are
}

// Open implements wal.FS.
func (h hangingFS) Open(name string) (wal.File, error) {
	f, err := h.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return hangingFile{File: f, timeline: h.timelineOf(name), name: filepath.Base(name)}, nil
}

// timelineOf returns the timeline whose WAL a file is, as TENANT/TIMELINE; empty: it is none.
func (h hangingFS) timelineOf(name string) string {
	rel, err := filepath.Rel(h.tenants, name)
	parts := strings.Split(filepath.ToSlash(rel), "/") // acme/timelines/main/wal/000000010000000000000001
	if err != nil || len(parts) != 5 || parts[3] != "wal" {
		return ""
	}
	return parts[0] + "/" + parts[2]
}

type hangingFile struct {
	wal.File
	timeline string // empty: of none
	name     string
}

// ReadAt implements io.ReaderAt.
func (f hangingFile) ReadAt(p []byte, off int64) (int, error) {
	for {
		if name, there := faultOf(f.timeline, faultReadHangs); !there || name != f.name {
			return f.File.ReadAt(p, off)
		}
		<-time.After(faultLook)
	}
}

// faulty makes a manager's work go wrong.
func faulty(tl manager.Timeline, bodies manager.Bodies, cfg manager.Config) (manager.Timeline, manager.Bodies, manager.Config) {
	name := tl.(*timeline.Timeline).ID().String()
	storm(tl.(*timeline.Timeline), name)
	failing := manager.Bodies{}
	for task, body := range bodies {
		failing[task] = failingBody(name, task, body)
	}
	return tl, failing, cfg
}

// storm wakes the manager again and again, as one does that names a time to look again that has passed; while there is no
// such fault, it looks whether there is. It ends with the timeline.
func storm(tl *timeline.Timeline, name string) {
	pause := faultLook
	if _, storms := faultOf(name, faultStorm); storms {
		tl.Wake().Ring(timeline.ReasonTimer)
		pause = stormPause
	}
	if tl.Context().Err() == nil {
		time.AfterFunc(pause, func() { storm(tl, name) })
	}
}

// failingBody fails while the fault is there, and ends the run that is under way when it comes.
func failingBody(name string, task tasks.Name, body func(context.Context) error) func(context.Context) error {
	fails := func() bool {
		which, there := faultOf(name, faultTaskFails)
		return there && which == string(task)
	}
	return func(ctx context.Context) error {
		if fails() {
			return errFault
		}
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		var look func()
		look = func() {
			if fails() {
				cancel(errFault)
			} else if ctx.Err() == nil {
				time.AfterFunc(faultLook, look)
			}
		}
		look()
		err := body(ctx)
		if errors.Is(context.Cause(ctx), errFault) {
			return errFault
		}
		return err
	}
}
