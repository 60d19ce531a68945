package replication

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicewal/sluice/internal/pg"
)

// act is one thing that a source does.
type act struct {
	wal   int           // so many bytes, in one message
	cut   int           // of the message, sent beforehand, with a pause between
	reply bool          // a keepalive that wants an answer
	wait  time.Duration // before the next
}

func drawActs(t *rapid.T) []act {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) act {
		return act{
			wal:   rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(0, 2*mib)).Draw(t, "wal"),
			cut:   rapid.IntRange(0, 400).Draw(t, "cut"),
			reply: rapid.Bool().Draw(t, "reply"),
			wait:  time.Duration(rapid.IntRange(0, 3000).Draw(t, "wait")) * time.Millisecond,
		}
	}), 1, 12).Draw(t, "acts")
}

// Whatever the source does and however long the disk takes: a position that is reported was returned by a sync before, none is
// lower than the one before, the source waits for no word longer than its timeout, and all is acknowledged in the end.
func TestReportsOnlyWhatASyncReturned(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		acts := drawActs(rt)
		delays := rapid.SliceOfN(rapid.IntRange(0, 2500), 1, 8).Draw(rt, "sync delays in ms")
		held := pg.LSN(rapid.SampledFrom([]int{0, 40, 8192, mib - 8}).Draw(rt, "held"))
		var failure error
		synctest.Test(t, func(t *testing.T) { failure = checkReports(t, acts, delays, held) })
		if failure != nil {
			rt.Fatal(failure)
		}
	})
}

func checkReports(t *testing.T, acts []act, delays []int, held pg.LSN) error {
	f, sink := newFakeSource(t), holding(base+held)
	f.flush = base + held
	syncs := 0
	sink.onSync = func() error {
		time.Sleep(time.Duration(delays[syncs%len(delays)]) * time.Millisecond)
		syncs++
		return nil
	}
	end := base
	f.stream = func(s *fakeStream) {
		s.begin()
		s.play(&end, held, acts)
		for h := range s.heard {
			if h.status.flush == end {
				break
			}
		}
		s.send(otherMessage('C', "COPY 0\x00"))
	}
	r, err := NewReceiver(f.config(), sink)
	must(t, err)
	err = r.Run(t.Context())
	f.end()
	if !errors.Is(err, ErrSourceShutdown) {
		return err
	}
	return checkSaid(f.said, sink)
}

// play does the acts, after it has sent what the client holds. It moves end.
func (s *fakeStream) play(end *pg.LSN, held pg.LSN, acts []act) {
	acts = append([]act{{wal: int(held)}}, acts...)
	for _, a := range acts {
		m := walMessage(*end, *end+pg.LSN(a.wal), zeros(a.wal))
		cut := min(a.cut, len(m))
		s.send(m[:cut])
		time.Sleep(a.wait / 2)
		s.send(m[cut:])
		*end += pg.LSN(a.wal)
		if a.reply {
			s.send(keepaliveMessage(*end, 1))
		}
		time.Sleep(a.wait / 2)
	}
}

func checkSaid(said []heard, sink *memSink) error {
	var last heard
	for _, h := range said {
		if h.typ != 'd' {
			continue
		}
		if flush := h.status.flush; flush != 0 && !slices.Contains(sink.synced(), flush) {
			return fmt.Errorf("reported %s; the syncs returned %v", flush, sink.synced())
		}
		if h.status.flush < last.status.flush {
			return fmt.Errorf("reported %s after %s", h.status.flush, last.status.flush)
		}
		if h.status.write != h.status.flush || h.status.apply != 0 {
			return fmt.Errorf("reported %+v", h.status)
		}
		last = h
	}
	return nil
}
