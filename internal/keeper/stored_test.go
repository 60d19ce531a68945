package keeper

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/restore"
	"github.com/sluicewal/sluice/internal/timeline"
)

// openStore opens an empty store.
func openStore(t *testing.T) *backup.Store {
	t.Helper()
	s, err := backup.Open(t.Context(), "file://"+t.TempDir(), backup.Config{Node: "a"})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// adopt makes a timeline's next life in a store.
func adopt(t *testing.T, s *backup.Store) *backup.Timeline {
	t.Helper()
	id, err := s.Adopt(t.Context(), "acme", "main", backup.Identity{
		Incarnation: uuid.NewString(), SystemID: systemID, SegmentSize: seg, Compression: backup.LZ4,
	}, true)
	must(t, err)
	return s.Timeline("acme", "main", id)
}

// upload stores WAL of TLI 1 that begins at start: whole segments, and the rest as an open one.
func upload(t *testing.T, tl *backup.Timeline, wal []byte) {
	t.Helper()
	n := seg.SegNo(start)
	for ; len(wal) >= mib; n++ {
		_, err := tl.PutSegment(t.Context(), 1, n, bytes.NewReader(wal[:mib]))
		must(t, err)
		wal = wal[mib:]
	}
	if len(wal) > 0 {
		_, err := tl.PutPartial(t.Context(), 1, n, seg.Start(n)+pg.LSN(len(wal)), bytes.NewReader(wal))
		must(t, err)
	}
}

func TestOpenStoredFindsTheNewestLife(t *testing.T) {
	s := openStore(t)
	if _, err := OpenStored(t.Context(), s, main1, ""); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, backup.ErrDeleted) {
		t.Errorf("where there was none: %v", err)
	}
	first := adopt(t, s)
	bury(t, first, true)
	if _, err := OpenStored(t.Context(), s, main1, ""); !errors.Is(err, backup.ErrDeleted) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("where the last one has ended: %v", err)
	}
	second := adopt(t, s)
	stored, err := OpenStored(t.Context(), s, main1, "")
	must(t, err)
	if stored.Identity() != second.Identity() {
		t.Errorf("got %+v, want %+v", stored.Identity(), second.Identity())
	}
	_, err = OpenStored(t.Context(), s, main1, second.Identity().Incarnation)
	must(t, err)
	if _, err := OpenStored(t.Context(), s, main1, first.Identity().Incarnation); !errors.Is(err, ErrOtherLife) {
		t.Errorf("for a life that has ended: %v", err)
	}
}

// TestStoredAnswers: whole segments are committed, an open one is not, and nothing contradicts anybody before the first.
func TestStoredAnswers(t *testing.T) {
	tl := adopt(t, openStore(t))
	stored := NewStored(tl)
	file := restore.File{TLI: 1, SegNo: 2, Size: seg}
	if a := stored.Answer(t.Context(), file); a.Err != nil || a.SystemID != 0 || a.History.TLI != 0 || len(a.Segments) != 0 {
		t.Errorf("of nothing: %+v", a)
	}
	w := source(start + mib + mib/2)
	upload(t, tl, w.Bytes())
	a := stored.Answer(t.Context(), file)
	if a.Err != nil || a.From != StoreName || a.SystemID != systemID || a.History.TLI != 1 || a.CommitLSN != start+mib || a.OldestLSN != start ||
		a.Segments[1] != w.End() || a.Qualified {
		t.Errorf("of an open segment: %+v", a)
	}
	_, err := tl.DecideSeal(t.Context(), backup.Seal{TLI: 1, End: w.End()})
	must(t, err)
	if a := stored.Answer(t.Context(), file); a.CommitLSN != start+mib || a.Seals[1] != w.End() {
		t.Errorf("sealed: %+v", a)
	}
}

// ask lets a member answer from its log and a store. A file that is local is to be closed.
func ask(t *testing.T, m *Member, store restore.Place, name string) restore.Found {
	t.Helper()
	found, err := m.find(t.Context(), WALRequest{File: name}, store)
	must(t, err)
	return found
}

// TestNodeServesWhatOnlyTheStoreHas (R4), and while the store is away, what is here.
func TestNodeServesWhatOnlyTheStoreHas(t *testing.T) {
	m := create(t, newHome(t).start(t), main1)
	w := source(start + 3*mib + mib/2) // the newest segments stay in any case
	receive(t, m, w, w.End())
	setQuorum(t, m, "a")
	tl := adopt(t, openStore(t))
	upload(t, tl, w.Bytes())
	stored, away := NewStored(tl), UnreachableStore(errTest)
	_, err := m.Seal(t.Context(), false)
	must(t, err)

	for _, store := range []restore.Place{stored, away} {
		if found := ask(t, m, store, segment1); found.Kind != restore.Present || found.From[0] != "node a" {
			t.Errorf("what is here: %+v", found.Decision)
		} else {
			found.Close() // a reader keeps it here
		}
	}
	_, _, err = m.Log().Remove(t.Context(), start+mib)
	must(t, err)
	found := ask(t, m, stored, segment1)
	if found.Kind != restore.Present || found.From[0] != StoreName {
		t.Fatalf("what is not here any more: %+v", found.Decision)
	}
	if b, err := io.ReadAll(found.Body); err != nil || !bytes.Equal(b, w.Bytes()[:mib]) {
		t.Errorf("it is not what was received: %v", err)
	}
	if found := ask(t, m, nil, segment1); found.Reason != restore.Removed {
		t.Errorf("without a store: %+v", found.Decision)
	}
	if found := ask(t, m, away, segment1); found.Kind != restore.Unknown || !found.Retry {
		t.Errorf("only the store has it, and is away: %+v", found.Decision)
	}
	for _, name := range []string{"000000010000000000000005", "00000002.history"} {
		if found := ask(t, m, stored, name); found.Kind != restore.Absent {
			t.Errorf("%s, by the word of both: %+v", name, found.Decision)
		}
		if found := ask(t, m, away, name); found.Kind != restore.Unknown || found.Reason != restore.NotEnough {
			t.Errorf("%s, with the store away: %+v", name, found.Decision)
		}
	}
}

// TestSealOnlyTheStoreKnows: another node sealed. Where a tail goes out by that, it is marked there.
func TestSealOnlyTheStoreKnows(t *testing.T) {
	_, _, m, w := keeping(t)
	tl := adopt(t, openStore(t))
	upload(t, tl, w.Bytes())
	_, err := tl.DecideSeal(t.Context(), backup.Seal{TLI: 1, End: w.End()})
	must(t, err)
	if found := ask(t, m, NewStored(tl), segment2); found.Kind != restore.Present || found.Tail != 1 {
		t.Errorf("got %+v", found.Decision)
	}
	if served, err := tl.TailServed(t.Context(), 1); err != nil || !served {
		t.Errorf("marked: %t, %v", served, err)
	}
}

// TestStoreThatIsAnother does not say that something does not exist: a bucket that was made anew has nothing, either.
func TestStoreThatIsAnother(t *testing.T) {
	dir := t.TempDir()
	s, err := backup.Open(t.Context(), "file://"+dir, backup.Config{Node: "a"})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	stored := NewStored(adopt(t, s))
	must(t, os.Remove(filepath.Join(dir, "sluice.json")))
	if a := stored.Answer(t.Context(), restore.File{TLI: 2, History: true}); !errors.Is(a.Err, backup.ErrNoBucket) {
		t.Errorf("got %+v", a)
	}
	if _, err := OpenStored(t.Context(), s, timeline.ID{Tenant: "acme", Name: "other"}, ""); !errors.Is(err, backup.ErrNoBucket) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// bury ends a life in object storage.
func bury(t *testing.T, tl *backup.Timeline, keepObjects bool) {
	t.Helper()
	_, err := tl.Bury(t.Context(), keepObjects)
	must(t, err)
}
