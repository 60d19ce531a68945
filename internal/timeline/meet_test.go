package timeline_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// otherLife is a life that no timeline here has.
const otherLife timeline.Incarnation = "0195e7a0-0000-7000-8000-000000000001"

// met is what object storage says of a life: it has objects up to a position, and a seal.
func met(life timeline.Incarnation) timeline.Meeting {
	return timeline.Meeting{
		Incarnation: life, SystemID: systemID, SegmentSize: seg, StoreID: "x", Compression: "none",
		Backup: position(1, start+5*mib), Newest: pg.History{TLI: 1}, Seals: []timeline.Seal{{TLI: 1, End: start + 5*mib + 100}},
	}
}

// TestMeetTakesNothingOfAnotherLife: only a timeline that neither holds WAL nor has met any life takes over who it is. Of another life
// nothing is taken, not its seals either: they would end what this one may receive.
func TestMeetTakesNothingOfAnotherLife(t *testing.T) {
	for _, c := range []struct {
		name     string
		holds    bool // WAL
		before   bool // it has met its own life
		life     timeline.Incarnation
		store    string
		want     error
		takeover bool
	}{
		{name: "nothing held, nothing met", life: otherLife, store: "x", takeover: true},
		{name: "nothing held, its own life met", before: true, life: otherLife, store: "x", want: timeline.ErrIncarnation},
		{name: "WAL held, nothing met", holds: true, life: otherLife, store: "x", want: timeline.ErrIncarnation},
		{name: "WAL held, its own life met", holds: true, before: true, life: otherLife, store: "x", want: timeline.ErrIncarnation},
		{name: "WAL held, and it is its own life", holds: true, store: "x"},
		{name: "its own life, in another store", before: true, store: "y", want: timeline.ErrOtherStore},
		{name: "another life, in another store", before: true, life: otherLife, store: "y", want: timeline.ErrOtherStore},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := crashfs.New()
			tl := create(t, fsys)
			own := tl.Control().Incarnation
			if c.holds {
				w := source(1000, start+50_000)
				receive(t, tl, w, w.End())
			}
			if c.before {
				must(t, tl.Meet(t.Context(), timeline.Meeting{Incarnation: own, SystemID: systemID, SegmentSize: seg, StoreID: "x", Compression: "none"}))
			}
			before := *tl.Control()
			m := met(c.life)
			if c.life == "" {
				m.Incarnation = own
			}
			m.StoreID = c.store
			err := tl.Meet(t.Context(), m)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("met: %v, want %v", err, c.want)
			}
			got := *tl.Control()
			if c.want != nil {
				if !reflect.DeepEqual(got, before) {
					t.Errorf("refused, and taken: %+v", got)
				}
				return
			}
			if want := m.Incarnation; got.Incarnation != want || (got.Incarnation == own) == c.takeover {
				t.Errorf("it is %s, want %s", got.Incarnation, want)
			}
			if _, sealed := got.SealOf(1); !sealed || got.Stored == nil || got.Stored.StoreID != "x" {
				t.Errorf("it has taken %+v", got)
			}
			if on := control(t, fsys.Restart(crashfs.Survivors{})); on.Incarnation != got.Incarnation || len(on.Seals) != 1 {
				t.Errorf("durable is %+v", on)
			}
		})
	}
}

// TestGoOnIsOfTheSameLife: another life under the name is not the one that ended here, and a life that did not end does not come back.
func TestGoOnIsOfTheSameLife(t *testing.T) {
	w := source(1000, start+50_000)
	tl, fsys := received(t, w, w.End())
	own := tl.Control().Incarnation
	back := met(own)
	back.Revived, back.Seals = 1, nil
	if err := tl.GoOn(t.Context(), back); !errors.Is(err, timeline.ErrIncarnation) {
		t.Errorf("it has not ended, and goes on: %v", err)
	}
	must(t, tl.End(t.Context(), timeline.Ended{By: "b", Next: otherLife}, 0))
	must(t, tl.End(t.Context(), timeline.Ended{By: "c"}, 0)) // it ended once
	if by := tl.Control().Ended.By; by != "b" {
		t.Errorf("ended by %s", by)
	}
	if err := tl.GoOn(t.Context(), met(otherLife)); !errors.Is(err, timeline.ErrIncarnation) || tl.Control().Ended == nil || tl.Control().Incarnation != own {
		t.Errorf("another life goes on as this one: %v, %+v", err, tl.Control())
	}
	must(t, tl.GoOn(t.Context(), back))
	if c := control(t, fsys.Restart(crashfs.Survivors{})); c.Ended != nil || c.Revived != 1 || c.Incarnation != own || len(c.Seals) != 0 {
		t.Errorf("durable is %+v", c)
	}
}

// TestSealOfflineOfAnEndedLife: it was deleted elsewhere, and this disk may be all that is left of it. It is sealed at its end as any
// other, and stays ended.
func TestSealOfflineOfAnEndedLife(t *testing.T) {
	dataDir, end := deadNode(t, "a")
	cfg := diskConfig(dataDir)
	tl, err := timeline.Open(t.Context(), cfg, id)
	must(t, err)
	must(t, tl.End(t.Context(), timeline.Ended{By: "b", Kept: true}, 0))
	must(t, tl.Shutdown(t.Context(), errStop))

	for range 2 {
		res, err := timeline.SealOffline(t.Context(), dataDir, "a", id, false)
		must(t, err)
		if res.TLI != 1 || res.End != end {
			t.Errorf("got %+v, want the end %s", res, end)
		}
	}
	again, err := timeline.Open(t.Context(), cfg, id)
	must(t, err)
	c := again.Control()
	if s, ok := c.SealOf(1); !ok || !s.TailServed || s.End != end || c.Ended == nil || c.Ended.By != "b" {
		t.Errorf("the directory says %+v", c)
	}
	if state, why := again.State(); state != timeline.StateStopped || !errors.Is(why, timeline.ErrEnded) || !strings.Contains(why.Error(), "node b deleted it") {
		t.Errorf("it is %s: %v", state, why)
	}
	must(t, again.Shutdown(t.Context(), errStop))
}
