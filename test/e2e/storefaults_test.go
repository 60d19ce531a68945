package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

// A node that backs up to object storage which fails. Commits go on, and what
// could not be stored is stored later.

const benchSegment = pg.SegmentSize(segmentMiB << 20)

// newStoredBench is a bench whose node backs up to a store, with the open segment
// every second.
func newStoredBench(t *testing.T, url, config string) *bench {
	t.Helper()
	return newBenchOn(t, pgserver.Options{SegmentSizeMiB: segmentMiB},
		rig.NodeOptions{Binary: program, Store: url, PartialInterval: "1s", Config: config})
}

// backedUp waits until object storage has all that the primary has written by now.
func (b *bench) backedUp() rig.Status {
	b.t.Helper()
	end := b.walEnd(b.primary)
	ctx, cancel := context.WithTimeout(b.ctx, 4*patience) // an upload that hangs is cut after 30 s
	defer cancel()
	s, err := b.node.AwaitStatus(ctx, "all is backed up", func(s rig.Status) bool {
		return s.Backup != nil && s.BackupLSN >= benchSegment.StartOf(end) &&
			(benchSegment.Offset(end) == 0 || s.Backup.Partial != nil && s.Backup.Partial.End >= end || s.BackupLSN >= end)
	})
	b.do(err)
	return s
}

// restoreAlone destroys primary and node, with the node's disk, and restores out
// of object storage.
func (b *bench) restoreAlone(url string) *pgserver.Server {
	b.t.Helper()
	b.do(b.primary.Kill())
	b.do(b.node.Kill())
	b.do(b.node.DestroyDisk())
	return b.restore(storeCommand(url, "--accept-data-loss"), nil)
}

// storeCommand is a restore_command that knows of nothing but object storage.
func storeCommand(url string, flags ...string) string {
	words := append([]string{program, "wal-fetch", "--retry-for 2s", "--object-store", `"` + strings.ReplaceAll(url, "%", "%%") + `"`}, flags...)
	return strings.Join(append(words, rig.Timeline, "%f", "%p"), " ")
}

// U1 to U3, O6
func TestNodeOutlivesFaultsOfObjectStorage(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(next pg.SegNo) func(*http.Request) rig.S3Fault // next is the segment that is open now
		said  string                                              // by the status and timeline show, while it lasts; "": it ends by itself
	}{
		{"down for a while", func(pg.SegNo) func(*http.Request) rig.S3Fault { return everything(rig.Unavailable) }, "StatusCode: 503"},
		{"credentials revoked", func(pg.SegNo) func(*http.Request) rig.S3Fault { return everything(rig.Revoked) }, "refuses the credentials"},
		{"one segment fails", func(next pg.SegNo) func(*http.Request) rig.S3Fault { return onPut(next, rig.Unavailable) }, "SlowDown"},
		{"one hangs, one is stored in words only, one is cut", func(next pg.SegNo) func(*http.Request) rig.S3Fault {
			return anyOf(rig.Times(1, onPut(next, rig.Stalled)), rig.Times(1, onPut(next+1, rig.Lie)), rig.Times(5, onPut(next+2, rig.ResetIn)))
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := rig.StartS3(t)
			proxy := rig.StartS3Proxy(t, server.Address)
			b := newStoredBench(t, rig.S3URL(proxy.Address), "")
			b.explains("object storage fails", "^task failed, will be tried again: (object storage|back up)", "^object storage does not tell",
				"^upload was cut, and begins again: ")
			b.fill(b.primary, 1)
			before := b.backedUp()
			proxy.Fail(c.fault(benchSegment.SegNo(b.walEnd(b.primary))))
			b.fill(b.primary, 3)
			if c.said != "" {
				b.saysWhatFails(c.said, before.BackupLSN)
				b.commit(b.primary, 3)
				proxy.Fail(nil)
			}
			b.backedUp()
			if n := proxy.Failed(); c.said == "" && n < 7 {
				t.Errorf("%d requests failed, want all 7", n)
			}
			restored := b.restoreAlone(server.URL())
			b.has(restored)
		})
	}
}

func everything(f rig.S3Fault) func(*http.Request) rig.S3Fault {
	return func(*http.Request) rig.S3Fault { return f }
}

// onPut fails the upload of a whole segment.
func onPut(n pg.SegNo, f rig.S3Fault) func(*http.Request) rig.S3Fault {
	return rig.On(http.MethodPut, "/wal/"+pg.SegmentName(1, n, benchSegment), f)
}

// anyOf is the first fault that any of them has for a request.
func anyOf(faults ...func(*http.Request) rig.S3Fault) func(*http.Request) rig.S3Fault {
	return func(r *http.Request) rig.S3Fault {
		for _, fault := range faults {
			if f := fault(r); f != rig.NoFault {
				return f
			}
		}
		return rig.NoFault
	}
}

// saysWhatFails waits until the backup pauses after failures, and holds what is
// said of it against the reason. The unbroken run ends where it ended before.
func (b *bench) saysWhatFails(reason string, backupLSN pg.LSN) {
	b.t.Helper()
	b.await("the backup pauses after failures", func(s rig.Status) bool {
		task := s.Task("backup")
		return task.State == "waiting" && task.Reason == "backoff" && task.Restarts >= 2 && strings.Contains(task.LastError, reason) &&
			!s.Backup.Available && strings.Contains(s.Backup.Error, reason) && s.BackupLSN == backupLSN
	})
	shown, err := b.node.Must(b.ctx, "timeline", "show", rig.Timeline)
	b.do(err)
	if !strings.Contains(shown, reason) {
		b.t.Errorf("timeline show does not say %q:\n%s", reason, shown)
	}
}

// R1 and R4: local WAL stays while object storage does not have it, though nobody
// wants it here; and who asks for it when it is gone gets it from there.
func TestOnlyWhatIsBackedUpIsRemovedAndIsStillServed(t *testing.T) {
	server := rig.StartS3(t)
	proxy := rig.StartS3Proxy(t, server.Address)
	b := newStoredBench(t, rig.S3URL(proxy.Address), "retain: {local_bytes: 1MiB}")
	b.explains("object storage fails", "^task failed, will be tried again: (object storage|back up)", "^object storage does not tell")
	b.backedUp()
	proxy.Fail(everything(rig.Unavailable))
	from := benchSegment.SegNo(b.walEnd(b.primary))
	b.fill(b.primary, 8)
	var names []string
	kept := map[string][]byte{}
	for n := from; n < from+6; n++ {
		name := pg.SegmentName(1, n, benchSegment)
		names = append(names, name)
		kept[name] = b.ours(name) // which fails if it is not there
	}
	b.await("the backup has failed", func(s rig.Status) bool { return s.Task("backup").Restarts >= 2 })
	for _, name := range names {
		if !b.holds(name) {
			t.Errorf("%s is removed, and is nowhere else", name)
		}
	}
	proxy.Fail(nil)
	b.backedUp()
	b.await("local WAL is removed", func(rig.Status) bool { return !b.holds(names[len(names)-1]) })
	for _, name := range names {
		r, out := b.fetch(name)
		if r.Code != 0 {
			t.Fatalf("%s: exit %d: %s", name, r.Code, r.Stderr)
		}
		got, err := os.ReadFile(out)
		b.do(err)
		if string(got) != string(kept[name]) {
			t.Errorf("%s from object storage is not what was received", name)
		}
	}
	clone := b.restore(b.node.RestoreCommand("--copy"), nil)
	rows, err := clone.Value(b.ctx, "SELECT max(id) FROM ledger")
	b.do(err)
	if want := fmt.Sprint(b.rows - 3); rows != want {
		t.Errorf("a clone, of WAL that is gone from the node, has rows up to %s, want %s", rows, want)
	}
}

// holds reports whether the node has a whole segment on its disk.
func (b *bench) holds(name string) bool {
	_, err := os.Stat(filepath.Join(b.node.WALDir(), name))
	return err == nil
}
