package backup_test

import (
	"testing"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
)

func wantBackupLSN(t *testing.T, tl *backup.Timeline, h pg.History, from, want pg.LSN) {
	t.Helper()
	got, err := tl.BackupLSN(t.Context(), h, from)
	if err != nil || got != want {
		t.Errorf("from %s the backup LSN is %s, %v; want %s", from, got, err, want)
	}
}

// TestBackupLSNIsAnUnbrokenRun: a hole ends it, however much is above; nothing but the store is needed.
func TestBackupLSNIsAnUnbrokenRun(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		s := p.node(t, backup.Config{Node: "a"})
		tl := newTimeline(t, s, backup.Zstd)
		h := pg.History{TLI: 1}
		wantBackupLSN(t, tl, h, 0, 0)
		wantBackupLSN(t, tl, h, 5<<20, 5<<20)
		for _, n := range []pg.SegNo{5, 6, 8, 9} {
			put(t, tl, 1, n)
		}
		wantBackupLSN(t, tl, h, 5<<20, 7<<20)
		wantBackupLSN(t, tl, h, 0, 7<<20)
		wantBackupLSN(t, tl, h, 8<<20, 10<<20)
		wantBackupLSN(t, tl, h, 3<<20, 3<<20)
		put(t, tl, 1, 7)
		wantBackupLSN(t, tl, h, 5<<20, 10<<20)
		must(t, s.Remove(t.Context(), tl.SegmentKey(1, 6)))
		wantBackupLSN(t, tl, h, 5<<20, 6<<20)
	})
}

// TestBackupLSNFollowsThePromotion: where a TLI was left, the child has the segment whole; the parent's stays open.
func TestBackupLSNFollowsThePromotion(t *testing.T) {
	tl := newTimeline(t, memPlace(t).node(t, backup.Config{Node: "a"}), backup.Zstd)
	h, err := pg.ParseHistory(2, []byte("1\t0/780000\tx\n")) // in segment 7
	must(t, err)
	for _, n := range []pg.SegNo{5, 6, 7, 8} {
		put(t, tl, 1, n)
	}
	wantBackupLSN(t, tl, h, 0, 7<<20)
	put(t, tl, 2, 7)
	wantBackupLSN(t, tl, h, 0, 8<<20)
	put(t, tl, 2, 8)
	wantBackupLSN(t, tl, h, 0, 9<<20)
}

func TestForeignObjectsAreNamed(t *testing.T) {
	s := memPlace(t).node(t, backup.Config{Node: "a"})
	tl := newTimeline(t, s, backup.Zstd)
	put(t, tl, 1, 5)
	for _, key := range []string{"wal/README", "wal/000000010000000000000006", "wal/000000010000000000000006.lz4", "wal/partial/x", "wal/00000001000000000000000G.zst"} {
		must(t, s.Put(t.Context(), tl.Prefix()+key, []byte("x")))
	}
	l, err := tl.List(t.Context())
	if err != nil || len(l.Segments) != 1 || len(l.Quarantined) != 5 {
		t.Errorf("listed is %+v, %v", l, err)
	}
}

func TestSurvey(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		tl := newTimeline(t, p.node(t, backup.Config{Node: "a"}), backup.Zstd)
		s, err := tl.SurveySegment(t.Context(), 5)
		if err != nil || s.History.TLI != 0 || len(s.Segments) != 0 {
			t.Errorf("of nothing: %+v, %v", s, err)
		}
		for n := pg.SegNo(5); n < 9; n++ {
			put(t, tl, 1, n)
		}
		s, err = tl.SurveySegment(t.Context(), 6)
		if err != nil || s.History.TLI != 1 || s.Segments[1] != 7<<20 || s.WholeEnd < 7<<20 {
			t.Errorf("of one in the middle: %+v, %v", s, err)
		}
		_, err = tl.PutPartial(t.Context(), 1, 9, 9<<20+100, source(segment(9)))
		must(t, err)
		s, err = tl.SurveySegment(t.Context(), 9)
		if err != nil || s.Segments[1] != 9<<20+100 || s.WholeEnd != 9<<20 || s.Oldest != 5<<20 {
			t.Errorf("of the open one: %+v, %v", s, err)
		}
		s, err = tl.SurveySegment(t.Context(), 10)
		if err != nil || len(s.Segments) != 0 || s.WholeEnd != 9<<20 {
			t.Errorf("of one above: %+v, %v", s, err)
		}

		must(t, tl.Claim(t.Context(), backup.Claim{TLI: 2, History: []byte("1\t0/900050\tx\n"), Record: []byte("r")}))
		_, err = tl.DecideSeal(t.Context(), backup.Seal{TLI: 1, End: 9<<20 + 80})
		must(t, err)
		s, err = tl.SurveySegment(t.Context(), 9)
		if err != nil || s.History.TLI != 2 || s.Seals[1] != 9<<20+80 || s.Segments[1] != 9<<20+100 || s.Segments[2] != 0 {
			t.Errorf("of the parent's last: %+v, %v", s, err)
		}
		put(t, tl, 2, 9)
		s, err = tl.SurveySegment(t.Context(), 9)
		if err != nil || s.Segments[1] != 9<<20+100 || s.Segments[2] != 10<<20 {
			t.Errorf("of the child's first: %+v, %v", s, err)
		}
		for tli, want := range map[pg.TLI]bool{2: true, 3: false} {
			if s, err := tl.SurveyHistory(t.Context(), tli); err != nil || s.HasHistory != want || s.History.TLI != 2 {
				t.Errorf("of the history of TLI %d: %+v, %v", tli, s, err)
			}
		}
	})
}

// TestTimelineThatBeganOnALaterTLI: a cluster was promoted before Sluice saw it.
func TestTimelineThatBeganOnALaterTLI(t *testing.T) {
	tl := newTimeline(t, memPlace(t).node(t, backup.Config{Node: "a"}), backup.Zstd)
	put(t, tl, 2, 21)
	if s, err := tl.SurveySegment(t.Context(), 21); err == nil {
		t.Errorf("without its history: %+v", s)
	}
	must(t, tl.PutHistory(t.Context(), 2, []byte(forked)))
	for _, n := range []pg.SegNo{21, 22} {
		s, err := tl.SurveySegment(t.Context(), n)
		if err != nil || s.History.TLI != 2 || s.WholeEnd != 22<<20 {
			t.Errorf("segment %d: %+v, %v", n, s, err)
		}
	}
}

func TestTrim(t *testing.T) {
	withEach(t, func(t *testing.T, _ *backup.Store, tl *backup.Timeline) {
		for n := pg.SegNo(5); n < 9; n++ {
			put(t, tl, 1, n)
		}
		must(t, tl.PutHistory(t.Context(), 2, []byte(forked)))
		_, err := tl.PutPartial(t.Context(), 1, 4, 4<<20+100, source(segment(4)))
		must(t, err)
		n, bytes, err := tl.Trim(t.Context(), 7)
		if err != nil || n != 2 || bytes == 0 {
			t.Errorf("%d segments, %d bytes, %v", n, bytes, err)
		}
		l, err := tl.List(t.Context())
		if err != nil || len(l.Segments) != 2 || l.Segments[0].SegNo != 7 || len(l.Partials) != 0 || len(l.Histories) != 1 {
			t.Errorf("left is %+v, %v", l, err)
		}
		wantBackupLSN(t, tl, pg.History{TLI: 1}, 0, 9<<20)
	})
}
