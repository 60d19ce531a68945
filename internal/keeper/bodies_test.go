package keeper

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

func TestRemovalHorizon(t *testing.T) {
	for name, c := range map[string]struct {
		persisted   pg.LSN
		local, keep int64
		want        pg.LSN
	}{
		"nothing is held":               {0, 0, 5 * mib, 0},
		"less than is kept":             {20 * mib, 4 * mib, 5 * mib, 0},
		"as much as is kept":            {20 * mib, 5 * mib, 5 * mib, 0},
		"more":                          {20 * mib, 10 * mib, 5 * mib, 15 * mib},
		"in the middle of a segment":    {20*mib + 12345, 10 * mib, 5 * mib, 15 * mib},
		"one byte below a segment":      {20*mib - 1, 10 * mib, 5 * mib, 14 * mib},
		"kept is not whole segments":    {20 * mib, 10 * mib, 5*mib + 1, 14 * mib},
		"nothing is to be kept":         {20*mib + 5, 10 * mib, 0, 20 * mib},
		"below the beginning of time":   {3 * mib, 10 * mib, 5 * mib, 0},
		"more is kept than ever was":    {20 * mib, 10 * mib, 1 << 62, 0},
		"what is not persisted counts":  {10 * mib, 30 * mib, 5 * mib, 5 * mib},
		"as much as ever was, no more":  {5 * mib, 10 * mib, 5 * mib, 0},
		"a little more than ever was":   {5*mib + 1, 10 * mib, 5 * mib, 0},
		"one segment more":              {6 * mib, 10 * mib, 5 * mib, 1 * mib},
		"an LSN that is no file offset": {1 << 40, 10 * mib, 5 * mib, 1<<40 - 5*mib},
	} {
		t.Run(name, func(t *testing.T) {
			if got := removalHorizon(c.persisted, c.persisted, seg, c.local, c.keep); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestRemovalKeepsWhatTheRuleWants, without a hand, and without trying again and again where there is nothing to remove.
func TestRemovalKeepsWhatTheRuleWants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome(t)
		k := h.start(t, func(c *Config) { c.Retain, c.DropUnbacked = 3*mib, true })
		m := create(t, k, main1)
		w := source(start + 10*mib)
		receive(t, m, w, start+5*mib)
		reader, err := m.Log().OpenSegment(1, 2)
		must(t, err)
		receive(t, m, w, w.End())
		time.Sleep(time.Minute)
		if got := len(m.Log().Segments()); got != 5 { // 3 MiB, the open one, and the one that is read
			t.Errorf("%d segments are there: %+v", got, m.Log().Segments())
		}
		before := m.Status().Manager.Iterations
		time.Sleep(time.Hour)
		if n := m.Status().Manager.Iterations - before; n > 2 {
			t.Errorf("%d iterations in an idle hour", n)
		}
		must(t, reader.Close())
		w.Switch()
		w.Record(1000)
		receive(t, m, w, w.End())
		time.Sleep(time.Minute)
		if got := len(m.Log().Segments()); got != 4 {
			t.Errorf("%d segments are there", got)
		}
		stop(t, k)
	})
}

// TestUnbackedWALIsKept unless the configuration says otherwise: nothing else has it.
func TestUnbackedWALIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newHome(t).start(t, func(c *Config) { c.Retain = mib })
		m := create(t, k, main1)
		w := source(start + 10*mib)
		receive(t, m, w, w.End())
		time.Sleep(time.Hour)
		if got := len(m.Log().Segments()); got != 11 {
			t.Errorf("%d segments are there", got)
		}
		stop(t, k)
	})
}

// TestReceiverThatMeetsASealIsNoFailure: the plan started it before somebody began to seal, and stops it at its next look.
func TestReceiverThatMeetsASealIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newHome(t).start(t)
		m := create(t, k, main1)
		receive(t, m, source(start+mib), start+mib)
		end, err := m.BeginReceive()
		must(t, err)
		sealed := make(chan error, 1)
		go func() {
			_, err := m.Seal(t.Context(), true)
			sealed <- err
		}()
		synctest.Wait() // it waits for the receiver
		if err := m.receive(t.Context()); err != nil {
			t.Errorf("beside the seal: %v", err)
		}
		end()
		must(t, <-sealed)
		stop(t, k)
	})
}
