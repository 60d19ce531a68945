package replication

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// line is receivers of one node that connect at the same time, and what became of them.
type line struct {
	turns *Turns
	begun atomic.Int64 // dials
	now   atomic.Int64 // dials that go on
	most  atomic.Int64 // of those, at the same time
	after time.Duration
}

// dial is a source that says nothing for a while, and then refuses.
func (l *line) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	l.begun.Add(1)
	now := l.now.Add(1)
	for most := l.most.Load(); now > most && !l.most.CompareAndSwap(most, now); most = l.most.Load() {
	}
	defer l.now.Add(-1)
	select {
	case <-time.After(l.after):
	case <-ctx.Done():
	}
	return nil, errors.New("connection refused")
}

// join is one more, whose session has begun. It does not come to its end before the test does.
func (l *line) join(t *testing.T, ctx context.Context, ended chan<- error) *Receiver {
	t.Helper()
	r, err := NewReceiver(Config{Conninfo: "host=/nowhere user=u", NodeID: "a", Dial: l.dial, Turns: l.turns}, holding(base))
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- r.Run(ctx) }()
	return r
}

// ends waits until so many sessions have ended, none of which has reached its source.
func ends(t *testing.T, ended <-chan error, n int) {
	t.Helper()
	for range n {
		if err := <-ended; err == nil {
			t.Error("a session ended without an error")
		}
	}
}

// TestFewConnectAtOnce, of many whose sources refuse at once.
func TestFewConnectAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const all = 5 * turnsAtOnce
		l := &line{turns: NewTurns(), after: turnLasts / 2}
		ended := make(chan error, all)
		begun := time.Now()
		for range all {
			l.join(t, t.Context(), ended)
		}
		ends(t, ended, all)
		if l.most.Load() != turnsAtOnce {
			t.Errorf("%d connected at the same time", l.most.Load())
		}
		if took := time.Since(begun); took != all/turnsAtOnce*l.after {
			t.Errorf("they took %v", took)
		}
	})
}

// TestSilentSourcesHoldOthersUpALittle: they have their turns for a moment, however long they are waited for. Who waits says so.
func TestSilentSourcesHoldOthersUpALittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const silent = 10 * turnsAtOnce
		l := &line{turns: NewTurns(), after: time.Hour}
		ended := make(chan error, silent+1)
		for range silent {
			l.join(t, t.Context(), ended)
		}
		synctest.Wait() // they are in line
		last := l.join(t, t.Context(), ended)
		time.Sleep(9 * turnLasts)
		synctest.Wait()
		if s := last.State(); s.Name != StateConnecting || s.WaitsFor != WaitsForTurn {
			t.Errorf("before its turn it is %+v", s)
		}
		time.Sleep(turnLasts)
		synctest.Wait()
		if s := last.State(); s.WaitsFor != WaitsForNothing || l.begun.Load() != silent+1 {
			t.Errorf("with %d ahead, after %v, %d have begun; it is %+v", silent, 10*turnLasts, l.begun.Load(), s)
		}
		ends(t, ended, silent+1)
	})
}

// TestWhoWaitsForATurnCanLeave, and takes none.
func TestWhoWaitsForATurnCanLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{turns: NewTurns(), after: turnLasts / 2}
		ended := make(chan error, turnsAtOnce)
		for range turnsAtOnce {
			l.join(t, t.Context(), ended)
		}
		synctest.Wait()
		ctx, cancel := context.WithCancelCause(t.Context())
		left := make(chan error, 1)
		l.join(t, ctx, left)
		synctest.Wait()
		cancel(errTurn)
		if err := <-left; !errors.Is(err, errTurn) {
			t.Errorf("got %v", err)
		}
		ends(t, ended, turnsAtOnce)
		if n := l.begun.Load(); n != turnsAtOnce || len(l.turns.taken) != 0 {
			t.Errorf("%d have connected, %d turns are taken", n, len(l.turns.taken))
		}
	})
}

var errTurn = errors.New("the timeline shuts down")
