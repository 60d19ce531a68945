package restore_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/restore"
)

// storageInMemory is a place in memory whose segments say who stored them, and that counts how many were opened.
type storageInMemory struct {
	*memory
	opened int
}

func (s *storageInMemory) OpenSegment(ctx context.Context, tli pg.TLI, n pg.SegNo) (restore.Segment, error) {
	s.opened++
	seg, err := s.memory.OpenSegment(ctx, tli, n)
	if err != nil {
		return nil, err
	}
	return storedSegment{seg}, nil
}

type storedSegment struct{ restore.Segment }

func (storedSegment) StoredBy() (node string, at time.Time) {
	return "a", time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
}

// findLossy asks object storage alone, and accepts loss.
func findLossy(t *testing.T, n pg.SegNo, s *storageInMemory) restore.Found {
	t.Helper()
	req := segment(1, n)
	req.AcceptDataLoss = true
	return restore.Find(t.Context(), req, nil, s, restore.Quorum{Required: 1})
}

// stored keeps WAL whose last segment is open.
func stored(t *testing.T, start pg.LSN, wal []byte) *storageInMemory {
	t.Helper()
	m := newMemory("store")
	m.keep(1, start, wal)
	m.says.OldestLSN = start
	m.says.CommitLSN = small.StartOf(start + pg.LSN(len(wal)))
	t.Cleanup(func() {
		if m.open != 0 {
			t.Errorf("%d segments were not closed", m.open)
		}
	})
	return &storageInMemory{memory: m}
}

// TestOpenSegmentIsCutToItsRecords, wherever the copy of it ends; a record that is not complete is not handed out.
func TestOpenSegmentIsCutToItsRecords(t *testing.T) {
	w := writer()
	fill(w, small.Start(2)+pg.LSN(small/2))
	first := w.Record(2000)
	second := w.Record(5000)
	for _, c := range []struct{ open, end pg.LSN }{
		{second.End, second.End}, {second.End - 1, first.End}, {first.End + 1, first.End}, {first.End, first.End},
	} {
		s := stored(t, w.Start(), w.Bytes()[:c.open-w.Start()])
		found := findLossy(t, 2, s)
		got := content(t, found)
		kept := int(c.end - small.Start(2))
		if !bytes.Equal(got[:kept], w.Bytes()[small:][:kept]) || len(bytes.Trim(got[kept:], "\x00")) > 0 {
			t.Errorf("stored up to %s: it does not end at %s", c.open, c.end)
		}
		if want := "WAL ends at " + c.end.String() + ", as node a stored it at 2026-03-01T12:00:00Z"; !strings.Contains(found.Text, want) || !found.Loss {
			t.Errorf("it says %q, want %q", found.Text, want)
		}
	}
}

// TestOpenSegmentWithoutARecord is as good as none: what is in it is the middle of a record.
func TestOpenSegmentWithoutARecord(t *testing.T) {
	w := writer()
	fill(w, small.Start(1)+pg.LSN(small/2))
	w.Record(int(small)) // into segment 2
	s := stored(t, w.Start(), w.Bytes()[:small+9000])
	if found := findLossy(t, 2, s); found.Kind != restore.Absent || !found.Loss || !strings.Contains(found.Text, "no record is complete") {
		t.Errorf("%v (%s): %s", found.Kind, found.Reason, found.Text)
	}
	s = stored(t, w.Start(), w.Bytes()[:w.End()-w.Start()])
	if got := content(t, findLossy(t, 2, s)); !bytes.HasPrefix(got, w.Bytes()[small:]) {
		t.Error("the end of a record that began below is not there")
	}
}

// TestStoredSegmentIsFetchedAlone: those beside it would triple what a restore brings. Its own records are verified.
func TestStoredSegmentIsFetchedAlone(t *testing.T) {
	w := writer()
	fill(w, small.Start(4))
	s := stored(t, w.Start(), w.Bytes())
	content(t, findLossy(t, 2, s))
	if s.opened != 1 {
		t.Errorf("%d segments were opened", s.opened)
	}
	s.bytes(1, 2)[small/2] ^= 1
	if found := findLossy(t, 2, s); found.Reason != restore.Damaged {
		t.Errorf("a flipped bit: %v (%s): %s", found.Kind, found.Reason, found.Text)
	}
}
