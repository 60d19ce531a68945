package backup_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
)

const segStart = 7 << 20 // of the open segment in these tests

func putPartial(t *testing.T, tl *backup.Timeline, end pg.LSN) {
	t.Helper()
	_, err := tl.PutPartial(t.Context(), 1, 7, end, source(segment(7)))
	must(t, err)
}

func partials(t *testing.T, tl *backup.Timeline) []string {
	t.Helper()
	all, err := tl.Partials(t.Context())
	must(t, err)
	var names []string
	for _, p := range all {
		names = append(names, fmt.Sprintf("%d/%d %s %s", p.TLI, p.SegNo, p.End, p.Node))
	}
	return names
}

// TestOpenSegmentGrows (P1): the newest is handed out, the older goes.
func TestOpenSegmentGrows(t *testing.T) {
	withEach(t, func(t *testing.T, _ *backup.Store, tl *backup.Timeline) {
		for _, end := range []pg.LSN{segStart + 8192, segStart + 8193, segStart + 700_000} {
			putPartial(t, tl, end)
			putPartial(t, tl, end)
			if got := partials(t, tl); !slices.Equal(got, []string{fmt.Sprintf("1/7 %s a", end)}) {
				t.Errorf("there are %v", got)
			}
			got, reached := content(t, tl, 1, 7)
			if reached != end || !bytes.Equal(got, segment(7)[:end-segStart]) {
				t.Errorf("%d bytes up to %s", len(got), reached)
			}
		}
		put(t, tl, 1, 7)
		if got, end := content(t, tl, 1, 7); end != segStart+1<<20 || len(got) != int(mib) {
			t.Errorf("the whole one is there, and %d bytes up to %s came back", len(got), end)
		}
		must(t, tl.CleanPartials(t.Context()))
		keys, err := tl.Keys(t.Context(), "wal/partial/")
		if err != nil || len(keys) != 0 {
			t.Errorf("left are %v, %v", keys, err)
		}
	})
}

// TestNodesKeepTheirOwnPartials: each has what it has; the one that reaches farthest is handed out.
func TestNodesKeepTheirOwnPartials(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		a, b := p.node(t, backup.Config{Node: "a"}), p.node(t, backup.Config{Node: "b"})
		ta := newTimeline(t, a, backup.Zstd)
		tb := b.Timeline(ta.Prefix()[:36], "main", ta.Identity())
		putPartial(t, ta, segStart+500)
		putPartial(t, tb, segStart+400)
		putPartial(t, tb, segStart+450)
		if got := partials(t, ta); len(got) != 2 {
			t.Errorf("there are %v", got)
		}
		if _, end := content(t, tb, 1, 7); end != segStart+500 {
			t.Errorf("the newest ends at %s", end)
		}
		newest, err := ta.NewestPartial(t.Context(), 1, 7)
		if err != nil || newest.Node != "a" || newest.End != segStart+500 {
			t.Errorf("newest is %+v, %v", newest, err)
		}
		_, err = ta.NewestPartial(t.Context(), 2, 7)
		wantNotExist(t, err)
	})
}

// TestCrashBetweenStepsLeavesAGoodPartial (O5): after each operation on the store.
func TestCrashBetweenStepsLeavesAGoodPartial(t *testing.T) {
	const before, after = segStart + 1000, segStart + 2000
	everywhere(t, func(t *testing.T, p place) {
		for _, c := range []backup.Compression{backup.Zstd, backup.None} {
			crashes := 0
			for n := 1; ; n++ {
				tl := newTimeline(t, p.node(t, backup.Config{Node: "a"}), c)
				putPartial(t, tl, before)
				ctx, s := crashAfter(t, p, "a", n)
				crashed := s.Timeline(tl.Prefix()[:36], "main", tl.Identity())
				_, err := crashed.PutPartial(ctx, 1, 7, after, source(segment(7)))
				got, end := content(t, tl, 1, 7)
				if !bytes.Equal(got, segment(7)[:end-segStart]) || end != before && end != after {
					t.Fatalf("%s, crash %d: %d bytes up to %s", c, n, len(got), end)
				}
				putPartial(t, tl, after)
				if left := partials(t, tl); len(left) != 1 {
					t.Fatalf("%s, crash %d: the next one left %v", c, n, left)
				}
				if err == nil {
					break
				}
				if crashes++; !errors.Is(err, errCrash) {
					t.Fatalf("%s, crash %d: %v", c, n, err)
				}
			}
			if crashes < 4 {
				t.Errorf("%s: only %d crashes", c, crashes)
			}
		}
	})
}

func TestPartialsThatCannotBe(t *testing.T) {
	tl := newTimeline(t, memPlace(t).node(t, backup.Config{Node: "a"}), backup.Zstd)
	for _, end := range []pg.LSN{0, segStart, segStart - 1, segStart + 1<<20 + 1} {
		if _, err := tl.PutPartial(t.Context(), 1, 7, end, source(segment(7))); err == nil {
			t.Errorf("one that ends at %s was stored", end)
		}
	}
}

// TestDamagedPartialIsPassedOver: an older one of another node is better than none.
func TestDamagedPartialIsPassedOver(t *testing.T) {
	a := memPlace(t).node(t, backup.Config{Node: "a"})
	ta := newTimeline(t, a, backup.Zstd)
	tb := a.Peer(backup.Config{Node: "b"}).Timeline(ta.Prefix()[:36], "main", ta.Identity())
	putPartial(t, ta, segStart+500)
	putPartial(t, tb, segStart+400)
	keys, err := ta.Keys(t.Context(), "wal/partial/")
	must(t, err)
	must(t, a.Put(t.Context(), ta.Prefix()+keys[1], []byte("nonsense")))
	if got, end := content(t, ta, 1, 7); end != segStart+400 || len(got) != 400 {
		t.Errorf("%d bytes up to %s", len(got), end)
	}
	if n := len(ta.Damaged()); n != 1 {
		t.Errorf("%d are in quarantine", n)
	}
}

// TestOpenSegmentSaysFromWhenItIs: whoever restores from it gives up what came later.
func TestOpenSegmentSaysFromWhenItIs(t *testing.T) {
	withEach(t, func(t *testing.T, _ *backup.Store, tl *backup.Timeline) {
		before := time.Now().Truncate(time.Second)
		putPartial(t, tl, segStart+8192)
		s, err := tl.OpenSegment(t.Context(), 1, 7)
		must(t, err)
		defer func() { must(t, s.Close()) }()
		if node, at := s.StoredBy(); node != "a" || at.Before(before) || at.After(time.Now().Add(time.Second)) {
			t.Errorf("stored by %q at %v", node, at)
		}
	})
}
