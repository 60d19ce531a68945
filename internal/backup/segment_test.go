package backup_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
)

// TestBytesComeBack (U8).
func TestBytesComeBack(t *testing.T) {
	withEach(t, func(t *testing.T, _ *backup.Store, tl *backup.Timeline) {
		u := put(t, tl, 1, 7)
		if !u.Created || u.Partial || u.Raw != int64(mib) || u.Stored == 0 || u.TLI != 1 || u.SegNo != 7 {
			t.Errorf("%+v", u)
		}
		if got, end := content(t, tl, 1, 7); !bytes.Equal(got, segment(7)) || end != 8<<20 {
			t.Errorf("%d bytes up to %s", len(got), end)
		}
		if u := put(t, tl, 1, 7); u.Created {
			t.Error("the same bytes were created twice")
		}
		_, err := tl.OpenSegment(t.Context(), 1, 8)
		wantNotExist(t, err)
		_, err = tl.OpenSegment(t.Context(), 2, 7)
		wantNotExist(t, err)
	})
}

// TestNothingIsOverwritten: other bytes are an alarm.
func TestNothingIsOverwritten(t *testing.T) {
	withEach(t, func(t *testing.T, s *backup.Store, tl *backup.Timeline) {
		var told []*backup.ConflictError
		s.SetEvents(backup.Events{Conflict: func(_ context.Context, c *backup.ConflictError) { told = append(told, c) }})
		put(t, tl, 1, 7)
		_, err := tl.PutSegment(t.Context(), 1, 7, source(segment(8)))
		var conflict *backup.ConflictError
		if !errors.As(err, &conflict) || len(told) != 1 {
			t.Errorf("got %v, told %v", err, told)
		}
		if got, _ := content(t, tl, 1, 7); !bytes.Equal(got, segment(7)) {
			t.Error("it was overwritten")
		}
	})
}

func TestShortSourceStoresNothing(t *testing.T) {
	withEach(t, func(t *testing.T, _ *backup.Store, tl *backup.Timeline) {
		if _, err := tl.PutSegment(t.Context(), 1, 7, source(segment(7)[:mib-1])); err == nil {
			t.Error("it was stored")
		}
		if keys, err := tl.Keys(t.Context(), ""); err != nil || len(keys) != 0 {
			t.Errorf("there are %v, %v", keys, err)
		}
	})
}

// damages are what happens to objects.
var damages = map[string]func(good, other []byte) []byte{
	"empty":               func(_, _ []byte) []byte { return nil },
	"half":                func(good, _ []byte) []byte { return good[:len(good)/2] },
	"a byte less":         func(good, _ []byte) []byte { return good[:len(good)-1] },
	"a byte more":         func(good, _ []byte) []byte { return append(bytes.Clone(good), 0) },
	"twice":               func(good, _ []byte) []byte { return append(bytes.Clone(good), good...) },
	"first bit flipped":   func(good, _ []byte) []byte { return flip(good, 0) },
	"label's length":      func(good, _ []byte) []byte { return flip(good, 5) },
	"label's digest":      func(good, _ []byte) []byte { return flip(good, 40) },
	"bit in the middle":   func(good, _ []byte) []byte { return flip(good, len(good)/2) },
	"last bit flipped":    func(good, _ []byte) []byte { return flip(good, len(good)-1) },
	"another segment":     func(_, other []byte) []byte { return other },
	"nothing of Sluice's": func(_, _ []byte) []byte { return bytes.Repeat([]byte("x"), int(mib)) },
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// TestDamagedObjectsAreErrors (U8, O4): none comes back as WAL, none counts as there, and none is touched.
func TestDamagedObjectsAreErrors(t *testing.T) {
	withEach(t, func(t *testing.T, s *backup.Store, tl *backup.Timeline) {
		put(t, tl, 1, 7)
		put(t, tl, 1, 8)
		key := tl.SegmentKey(1, 7)
		good, err := s.ReadAll(t.Context(), key)
		must(t, err)
		other, err := s.ReadAll(t.Context(), tl.SegmentKey(1, 8))
		must(t, err)
		for name, damage := range damages {
			t.Run(name, func(t *testing.T) {
				bad := damage(good, other)
				must(t, s.Put(t.Context(), key, bad))
				_, err := tl.OpenSegment(t.Context(), 1, 7)
				wantDamaged(t, err)
				if survey, err := tl.SurveySegment(t.Context(), 7); err != nil || survey.Segments[1] != 0 || survey.WholeEnd != 9<<20 {
					t.Errorf("the store says %+v, %v", survey, err)
				}
				if survey, err := tl.SurveySegment(t.Context(), 7); err != nil || survey.Damaged[1] == nil || len(survey.Damaged) != 1 {
					t.Errorf("damaged are %+v, %v", survey.Damaged, err)
				}
				if lsn, err := tl.BackupLSN(t.Context(), pg.History{TLI: 1}, 7<<20); err != nil || lsn != 7<<20 {
					t.Errorf("backup LSN %s, %v", lsn, err)
				}
				if l, err := tl.List(t.Context()); err != nil || len(l.Segments) != 1 || len(l.Quarantined) != 1 {
					t.Errorf("listed is %+v, %v", l, err)
				}
				if now, err := s.ReadAll(t.Context(), key); err != nil || !bytes.Equal(now, bad) {
					t.Errorf("it was changed: %v", err)
				}
			})
		}
		must(t, s.Put(t.Context(), key, good))
		content(t, tl, 1, 7)
		if n := len(tl.Damaged()); n != 0 {
			t.Errorf("put right, %d are in quarantine", n)
		}
	})
}

// TestHalfAnObjectIsNoSegment: what an upload that was cut may have left says the same of itself as the whole.
func TestHalfAnObjectIsNoSegment(t *testing.T) {
	withEach(t, func(t *testing.T, s *backup.Store, tl *backup.Timeline) {
		put(t, tl, 1, 7)
		good, err := s.ReadAll(t.Context(), tl.SegmentKey(1, 7))
		must(t, err)
		must(t, s.Put(t.Context(), tl.SegmentKey(1, 7), good[:len(good)-1]))
		_, err = tl.PutSegment(t.Context(), 1, 7, source(segment(7)))
		if conflict := new(backup.ConflictError); !errors.As(err, &conflict) {
			t.Errorf("got %v", err)
		}
	})
}

// TestObjectOfAnotherCluster: a bucket that was copied together from two.
func TestObjectOfAnotherCluster(t *testing.T) {
	s := memPlace(t).node(t, backup.Config{Node: "a"})
	tl := newTimeline(t, s, backup.Zstd)
	id := identity(backup.Zstd)
	id.SystemID++
	other := s.Timeline("x", "y", id)
	put(t, other, 1, 7)
	b, err := s.ReadAll(t.Context(), other.SegmentKey(1, 7))
	must(t, err)
	must(t, s.Put(t.Context(), tl.SegmentKey(1, 7), b))
	_, err = tl.OpenSegment(t.Context(), 1, 7)
	wantDamaged(t, err)
}

// TestObjectsAreReadByOthers: an archive must not need Sluice to be read.
func TestObjectsAreReadByOthers(t *testing.T) {
	for compression, command := range map[backup.Compression][]string{
		backup.Zstd: {"zstd", "-dc"}, backup.LZ4: {"lz4", "-dc"}, backup.None: {"cat"},
	} {
		t.Run(string(compression), func(t *testing.T) {
			if _, err := exec.LookPath(command[0]); err != nil {
				t.Skipf("%s is not installed", command[0])
			}
			dir := t.TempDir()
			tl := newTimeline(t, open(t, "file://"+dir, backup.Config{}), compression)
			put(t, tl, 1, 7)
			file := filepath.Join(dir, tl.SegmentKey(1, 7))
			got, err := exec.CommandContext(t.Context(), command[0], append(command[1:], file)...).Output()
			if err != nil || !bytes.Equal(got, segment(7)) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if compression != backup.None {
				return
			}
			check := exec.CommandContext(t.Context(), "sha256sum", "-c", file+".sha256")
			check.Dir = filepath.Dir(file)
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("%s, %v", out, err)
			}
		})
	}
}

// TestLargeSegment does not fit into the memory that an upload may take.
func TestLargeSegment(t *testing.T) {
	const size = 128 << 20
	t.Setenv("TMPDIR", t.TempDir())
	s := open(t, "file://"+t.TempDir(), backup.Config{})
	id := identity(backup.None)
	id.SegmentSize = size
	tl := s.Timeline("t", "l", id)
	want := bytes.Repeat(segment(1), size/int(mib))
	_, err := tl.PutSegment(t.Context(), 1, 1, source(want))
	must(t, err)
	if got, _ := content(t, tl, 1, 1); !bytes.Equal(got, want) {
		t.Error("other bytes came back")
	}
	left, err := os.ReadDir(os.TempDir())
	if err != nil || len(left) != 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestHistories(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		s := p.node(t, backup.Config{Node: "a"})
		tl := newTimeline(t, s, backup.Zstd)
		_, err := tl.History(t.Context(), 2)
		wantNotExist(t, err)
		must(t, tl.PutHistory(t.Context(), 2, []byte(forked)))
		must(t, tl.PutHistory(t.Context(), 2, []byte(forked)))
		err = tl.PutHistory(t.Context(), 2, []byte("1\t0/1400000\tx\n"))
		if conflict := new(backup.ConflictError); !errors.As(err, &conflict) {
			t.Errorf("another history: %v", err)
		}
		if raw, err := tl.History(t.Context(), 2); err != nil || string(raw) != forked {
			t.Errorf("%q, %v", raw, err)
		}
		must(t, s.Put(t.Context(), tl.Prefix()+"wal/00000002.history", []byte("nonsense\n")))
		_, err = tl.History(t.Context(), 2)
		wantDamaged(t, err)
	})
}
