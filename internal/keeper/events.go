package keeper

import (
	"context"

	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
)

// The kinds of holders that a keeper lets through gates. The list is closed: it
// is a metric's label.
const (
	holderTimeline    gate.Holder = "timeline"     // a timeline in its tenant
	holderRequest     gate.Holder = "request"      // an API request
	holderWALDownload gate.Holder = "wal_download" // a file that is being handed back
	holderFollow      gate.Holder = "follow"       // in its tenant: a download of a warm copy
)

// Events are told what happens below the keeper. Each field may be nil.
type Events struct {
	Gate gate.Events
	// Trace tells a gate which trace a context belongs to.
	Trace   func(context.Context) gate.Trace
	Manager func(timeline.ID) manager.Events
	Tasks   func(timeline.ID) tasks.Events
	WAL     func(timeline.ID) wal.Events
	// Replication is asked once for each source of a timeline.
	Replication func(timeline.ID) replication.Events
	// Operation is told that an operation on a timeline, or on a tenant (whose id has no name), begins: the node's own context, and
	// that of whoever asked for it. The work is done with the context that it returns; the function is called with its end.
	Operation func(ctx, asked context.Context, id timeline.ID, name string) (context.Context, func(error))
	// Step is told which step of its operation comes next.
	Step func(id timeline.ID, name, step string)
	// Shutdown is told that a timeline, or a tenant, begins to shut down, as Operation is.
	Shutdown func(ctx context.Context, id timeline.ID, cause error) (context.Context, func(error))
	// Fetch is told each request for a WAL file, as Operation is; answered is called with "file", "absent" or "unknown", end when
	// the file was read, or is not to be.
	Fetch func(ctx context.Context, id timeline.ID, file string) (_ context.Context, answered func(string, error), end func(bytes int64))
	// Life is told which incarnation a timeline has: when it is opened, and when another is taken over.
	Life func(timeline.ID, timeline.Incarnation)
}

func (e *Events) operation(ctx, asked context.Context, id timeline.ID, name string) (context.Context, func(error)) {
	if e.Operation == nil || name == opOpen { // that one is tried every few seconds
		return ctx, func(error) {}
	}
	return e.Operation(ctx, asked, id, name)
}

func (e *Events) step(id timeline.ID, name, step string) {
	if e.Step != nil && name != "" {
		e.Step(id, name, step)
	}
}

func (e *Events) shutdown(ctx context.Context, id timeline.ID, cause error) (context.Context, func(error)) {
	if e.Shutdown == nil {
		return ctx, func(error) {}
	}
	return e.Shutdown(ctx, id, cause)
}

func (e *Events) fetch(ctx context.Context, id timeline.ID, file string) (context.Context, func(string, error), func(int64)) {
	if e.Fetch == nil {
		return ctx, func(string, error) {}, func(int64) {}
	}
	return e.Fetch(ctx, id, file)
}

func (e *Events) life(id timeline.ID, is timeline.Incarnation) {
	if e.Life != nil {
		e.Life(id, is)
	}
}

func (e *Events) wal(id timeline.ID) wal.Events {
	if e.WAL == nil {
		return wal.Events{}
	}
	return e.WAL(id)
}

func (e *Events) replication(id timeline.ID) replication.Events {
	if e.Replication == nil {
		return replication.Events{}
	}
	return e.Replication(id)
}

func (e *Events) manager(id timeline.ID) manager.Events {
	if e.Manager == nil {
		return manager.Events{}
	}
	return e.Manager(id)
}

func (e *Events) tasks(id timeline.ID) tasks.Events {
	if e.Tasks == nil {
		return tasks.Events{}
	}
	return e.Tasks(id)
}
