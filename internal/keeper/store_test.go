package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/restore"
	"github.com/sluicewal/sluice/internal/timeline"
)

// Tests with object storage in a directory, and WAL that no server has sent. Those with a server are in storeserver_test.go.

// objects is a directory for object storage.
func objects(t *testing.T) string { return filepath.Join(t.TempDir(), "objects") }

// with lets a node back up there.
func with(dir string) func(*Config) {
	return func(c *Config) {
		c.Store = StoreConfig{URL: "file://" + dir, PartialInterval: 50 * time.Millisecond, Backup: backup.Config{Timeout: 5 * time.Second}}
	}
}

func onNode(id string) func(*Config) { return func(c *Config) { c.NodeID = id } }

// look opens what is in object storage, as nobody.
func look(t *testing.T, dir string) (*backup.Store, backup.Identity) {
	t.Helper()
	s, err := backup.Open(t.Context(), "file://"+dir, backup.Config{Node: "test", ReadOnly: true})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	id, err := s.Find(t.Context(), "acme", "main")
	must(t, err)
	return s, id
}

func backedUp(t *testing.T, m *Member, whole, partial pg.LSN) {
	t.Helper()
	waitUntil(t, 20*time.Second, "backed up", func() bool { b := m.Backup(); return b.LSN >= whole && b.Partial.LSN >= partial })
}

func TestSegmentsAreBackedUpAndTheOpenOneToo(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + 3*mib + 1000)
	receive(t, m, w, w.End())
	backedUp(t, m, start+3*mib, w.End())
	store, id := look(t, dir)
	tl := store.Timeline("acme", "main", id)
	for n := pg.SegNo(1); n <= 4; n++ {
		s, err := tl.OpenSegment(t.Context(), 1, n)
		must(t, err)
		b := make([]byte, min(mib, s.End()-seg.Start(n)))
		_, err = s.ReadAt(b, 0)
		must(t, err)
		must(t, s.Close())
		if from := seg.Start(n) - start; string(b) != string(w.Bytes()[from:int(from)+len(b)]) {
			t.Errorf("segment %d differs", n)
		}
	}
	if got := id.Incarnation; got != string(m.Control().Incarnation) {
		t.Errorf("incarnation %s", got)
	}
}

// TestPartialGoesWhenItsSegmentIsWhole: nothing superfluous stays.
func TestPartialGoesWhenItsSegmentIsWhole(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + mib + 20_000)
	receive(t, m, w, start+mib/2)
	backedUp(t, m, start, start+mib/4)
	receive(t, m, w, w.End())
	backedUp(t, m, start+mib, w.End()-2000)
	store, id := look(t, dir)
	waitUntil(t, 20*time.Second, "one copy is left, of the open segment", func() bool {
		all, err := store.Timeline("acme", "main", id).Partials(t.Context())
		must(t, err)
		return len(all) == 1 && all[0].SegNo == 2
	})
}

// TestLocalWALGoesOnceItIsBackedUp (R1): by what the control file knows.
func TestLocalWALGoesOnceItIsBackedUp(t *testing.T) {
	dir := objects(t)
	h := newHome(t)
	k := h.start(t, with(dir), func(c *Config) { c.Retain = mib })
	m := create(t, k, main1)
	w := source(start + 6*mib + 1000)
	receive(t, m, w, w.End())
	waitUntil(t, 20*time.Second, "the oldest went", func() bool {
		s := m.Log().Segments()
		return s[0].SegNo >= 5
	})
	if s := m.Log().Segments()[0]; seg.Start(s.SegNo) > m.Control().Stored.Backup.LSN {
		t.Errorf("segment %d went, and the control file knows of %s", s.SegNo-1, m.Control().Stored.Backup)
	}
	if s := m.Log().Segments()[0]; s.SegNo > 6 {
		t.Errorf("of the configured 1 MiB less is left: it begins with segment %d", s.SegNo)
	}
	waitUntil(t, 20*time.Second, "nothing but what is configured is kept of what is backed up", func() bool {
		r, known := m.Retained()
		return known && r.Reader == 0 && r.Configured >= mib && r.NotBackedUp == mib && r.Configured+r.NotBackedUp == m.Log().Stats().LocalBytes
	})
	h.crash(k)
	m = member(t, h.start(t, with(dir)), main1)
	if st := state(m); st != timeline.StateRunning {
		t.Errorf("state %s", st)
	}
}

func TestNothingGoesWhileObjectStorageIsAway(t *testing.T) {
	dir := objects(t)
	must(t, os.WriteFile(dir, nil, 0o600)) // where the directory should be
	h := newHome(t)
	k := h.start(t, with(dir), func(c *Config) { c.Retain = mib })
	m := create(t, k, main1)
	w := source(start + 4*mib + 1000)
	receive(t, m, w, w.End())
	waitUntil(t, 20*time.Second, "the task has failed twice", func() bool { return backupStatus(m).Restarts > 1 })
	if s := m.Log().Segments(); s[0].SegNo != 1 {
		t.Errorf("it begins with segment %d", s[0].SegNo)
	}
	if s := backupStatus(m); s.LastError == "" {
		t.Errorf("task: %+v", s)
	}
	if r, known := m.Retained(); !known || r != (Retained{NotBackedUp: m.Log().Stats().LocalBytes}) {
		t.Errorf("what keeps it: %+v, %v", r, known)
	}
	must(t, os.Remove(dir))
	backedUp(t, m, start+4*mib, w.End())
}

func backupStatus(m *Member) timeline.TaskStatus {
	for _, s := range m.Status().Tasks {
		if s.Name == "backup" {
			return s
		}
	}
	return timeline.TaskStatus{}
}

// TestDrain: everything is in object storage, and the disk may go (P1).
func TestDrain(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir), func(c *Config) { c.Store.PartialInterval = time.Hour })
	m := create(t, k, main1)
	w := source(start + 2*mib + 1000)
	receive(t, m, w, w.End())
	must(t, k.Drain(t.Context()))
	stop(t, k)
	store, id := look(t, dir)
	tl := store.Timeline("acme", "main", id)
	p, err := tl.NewestPartial(t.Context(), 1, 3)
	must(t, err)
	if p.End != w.End() {
		t.Errorf("the open segment reaches %s of %s", p.End, w.End())
	}
}

func TestDrainEndsWithItsContext(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + 2*mib + 1000)
	must(t, os.MkdirAll(filepath.Join(dir, "acme"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "acme", "main"), nil, 0o600)) // nothing can be put there
	receive(t, m, w, w.End())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := k.Drain(ctx); err == nil || !strings.Contains(err.Error(), "acme/main is not drained") {
		t.Errorf("drained: %v", err)
	}
}

// TestEmptyDiskTakesOverWhatWasDecided (F13, F14): the same life, the seal, and how far object storage reaches.
func TestEmptyDiskTakesOverWhatWasDecided(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + 2*mib + 1000)
	receive(t, m, w, w.End())
	setQuorum(t, m, "a")
	sealed, err := k.Seal(t.Context(), main1, false)
	must(t, err)
	must(t, k.Drain(t.Context()))
	life := m.Control().Incarnation
	stop(t, k)

	k = newHome(t).start(t, with(dir))
	m = create(t, k, main1)
	again, err := k.Seal(t.Context(), main1, false)
	must(t, err)
	if again.End != sealed.End || again.TLI != 1 {
		t.Errorf("sealed again: %+v, before: %+v", again, sealed)
	}
	c := m.Control()
	if c.Incarnation != life || c.SystemID != systemID || c.SegmentSize != seg || c.Stored == nil || c.Stored.Backup.LSN != start+2*mib {
		t.Errorf("taken over: %+v, %+v", c, c.Stored)
	}
	held := (&sink{Member: m}).Held()
	if held.Seal == nil || held.Seal.End != sealed.End || held.Position != (pg.Position{TLI: 1}) || held.Stored.LSN != start+2*mib {
		t.Errorf("a source is judged by %+v", held)
	}
}

// TestSealIsDecidedInObjectStorage: what is promised stays promised while that is away.
func TestSealIsDecidedInObjectStorage(t *testing.T) {
	dir := objects(t)
	h := newHome(t)
	k := h.start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + 100_000)
	receive(t, m, w, w.End())
	backedUp(t, m, start, w.End())
	away := dir + ".away"
	must(t, os.Rename(dir, away))
	undecided := new(timeline.UndecidedError)
	if _, err := k.Seal(t.Context(), main1, false); !errors.As(err, &undecided) {
		t.Fatalf("sealed: %v", err)
	}
	h.crash(k)
	k = h.start(t, with(dir))
	m = member(t, k, main1)
	if held := (&sink{Member: m}).Held(); held.Seal == nil || held.Seal.End != 0 {
		t.Errorf("promised, and after a crash: %+v", held.Seal)
	}
	stop(t, k)
	must(t, os.RemoveAll(dir)) // the node has made a new store there
	must(t, os.Rename(away, dir))
	k = h.start(t, with(dir))
	sealed, err := k.Seal(t.Context(), main1, false)
	must(t, err)
	store, id := look(t, dir)
	if s, err := store.Timeline("acme", "main", id).Seal(t.Context(), 1); err != nil || s.End != sealed.End {
		t.Errorf("decided: %+v, %v", s, err)
	}
}

// TestSealDecidedAloneIsDelivered: an operator who insists does not wait for object storage, which hears of it later.
func TestSealDecidedAloneIsDelivered(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + 100_000)
	receive(t, m, w, w.End())
	backedUp(t, m, start, w.End())
	must(t, os.Rename(dir, dir+".away"))
	sealed, err := k.Seal(t.Context(), main1, true)
	must(t, err)
	if !sealed.Undelivered || sealed.Warning == "" {
		t.Errorf("sealed: %+v", sealed)
	}
	must(t, os.Rename(dir+".away", dir))
	waitUntil(t, 40*time.Second, "delivered", func() bool { s, _ := m.Control().SealOf(1); return !s.Undelivered })
	store, id := look(t, dir)
	if s, err := store.Timeline("acme", "main", id).Seal(t.Context(), 1); err != nil || s.End != sealed.End {
		t.Errorf("decided: %+v, %v", s, err)
	}
}

// TestTwoNodesCreateOneTimeline (O1): one life.
func TestTwoNodesCreateOneTimeline(t *testing.T) {
	dir := objects(t)
	lives := make([]timeline.Incarnation, 4)
	var all sync.WaitGroup
	for i := range lives {
		k := newHome(t).start(t, with(dir), onNode(string(rune('a'+i))))
		m := create(t, k, main1)
		all.Go(func() {
			for err := errMetOther; errors.Is(err, errMetOther); {
				if err = m.meet(t.Context()); err == nil {
					err = (&sink{Member: m}).decide(t.Context(), replication.Source{SystemID: systemID, SegmentSize: seg})
				}
				if err != nil && !errors.Is(err, errMetOther) {
					t.Error(err)
				}
			}
			lives[i] = m.Control().Incarnation
		})
	}
	all.Wait()
	if len(slices.Compact(lives)) != 1 || lives[0] == "" {
		t.Errorf("lives %s", lives)
	}
}

// TestDamagedLocalSegmentIsNotBackedUp: the copy that outlives the disk must not be the bad one.
func TestDamagedLocalSegmentIsNotBackedUp(t *testing.T) {
	dir := objects(t)
	must(t, os.WriteFile(dir, nil, 0o600)) // away, for now
	h := realHome(t)
	k := h.start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + 2*mib + 1000)
	receive(t, m, w, w.End())
	name := filepath.Join(timeline.WALDir(h.dir, main1), "000000010000000000000002")
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, mib/2)
	must(t, err)
	_, err = f.WriteAt([]byte{b[0] ^ 1}, mib/2)
	must(t, errors.Join(err, f.Close()))
	must(t, os.Remove(dir))
	waitUntil(t, 20*time.Second, "said", func() bool { return strings.Contains(backupStatus(m).LastError, "damaged on the local disk") })
	if b := m.Backup(); b.LSN != start+mib {
		t.Errorf("backed up to %s", b.LSN)
	}
}

// TestOtherStoreIsRefused: nodes that see different stores do not meet.
func TestOtherStoreIsRefused(t *testing.T) {
	dir, other := objects(t), objects(t)
	h := newHome(t)
	k := h.start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + mib + 1000)
	receive(t, m, w, w.End())
	backedUp(t, m, start+mib, w.End())
	stop(t, k)
	m = member(t, h.start(t, with(other)), main1)
	more := source(start + 2*mib + 1000)
	receive(t, m, more, more.End())
	waitUntil(t, 20*time.Second, "said", func() bool { return strings.Contains(backupStatus(m).LastError, "object storage is another") })
}

func TestUnconditionalStoreKeepsANodeFromStarting(t *testing.T) {
	cfg := newHome(t).config()
	cfg.Store.URL = "ftp://x"
	if _, err := Open(t.Context(), cfg); !errors.Is(err, backup.ErrBadURL) {
		t.Errorf("opened: %v", err)
	}
}

// TestRangeToUpload is where runs begin and end.
func TestRangeToUpload(t *testing.T) {
	line := pg.History{TLI: 2, Forks: []pg.Fork{{TLI: 1, LSN: 0x350000}}}
	for name, c := range map[string]struct {
		h               pg.History
		backup, commits pg.LSN
		claimed         pg.TLI
		want            backup.Range
	}{
		"one TLI":                     {pg.History{TLI: 1}, 0x100000, 0x4FFFFF, 0, backup.Range{TLI: 1, From: 1, To: 4}},
		"nothing whole":               {pg.History{TLI: 1}, 0x400000, 0x4FFFFF, 0, backup.Range{}},
		"up to the fork":              {line, 0x100000, 0x500000, 1, backup.Range{TLI: 1, From: 1, To: 3}},
		"from the fork on, claimed":   {line, 0x300000, 0x500000, 2, backup.Range{TLI: 2, From: 3, To: 5}},
		"from the fork on, unclaimed": {line, 0x300000, 0x500000, 1, backup.Range{}},
	} {
		got, more := rangeToUpload(c.h, timeline.Backup{LSN: c.backup, Claimed: c.claimed}, c.commits, seg)
		if got != c.want || more != (c.want != backup.Range{}) {
			t.Errorf("%s: %+v, %t; want %+v", name, got, more, c.want)
		}
	}
}

// TestRestoreIsToldOnce, however often it was tried in vain.
func TestRestoreIsToldOnce(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + mib)
	receive(t, m, w, w.End())
	must(t, k.Drain(t.Context()))
	stop(t, k)

	_, id := look(t, dir)
	var told []string
	k = newHome(t).start(t, with(dir), func(c *Config) {
		c.Events.Operation = func(ctx, _ context.Context, _ timeline.ID, name string) (context.Context, func(error)) {
			return ctx, func(err error) { told = append(told, fmt.Sprint(name, " ", err)) }
		}
	})
	m = create(t, k, main1)
	told = nil
	for range 2 {
		seal := filepath.Join(dir, "acme", "main", id.Incarnation, "seal", "00000001")
		must(t, errors.Join(os.MkdirAll(filepath.Dir(seal), 0o755), os.WriteFile(seal, []byte("damaged"), 0o600)))
		if err := m.meet(t.Context()); err == nil || len(told) > 0 {
			t.Errorf("a try with a damaged seal: %v, told was %q", err, told)
		}
		must(t, os.RemoveAll(filepath.Dir(seal)))
	}
	must(t, m.meet(t.Context()))
	if want := []string{opRestore + " <nil>"}; !slices.Equal(told, want) {
		t.Errorf("told was %q, want %q", told, want)
	}
}

// TestEmptyDiskHandsBackWhatObjectStorageHas, and its own "not there" counts for nothing (F10).
func TestEmptyDiskHandsBackWhatObjectStorageHas(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + 2*mib + 1000)
	receive(t, m, w, w.End())
	must(t, k.Drain(t.Context()))
	stop(t, k)

	k = newHome(t).start(t, with(dir))
	m = create(t, k, main1)
	must(t, m.meet(t.Context()))
	f, err := k.OpenWAL(t.Context(), main1, WALRequest{File: "000000010000000000000002"})
	must(t, err)
	if f.Kind != restore.Present {
		t.Fatalf("a segment of object storage: %+v", f.Decision)
	}
	b, err := io.ReadAll(f.Body)
	must(t, errors.Join(err, f.Close()))
	if string(b) != string(w.Bytes()[mib:2*mib]) {
		t.Error("it differs")
	}
	for _, name := range []string{"000000010000000000000004", "00000002.history"} {
		f, err = k.OpenWAL(t.Context(), main1, WALRequest{File: name})
		must(t, err)
		if f.Kind != restore.Unknown {
			t.Errorf("%s, and nobody can know: %+v", name, f.Decision)
		}
		must(t, f.Close())
	}
}

// TestUnsealTakesTheSealBackEverywhere, unless somebody may have promoted from the tail.
func TestUnsealTakesTheSealBackEverywhere(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + 100_000)
	receive(t, m, w, w.End())
	backedUp(t, m, start, w.End())
	_, err := k.Seal(t.Context(), main1, false)
	must(t, err)
	_, err = k.Unseal(t.Context(), main1, false)
	must(t, err)
	store, id := look(t, dir)
	tl := store.Timeline("acme", "main", id)
	if s, err := tl.Seal(t.Context(), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("object storage still has %+v, %v", s, err)
	}

	sealed, err := k.Seal(t.Context(), main1, false)
	must(t, err)
	node, err := backup.Open(t.Context(), "file://"+dir, backup.Config{Node: "elsewhere"})
	must(t, err)
	defer func() { must(t, node.Close()) }()
	must(t, node.Timeline("acme", "main", id).MarkTailServed(t.Context(), 1)) // by wal-fetch without a node
	if _, err := k.Unseal(t.Context(), main1, false); !errors.Is(err, timeline.ErrTailServed) {
		t.Errorf("unsealed: %v", err)
	}
	if s, err := tl.Seal(t.Context(), 1); err != nil || s.End != sealed.End {
		t.Errorf("object storage has %+v, %v", s, err)
	}
	_, err = k.Unseal(t.Context(), main1, true)
	must(t, err)
	if s, err := tl.Seal(t.Context(), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("forced, and object storage still has %+v, %v", s, err)
	}
}

// TestSessionThatEndsBeforeTheTimelineBegins: the receiver syncs once more when a session ends, whatever came of it.
func TestSessionThatEndsBeforeTheTimelineBegins(t *testing.T) {
	k := newHome(t).start(t, with(objects(t)))
	s := &sink{Member: create(t, k, main1)}
	if flush, err := s.Sync(); flush != 0 || err != nil {
		t.Errorf("synced nothing: %s, %v", flush, err)
	}
	if s.Verified() {
		t.Error("nothing was compared, and it is equal")
	}
}

// TestNewTLIIsClaimedAndUploaded, after both came while object storage was away; also where that knows the new TLI already, and
// lacks what its parent has.
func TestNewTLIIsClaimedAndUploaded(t *testing.T) {
	for name, known := range map[string]pg.TLI{"nothing is there": 0, "the parent's segments are missing": 2} {
		t.Run(name, func(t *testing.T) {
			dir := objects(t)
			must(t, os.WriteFile(dir, nil, 0o600))
			k := newHome(t).start(t, with(dir))
			m := create(t, k, main1)
			w := source(start + 2*mib + 300_000)
			receive(t, m, w, w.End())
			fork := w.End()
			child := pg.History{TLI: 2, Forks: []pg.Fork{{TLI: 1, LSN: fork, Reason: "no recovery target specified"}}}
			must(t, m.Follow(t.Context(), child, fmt.Appendf(nil, "1\t%s\tno recovery target specified\n", fork)))
			two := w.Fork(2)
			for two.End() < start+4*mib+1000 {
				two.Record(1000)
			}
			must(t, os.Remove(dir))
			store, err := k.depot.open(t.Context())
			for ; err != nil; store, err = k.depot.open(t.Context()) {
				time.Sleep(10 * time.Millisecond)
			}
			if known != 0 {
				met := timeline.Meeting{
					Incarnation: m.Control().Incarnation, SystemID: systemID, SegmentSize: seg, StoreID: store.ID(), Compression: "zstd",
					Backup: pg.Position{TLI: known, LSN: start},
				}
				must(t, m.Meet(t.Context(), met))
			}
			end, err := m.BeginReceive()
			must(t, err)
			defer end()
			from := m.Log().Rewind()
			must(t, m.Log().Append(from, two.Bytes()[from-start:]))
			_, err = m.Log().Sync()
			must(t, err)
			m.Synced()
			backedUp(t, m, start+4*mib, two.End())
			s, err := m.stored(t.Context())
			must(t, err)
			l, err := s.List(t.Context())
			must(t, err)
			var names []string
			for _, o := range l.Segments {
				names = append(names, pg.SegmentName(o.TLI, o.SegNo, seg))
			}
			want := []string{"000000010000000000000001", "000000010000000000000002", "000000020000000000000003", "000000020000000000000004"}
			if !slices.Equal(names, want) {
				t.Errorf("segments %q, want %q", names, want)
			}
			claim, err := s.ClaimOf(t.Context(), 2)
			if err != nil || len(claim.Record) == 0 {
				t.Errorf("claim: %+v, %v", claim, err)
			}
			parent, err := s.NewestPartial(t.Context(), 1, 3)
			if err != nil || parent.End != fork {
				t.Errorf("the end of TLI 1: %+v, %v", parent, err)
			}
		})
	}
}

// TestOtherPromotionIsRefused (F6): another node has claimed TLI 2 for another server, with the same history.
func TestOtherPromotionIsRefused(t *testing.T) {
	dir := objects(t)
	k := newHome(t).start(t, with(dir))
	m := create(t, k, main1)
	w := source(start + 300_000)
	receive(t, m, w, w.End())
	fork := w.End()
	backedUp(t, m, start, fork)
	raw := fmt.Appendf(nil, "1\t%s\tno recovery target specified\n", fork)
	node, err := backup.Open(t.Context(), "file://"+dir, backup.Config{Node: "elsewhere"})
	must(t, err)
	defer func() { must(t, node.Close()) }()
	_, id := look(t, dir)
	must(t, node.Timeline("acme", "main", id).Claim(t.Context(), backup.Claim{TLI: 2, History: raw, Record: []byte("another first record")}))

	must(t, m.Follow(t.Context(), pg.History{TLI: 2, Forks: []pg.Fork{{TLI: 1, LSN: fork, Reason: "no recovery target specified"}}}, raw))
	two := w.Fork(2)
	two.Record(500)
	s := &sink{Member: m, session: t.Context, progress: func() {}}
	s.Rewind()
	from := m.Log().Rewind()
	must(t, s.Append(from, two.Bytes()[from-start:]))
	refused := new(replication.RefusedError)
	if _, err := s.Sync(); !errors.As(err, &refused) || refused.Reason != replication.Forked || !strings.Contains(refused.Text, "elsewhere") {
		t.Fatalf("acknowledged: %v", err)
	}
	if err := m.meet(t.Context()); !errors.As(err, &refused) {
		t.Errorf("the next session: %v", err)
	}
	if m.Control().Stored.Conflict != 2 {
		t.Errorf("kept: %+v", m.Control().Stored)
	}
}
