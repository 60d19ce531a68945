package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pgserver"
	"github.com/sluicewal/sluice/test/rig"
)

var recreations = flag.Int("recreations", 6, "how often TestNothingOfAnOldLifeIsSeenInANewOne deletes a timeline and makes it again")

// D1, D7: a timeline is deleted and made again under its name, while a server streams into it, its segments are uploaded, and
// clients read slowly. Two clusters take turns, so that every byte says whose life it belongs to.
func TestNothingOfAnOldLifeIsSeenInANewOne(t *testing.T) {
	b := newEmptyBench(t)
	if *recreations > 50 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		t.Cleanup(cancel)
		b.ctx = ctx
	}
	root := filepath.Join(rig.TempDir(t), "objects")
	b.node = b.newNode(rig.NodeOptions{Binary: program, Store: "file://" + root, PartialInterval: "100ms"})
	r := &recreation{bench: b, root: root, ended: map[string]bool{}}
	for range 2 {
		r.clusters = append(r.clusters, r.busyCluster())
	}
	for n := range *recreations {
		r.live(r.clusters[n%2])
	}
	r.checkStore()
	if r.cut == 0 {
		t.Error("no reader was inside when its timeline was deleted")
	}
	t.Logf("%d lives, %d whole segments in them, %d readers were cut", len(r.ended), r.segments, r.cut)
}

// recreation is a timeline's many lives.
type recreation struct {
	*bench
	root     string // of object storage
	clusters []cluster
	ended    map[string]bool // the incarnations that have ended
	segments int
	cut      int
}

// cluster is a server that writes without a pause.
type cluster struct {
	*pgserver.Server
	systemID string
}

func (r *recreation) busyCluster() cluster {
	r.t.Helper()
	s := r.newCluster(pgserver.Options{SegmentSizeMiB: segmentMiB})
	r.do(s.Exec(r.ctx, "CREATE TABLE t (n int, filler text)"))
	id, err := s.Value(r.ctx, "SELECT system_identifier FROM pg_control_system()")
	r.do(err)
	ctx, stop := context.WithCancel(r.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = s.Exec(ctx, "INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 500) AS n")
			_ = s.Exec(ctx, "TRUNCATE t")
			r.pause(10 * time.Millisecond) // what it does to the machine is not the test
		}
	}()
	r.t.Cleanup(func() { stop(); <-done }) // before the server ends
	return cluster{s, id}
}

func (r *recreation) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.ctx.Done():
	}
}

// live is one life: made, streamed into, read from, deleted at any moment.
func (r *recreation) live(c cluster) {
	r.t.Helper()
	r.do(c.Exec(r.ctx, "CHECKPOINT")) // a new slot begins at the last one
	_, err := r.node.Must(r.ctx, "timeline", "create", rig.Timeline, "--source", c.Conninfo())
	r.do(err)
	wanted := pg.LSN(1+rand.IntN(2)) << 20 // one whole segment at least, for the reader
	s := r.await("the new life streams", func(s rig.Status) bool {
		return s.Source.Connected && s.FlushLSN > s.StartLSN+wanted && s.SystemIdentifier == c.systemID
	})
	if r.ended[s.Incarnation] {
		r.t.Fatalf("incarnation %s lives again", s.Incarnation)
	}
	r.pause(time.Duration(rand.IntN(150)) * time.Millisecond)
	r.checkDisk(c)
	r.checkMetrics(s.Incarnation)
	ended := make(chan struct{})
	cut := r.slowReader(s, ended)
	deleted := make(chan error, 2)
	for range cap(deleted) { // D4: the second joins, or comes too late
		go func() {
			_, err := r.node.Must(r.ctx, "timeline", "delete", rig.Timeline)
			if err != nil && strings.Contains(err.Error(), "no such timeline") {
				err = nil
			}
			deleted <- err
		}()
	}
	r.do(<-deleted)
	r.do(<-deleted)
	close(ended)
	if <-cut {
		r.cut++
	}
	r.ended[s.Incarnation] = true
	r.checkStore()
}

// slowReader begins to read a segment, and goes on when the timeline has ended. It tells whether it was cut.
func (r *recreation) slowReader(s rig.Status, ended <-chan struct{}) (cut <-chan bool) {
	name := pg.SegmentName(s.TLI, segment.SegNo(s.StartLSN), segment)
	begun, told := make(chan struct{}), make(chan bool, 1)
	go func() {
		begin := sync.OnceFunc(func() { close(begun) })
		defer begin()
		resp, err := narrow.Get(r.node.URL() + "/v1/tenants/acme/timelines/main/wal/" + name)
		if err != nil {
			told <- false
			return
		}
		defer resp.Body.Close()
		begin()
		<-ended
		_, err = io.Copy(io.Discard, resp.Body)
		told <- resp.StatusCode == http.StatusOK && err != nil
	}()
	<-begun
	return told
}

// narrow is a client whose socket takes little, in small pieces: a segment does not fit between it and the node, which has to wait.
var narrow = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Control: narrowSocket}).DialContext}}

func narrowSocket(_, _ string, c syscall.RawConn) error {
	var size, piece error
	err := c.Control(func(fd uintptr) {
		size = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
		piece = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 536)
	})
	return errors.Join(err, size, piece)
}

// segment is the size of the segments here.
const segment = pg.SegmentSize(segmentMiB << 20)

// checkDisk holds every segment on the node's disk against the cluster that the life belongs to.
func (r *recreation) checkDisk(c cluster) {
	r.t.Helper()
	entries, err := os.ReadDir(r.node.WALDir())
	r.do(err)
	for _, e := range entries {
		if _, _, err := pg.ParseSegmentName(strings.TrimSuffix(e.Name(), ".partial"), segment); err != nil {
			continue
		}
		head, err := head(filepath.Join(r.node.WALDir(), e.Name()))
		if os.IsNotExist(err) {
			continue // named otherwise meanwhile
		}
		r.do(err)
		// XLogLongPageHeaderData, src/include/access/xlog_internal.h: the system identifier is its fifth field.
		if id := strconv.FormatUint(binary.LittleEndian.Uint64(head[24:]), 10); id != c.systemID && !bytes.Equal(head, make([]byte, len(head))) {
			r.t.Errorf("segment %s has WAL of the cluster %s, and the life is that of %s", e.Name(), id, c.systemID)
		}
		r.segments++
	}
	if others, err := os.ReadDir(filepath.Dir(filepath.Dir(r.node.WALDir()))); err != nil || len(others) != 1 {
		r.t.Errorf("beside the timeline's directory: %v, %v", others, err)
	}
}

func head(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, 40)
	_, err = io.ReadFull(f, b)
	return b, err
}

// checkMetrics: a life's metrics are its own, and there is one life at a time.
func (r *recreation) checkMetrics(life string) {
	r.t.Helper()
	_, body, err := r.node.Get(r.ctx, "/metrics/timelines")
	r.do(err)
	lives := 0
	for line := range strings.Lines(string(body)) {
		if !strings.HasPrefix(line, "sluice_timeline_info{") {
			continue
		}
		if lives++; !strings.Contains(line, life) {
			r.t.Errorf("a metric of another life than %s: %s", life, line)
		}
	}
	if lives != 1 {
		r.t.Errorf("%d lives have metrics", lives)
	}
}

// checkStore: of a life that has ended its tombstone is left, and nothing came after it.
func (r *recreation) checkStore() {
	r.t.Helper()
	err := filepath.WalkDir(filepath.Join(r.root, "acme", "main"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(filepath.Join(r.root, "acme", "main"), path)
		if err != nil {
			return err
		}
		_, key, below := strings.Cut(filepath.ToSlash(rel), "/")
		if below && key != "deleted" {
			r.t.Errorf("left of a life that has ended: %s", rel)
		}
		return nil
	})
	r.do(err)
	if r.t.Failed() {
		r.t.Fatalf("after %d lives", len(r.ended))
	}
}
