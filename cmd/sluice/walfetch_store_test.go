package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/timeline"
)

const segmentThree = "000000010000000000000003"

// bucket is object storage in a directory that keeps what a node held: its whole segment, and part of the open one.
type bucket struct {
	dir      string
	store    *backup.Store
	timeline *backup.Timeline
	open     pg.LSN // how far the open segment was stored, inside of a record
}

// newBucket uploads a dead node's WAL, under the node's incarnation.
func newBucket(t *testing.T, n *deadNodeDir) *bucket {
	t.Helper()
	ctx := t.Context()
	b := &bucket{dir: t.TempDir()}
	var err error
	b.store, err = backup.Open(ctx, b.url(), backup.Config{Node: "a"})
	must(t, err)
	t.Cleanup(func() { must(t, b.store.Close()) })
	id, err := b.store.Adopt(ctx, "acme", "main", backup.Identity{
		Incarnation: string(n.control(t).Incarnation), SystemID: deadCluster, SegmentSize: pg.MinSegmentSize, Compression: backup.Zstd,
	}, false)
	must(t, err)
	b.timeline = b.store.Timeline("acme", "main", id)
	_, err = b.timeline.PutSegment(ctx, 1, 1, bytes.NewReader(n.wal))
	must(t, err)
	b.open = pg.MinSegmentSize.Start(2) + 300_001
	_, err = b.timeline.PutPartial(ctx, 1, 2, b.open, bytes.NewReader(n.wal[deadSegment:]))
	must(t, err)
	return b
}

func (b *bucket) url() string { return "file://" + b.dir }

// object is the file of a whole segment.
func (b *bucket) object(t *testing.T, segment string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.dir, "acme", "main", "*", "wal", segment+".zst"))
	must(t, err)
	if len(files) != 1 {
		t.Fatalf("%s is at %q", segment, files)
	}
	return files[0]
}

// TestObjectStoreAlone: whole segments go to anyone. Where it ends, nobody can tell without a node, unless a copy is made or loss
// is accepted.
func TestObjectStoreAlone(t *testing.T) {
	n := newDeadNode(t, "a", "a")
	from := []string{"--object-store", newBucket(t, n).url(), "acme/main"}
	if s, b := fetch(t, "", append(from, segmentOne)...); s.status != 0 || s.stderr != "" || !bytes.Equal(b, n.wal[:deadSegment]) {
		t.Errorf("a whole segment: exit %d: %s", s.status, s.stderr)
	}
	for _, c := range []struct {
		args   []string
		status int
		said   []string
	}{
		{[]string{segmentTwo}, 126, []string{"could not find out", "whole segments up to 0/200000", "--copy", "--accept-data-loss"}},
		{[]string{"00000002.history"}, 126, []string{"could not find out", "the nodes may know more", "--copy", "--accept-data-loss"}},
		{[]string{"--seal", segmentTwo}, 126, []string{"a seal is the promise of a node"}},
		{[]string{"--copy", segmentTwo}, 1, []string{"this copy ends at 0/200000"}},
		{[]string{"--copy", "00000002.history"}, 1, []string{"object storage alone"}},
		{[]string{"--accept-data-loss", "00000002.history"}, 1, []string{"object storage alone"}},
		{[]string{"--accept-data-loss", segmentThree}, 1, []string{"object storage has nothing of it"}},
		{[]string{"000000010000000000000000"}, 126, []string{"what is left of acme/main begins at 0/100000"}},
	} {
		s, _ := fetch(t, "", append(from, c.args...)...)
		if s.status != c.status {
			t.Errorf("%q: exit %d: %s", c.args, s.status, s.stderr)
		}
		for _, said := range c.said {
			if !strings.Contains(s.stderr, said) {
				t.Errorf("%q does not say %q: %s", c.args, said, s.stderr)
			}
		}
	}
}

// TestOpenSegmentEndsWithItsLastRecord: what was stored of it was cut off somewhere.
func TestOpenSegmentEndsWithItsLastRecord(t *testing.T) {
	n := newDeadNode(t, "a", "a")
	stored := newBucket(t, n)
	s, b := fetch(t, "", "--object-store", stored.url(), "--accept-data-loss", "acme/main", segmentTwo)
	if s.status != 0 || !strings.Contains(s.stderr, "as node a stored it at 20") || !strings.Contains(s.stderr, "what came later is lost") {
		t.Fatalf("exit %d: %s", s.status, s.stderr)
	}
	w := pg.NewWalker(pg.MinSegmentSize)
	w.Reset(pg.MinSegmentSize.Start(1), 0)
	must(t, w.Write(n.wal[:int(stored.open-pg.MinSegmentSize.Start(1))]))
	kept := int(w.RecordEnd() - pg.MinSegmentSize.Start(2))
	if !bytes.Equal(b[:kept], n.wal[deadSegment:][:kept]) || len(bytes.Trim(b[kept:], "\x00")) > 0 || len(b) != deadSegment {
		t.Errorf("it is not the WAL up to %s, and zeros", w.RecordEnd())
	}
	if !strings.Contains(s.stderr, "WAL ends at "+w.RecordEnd().String()) {
		t.Errorf("it does not say where the WAL ends, %s: %s", w.RecordEnd(), s.stderr)
	}
}

// TestSealInObjectStorage: the open segment is the tail if it reaches the end. That it went out is written down, unless loss is
// accepted.
func TestSealInObjectStorage(t *testing.T) {
	n := newDeadNode(t, "a", "a")
	stored := newBucket(t, n)
	_, err := stored.timeline.DecideSeal(t.Context(), backup.Seal{TLI: 1, End: n.end})
	must(t, err)
	from := []string{"--object-store", stored.url(), "acme/main"}
	served := func() bool {
		yes, err := stored.timeline.TailServed(t.Context(), 1)
		must(t, err)
		return yes
	}
	if s, _ := fetch(t, "", append(from, segmentTwo)...); s.status != 126 || !strings.Contains(s.stderr, "sealed, "+n.end.String()) {
		t.Errorf("it does not reach the end: exit %d: %s", s.status, s.stderr)
	}
	if served() {
		t.Error("nothing went out")
	}
	if s, b := fetch(t, "", append(from, "--accept-data-loss", segmentTwo)...); s.status != 0 || len(b) != deadSegment || !served() {
		t.Errorf("loss is accepted: exit %d: %s", s.status, s.stderr)
	}
	_, err = stored.timeline.PutPartial(t.Context(), 1, 2, n.end, bytes.NewReader(n.wal[deadSegment:]))
	must(t, err)
	if s, b := fetch(t, "", append(from, segmentTwo)...); s.status != 0 || !bytes.HasPrefix(b, n.wal[deadSegment:]) || s.stderr != "" {
		t.Errorf("it reaches the end: exit %d: %s", s.status, s.stderr)
	}
	if s, _ := fetch(t, "", append(from, segmentThree)...); s.status != 126 || !strings.Contains(s.stderr, "the nodes may know more") {
		t.Errorf("above the end: exit %d: %s", s.status, s.stderr)
	}
}

// TestObjectStoreThatCannotBeRead: never "does not exist", whatever is accepted.
func TestObjectStoreThatCannotBeRead(t *testing.T) {
	n := newDeadNode(t, "a", "a")
	stored := newBucket(t, n)
	deleted := newBucket(t, n)
	_, err := deleted.timeline.Bury(t.Context(), true)
	must(t, err)
	for name, c := range map[string]struct {
		url, timeline, said string
	}{
		"no such timeline":     {stored.url(), "acme/other", "there is no timeline acme/other in object storage"},
		"a deleted one":        {deleted.url(), "acme/main", "the timeline was deleted"},
		"no such directory":    {"file:///no/such", "acme/main", "the bucket is not there"},
		"an empty directory":   {"file://" + t.TempDir(), "acme/main", "is it the right one, and mounted?"},
		"another scheme":       {"ftp://bucket", "acme/main", "want file, s3, gs, azblob or mem"},
		"no URL":               {"::", "acme/main", "cannot be read"},
		"a URL with two slips": {"file://objects", "acme/main", "file:///absolute/path"},
	} {
		for _, flag := range []string{"--copy", "--accept-data-loss"} {
			s, _ := fetch(t, "", "--object-store", c.url, flag, c.timeline, "00000002.history")
			if s.status != 126 || !strings.Contains(s.stderr, c.said) {
				t.Errorf("%s, %s: exit %d: %s", name, flag, s.status, s.stderr)
			}
		}
	}
}

// TestDamagedObject: it is fetched from elsewhere, or nobody knows; with loss accepted, too, for it is not missing.
func TestDamagedObject(t *testing.T) {
	n := newDeadNode(t, "a", "a")
	stored := newBucket(t, n)
	path := stored.object(t, segmentOne)
	good, err := os.ReadFile(path)
	must(t, err)
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	for name, bad := range map[string][]byte{"a flipped bit": flipped, "cut off": good[:len(good)/2], "empty": {}} {
		must(t, os.WriteFile(path, bad, 0o600))
		for _, flags := range [][]string{{"--retry-for=1s"}, {"--copy"}, {"--accept-data-loss"}} {
			s, _ := fetch(t, "", append(flags, "--object-store", stored.url(), "acme/main", segmentOne)...)
			if s.status != 126 || !strings.Contains(s.stderr, "is damaged") {
				t.Errorf("%s, %s: exit %d: %s", name, flags, s.status, s.stderr)
			}
		}
		s, b := fetch(t, "", "--object-store", stored.url(), "--data-dir", n.dir, "acme/main", segmentOne)
		if s.status != 0 || !bytes.Equal(b, n.wal[:deadSegment]) {
			t.Errorf("%s, and a node has it: exit %d: %s", name, s.status, s.stderr)
		}
	}
}

// TestRecordsOfStoredSegmentsAreVerified: the disk that it was uploaded from had changed it before.
func TestRecordsOfStoredSegmentsAreVerified(t *testing.T) {
	n := newDeadNode(t, "a", "a")
	n.wal[deadSegment/2] ^= 4
	if s, _ := fetch(t, "", "--object-store", newBucket(t, n).url(), "acme/main", segmentOne); s.status != 126 || !strings.Contains(s.stderr, "damaged") {
		t.Errorf("exit %d: %s", s.status, s.stderr)
	}
}

// TestObjectStoreBesideADataDir: any may have the file, and both have to say what does not exist.
func TestObjectStoreBesideADataDir(t *testing.T) {
	n := newDeadNode(t, "a", "a")
	stored := newBucket(t, n)
	both := []string{"--object-store", stored.url(), "--data-dir", n.dir, "acme/main"}
	must(t, os.Remove(filepath.Join(timeline.WALDir(n.dir, deadTimeline), segmentOne)))
	if s, b := fetch(t, "", append(both, segmentOne)...); s.status != 0 || !bytes.Equal(b, n.wal[:deadSegment]) {
		t.Errorf("removed from the directory: exit %d: %s", s.status, s.stderr)
	}
	if s, _ := fetch(t, "", append(both, "--accept-data-loss", segmentTwo)...); s.status != 126 || !strings.Contains(s.stderr, "timeline seal") {
		t.Errorf("a node that can be sealed: exit %d: %s", s.status, s.stderr)
	}
	if s, _ := fetch(t, "", append(both, "00000002.history")...); s.status != 1 {
		t.Errorf("both know of no promotion: exit %d: %s", s.status, s.stderr)
	}
	if s, b := fetch(t, "", append(both, "--seal", segmentTwo)...); s.status != 0 || !bytes.HasPrefix(b, n.wal[deadSegment:]) {
		t.Errorf("sealed on first need: exit %d: %s", s.status, s.stderr)
	}
	if seal, err := stored.timeline.Seal(t.Context(), 1); err != nil || seal.End != n.end {
		t.Errorf("in object storage the seal is %+v, %v; want %s", seal, err, n.end)
	}
	if s, _ := fetch(t, "", append(both, segmentThree)...); s.status != 1 {
		t.Errorf("above the end: exit %d: %s", s.status, s.stderr)
	}
	away := []string{"--object-store", "file:///no/such", "--retry-for=0", "--data-dir", n.dir, "acme/main"}
	if s, _ := fetch(t, "", append(away, segmentTwo)...); s.status != 0 {
		t.Errorf("the store is away, and the directory has it: exit %d: %s", s.status, s.stderr)
	}
	if s, _ := fetch(t, "", append(away, segmentThree)...); s.status != 126 || !strings.Contains(s.stderr, "object storage has to say so") {
		t.Errorf("the store is away: exit %d: %s", s.status, s.stderr)
	}
	gone := []string{"--object-store", stored.url(), "--retry-for=0", "--data-dir", "/no/such", "acme/main"}
	if s, _ := fetch(t, "", append(gone, segmentOne)...); s.status != 0 {
		t.Errorf("the directory is away, and the store has it: exit %d: %s", s.status, s.stderr)
	}
	if s, _ := fetch(t, "", append(gone, "00000002.history")...); s.status != 126 {
		t.Errorf("the directory is away: exit %d: %s", s.status, s.stderr)
	}
}

// TestSealThatTheStoreDecidedOtherwise: two nodes sealed, and the other one was first.
func TestSealThatTheStoreDecidedOtherwise(t *testing.T) {
	n := newDeadNode(t, "a", "a")
	stored := newBucket(t, n)
	n.seal(t)
	_, err := stored.timeline.DecideSeal(t.Context(), backup.Seal{TLI: 1, End: stored.open})
	must(t, err)
	both := []string{"--object-store", stored.url(), "--data-dir", n.dir, "acme/main"}
	if s, _ := fetch(t, "", append(both, segmentTwo)...); s.status != 126 || !strings.Contains(s.stderr, "an end is decided once") {
		t.Errorf("exit %d: %s", s.status, s.stderr)
	}
}

// TestOtherLifeInObjectStorage: what was deleted and made anew keeps other WAL under the same names.
func TestOtherLifeInObjectStorage(t *testing.T) {
	n := newDeadNode(t, "a", "a")
	stored := newBucket(t, n)
	_, err := stored.timeline.Bury(t.Context(), true)
	must(t, err)
	_, err = stored.store.Adopt(t.Context(), "acme", "main", backup.Identity{
		Incarnation: uuid.NewString(), SystemID: deadCluster, SegmentSize: pg.MinSegmentSize, Compression: backup.Zstd,
	}, true)
	must(t, err)
	s, _ := fetch(t, "", "--retry-for=0", "--object-store", stored.url(), "--data-dir", n.dir, "acme/main", "00000002.history")
	if s.status != 126 || !strings.Contains(s.stderr, "another life") {
		t.Errorf("exit %d: %s", s.status, s.stderr)
	}
}

// TestObjectStoreBesideAServer: the node is certain, and object storage only agrees; where it knows better, nobody is certain.
func TestObjectStoreBesideAServer(t *testing.T) {
	n := newDeadNode(t, "a", "a")
	stored := newBucket(t, n)
	absent := answering(t, deny(http.StatusNotFound, "absent", "absent"))
	both := []string{"--server", absent, "--retry-for=0", "--object-store", stored.url(), "acme/main"}
	if s, _ := fetch(t, "", append(both, "00000002.history")...); s.status != 1 {
		t.Errorf("object storage agrees: exit %d: %s", s.status, s.stderr)
	}
	if s, _ := fetch(t, "", append(both, segmentTwo)...); s.status != 126 {
		t.Errorf("object storage knows that it exists: exit %d: %s", s.status, s.stderr)
	}
	if s, b := fetch(t, "", append(both, segmentOne)...); s.status != 0 || !bytes.Equal(b, n.wal[:deadSegment]) {
		t.Errorf("object storage has it: exit %d: %s", s.status, s.stderr)
	}
	away := []string{"--server", nobody(t), "--retry-for=0", "--object-store", stored.url(), "acme/main"}
	if s, _ := fetch(t, "", append(away, segmentOne)...); s.status != 0 {
		t.Errorf("the node is away, and object storage has it: exit %d: %s", s.status, s.stderr)
	}
	if s, _ := fetch(t, "", append(away, "00000002.history")...); s.status != 126 {
		t.Errorf("the node is away: exit %d: %s", s.status, s.stderr)
	}
}
