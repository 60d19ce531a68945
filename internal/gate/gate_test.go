package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mustEnter enters a gate that is open.
func mustEnter(t *testing.T, g *Gate, h Holder) Pass {
	t.Helper()
	p, err := g.Enter(t.Context(), h)
	if err != nil {
		t.Fatalf("%s could not enter: %v", h, err)
	}
	return p
}

// closeInBackground closes g and returns where the result will be.
func closeInBackground(ctx context.Context, g *Gate) <-chan error {
	result := make(chan error, 1)
	go func() { result <- g.Close(ctx) }()
	return result
}

func names(list []HolderInfo) []Holder {
	out := make([]Holder, len(list))
	for i, h := range list {
		out[i] = h.Name
	}
	return out
}

func TestCloseOfIdleGateReturnsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{})
		mustEnter(t, g, "early").Leave()
		began := time.Now()
		if err := g.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited != 0 {
			t.Fatalf("waited %v for nobody", waited)
		}
		<-g.Closing()
		<-g.Closed()
	})
}

func TestCloseOfEmptyGateSucceedsThoughItsContextHasEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := New(Config{}).Close(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestEnterIsRefusedFromTheStartOfClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{})
		pass := mustEnter(t, g, "slow")
		result := closeInBackground(t.Context(), g)
		synctest.Wait()

		<-g.Closing()
		if _, err := g.Enter(t.Context(), "late"); !errors.Is(err, ErrClosed) {
			t.Fatalf("entered while closing: %v", err)
		}
		if _, err := pass.Clone(t.Context()); !errors.Is(err, ErrClosed) {
			t.Fatalf("cloned while closing: %v", err)
		}
		if s := g.Stats(); s.Refused != 2 || s.Entered != 1 || s.Inside != 1 || s.Closed {
			t.Fatalf("stats while closing: %+v", s)
		}
		pass.Leave()
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		if _, err := g.Enter(t.Context(), "later"); !errors.Is(err, ErrClosed) {
			t.Fatalf("entered a closed gate: %v", err)
		}
	})
}

func TestCloseReturnsAfterTheLastHolderLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{})
		first, last := mustEnter(t, g, "first"), mustEnter(t, g, "last")
		result := closeInBackground(t.Context(), g)
		first.Leave()
		synctest.Wait()
		select {
		case err := <-result:
			t.Fatalf("close returned with one inside: %v", err)
		case <-g.Closed():
			t.Fatal("closed with one inside")
		default:
		}
		last.Leave()
		if err := <-result; err != nil {
			t.Fatal(err)
		}
	})
}

func TestClosingManyTimesIsLegal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{})
		pass := mustEnter(t, g, "slow")
		var closers sync.WaitGroup
		for range 20 {
			closers.Go(func() {
				if err := g.Close(t.Context()); err != nil {
					t.Errorf("one of many closers: %v", err)
				}
			})
		}
		synctest.Wait()
		pass.Leave()
		closers.Wait()
		if err := g.Close(t.Context()); err != nil {
			t.Fatalf("closing once more: %v", err)
		}
	})
}

func TestPassIsLeftByAnotherGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{})
		handOver := make(chan Pass, 1)
		go func() {
			time.Sleep(time.Second)
			(<-handOver).Leave()
		}()
		handOver <- mustEnter(t, g, "request")
		if err := g.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCloneIsAnEntryOfItsOwn(t *testing.T) {
	g := New(Config{})
	pass := mustEnter(t, g, "request")
	clone, err := pass.Clone(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pass.Leave()
	if got := names(g.Holders()); len(got) != 1 || got[0] != "request" {
		t.Fatalf("holders after the original left: %v", got)
	}
	clone.Leave()
	if n := g.Stats().Inside; n != 0 {
		t.Fatalf("%d inside after both left", n)
	}
}

func TestLeavingTwiceIsHarmlessAndReported(t *testing.T) {
	var misuses []Misuse
	g := New(Config{Kind: "timeline", Name: "acme/main", Hooks: &Hooks{Events: Events{
		Misused: func(m Misuse) { misuses = append(misuses, m) },
	}}})
	pass := mustEnter(t, g, "careless")
	pass.Leave()
	successor := mustEnter(t, g, "innocent") // sits where the careless one sat
	pass.Leave()

	if got := names(g.Holders()); len(got) != 1 || got[0] != "innocent" {
		t.Fatalf("a second leave threw out another holder: %v", got)
	}
	if _, err := pass.Clone(t.Context()); !errors.Is(err, ErrNotInside) {
		t.Fatalf("cloned a pass that was left: %v", err)
	}
	want := []Misuse{
		{Kind: "timeline", Name: "acme/main", Misuse: LeftTwice, Holder: "careless"},
		{Kind: "timeline", Name: "acme/main", Misuse: ClonedAfterLeave, Holder: "careless"},
	}
	if len(misuses) != 2 || misuses[0] != want[0] || misuses[1] != want[1] || g.Stats().Misused != 2 {
		t.Fatalf("misuses reported: %+v", misuses)
	}
	successor.Leave()
}

func TestZeroPassWasNeverInside(t *testing.T) {
	Pass{}.Leave()
	if _, err := (Pass{}).Clone(t.Context()); !errors.Is(err, ErrNotInside) {
		t.Fatalf("cloned the zero pass: %v", err)
	}
}

func TestHolderThatClosesItsOwnGateGetsAnError(t *testing.T) {
	g, other := New(Config{Name: "acme/main"}), New(Config{Name: "acme"})
	pass, elsewhere := mustEnter(t, g, "eviction"), mustEnter(t, other, "download")
	ctx := WithPass(WithPass(t.Context(), pass), elsewhere)

	if err := g.Close(ctx); !errors.Is(err, ErrClosedByHolder) {
		t.Fatalf("closed by its holder: %v", err)
	}
	if err := other.Close(ctx); !errors.Is(err, ErrClosedByHolder) {
		t.Fatalf("closed by the holder of two: %v", err)
	}
	mustEnter(t, g, "next").Leave() // the gate stayed open

	pass.Leave()
	if err := g.Close(ctx); err != nil {
		t.Fatalf("closed by one who has left: %v", err)
	}
	elsewhere.Leave()
}

// TestThousandsEnterWhileOneCloses counts those inside by itself: nobody may be
// inside any more when Close returns, and everybody was let in or refused.
func TestThousandsEnterWhileOneCloses(t *testing.T) {
	const rounds, visitors = 50, 200
	for range rounds {
		g := New(Config{})
		var inside, admitted, refused atomic.Int64
		var all sync.WaitGroup
		start := make(chan struct{})
		for range visitors {
			all.Go(func() {
				<-start
				for {
					pass, err := g.Enter(t.Context(), "visitor")
					if err != nil {
						refused.Add(1)
						return
					}
					inside.Add(1)
					admitted.Add(1)
					inside.Add(-1) // what a holder uses is released before the pass
					pass.Leave()
				}
			})
		}
		close(start)
		if err := g.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := inside.Load(); n != 0 {
			t.Fatalf("%d inside a closed gate", n)
		}
		all.Wait()
		s := g.Stats()
		if s.Entered != uint64(admitted.Load()) || s.Refused != uint64(refused.Load()) || refused.Load() != visitors {
			t.Fatalf("%d admitted, %d refused, but the gate counted %+v", admitted.Load(), refused.Load(), s)
		}
	}
}

// TestRushFindsRoom has more holders than seats: all are named, whoever leaves is
// the one who is gone, and the memory of the rush is given back.
func TestRushFindsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{})
		var rush []Pass
		var want []Holder
		for i := range seatsOfAGate + 2*keptCrowd {
			holder := Holder(fmt.Sprint("rush ", i))
			rush, want = append(rush, mustEnter(t, g, holder)), append(want, holder)
			time.Sleep(10 * time.Millisecond) // a holder is known to have come within 4.2
		}
		if got := names(g.Holders()); !slices.Equal(got, want) {
			t.Fatalf("inside are\n%v, not\n%v", got, want)
		}
		result := closeInBackground(t.Context(), g)
		for i, pass := range rush {
			synctest.Wait()
			if got := names(g.Holders()); !slices.Equal(got, want[i:]) {
				t.Fatalf("after %d have left, inside are\n%v, not\n%v", i, got, want[i:])
			}
			if _, err := pass.Clone(t.Context()); !errors.Is(err, ErrClosed) {
				t.Fatalf("cloned while closing: %v", err)
			}
			pass.Leave()
		}
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		for _, pass := range rush {
			pass.Leave() // again, where nothing may be kept any more
		}
		s := g.Stats()
		if s.Misused != uint64(len(rush)) || s.Entered != uint64(len(rush)) || s.Inside != 0 {
			t.Fatalf("stats after the rush: %+v", s)
		}
		if g.room.Load().crowd.traces != nil {
			t.Fatal("memory is kept for nobody")
		}
	})
}

// TestKindsOfHoldersRunOut: kinds are constants, so that this is a bug; but nobody
// is refused, or lost from the list, for it.
func TestKindsOfHoldersRunOut(t *testing.T) {
	g := New(Config{})
	var passes []Pass
	for i := range kindsMost + 10 {
		passes = append(passes, mustEnter(t, g, Holder(fmt.Sprint("kind ", i))))
	}
	count := map[Holder]int{}
	for _, name := range names(g.Holders()) {
		count[name]++
	}
	if len(count) != kindsMost || count[otherHolder] != 11 {
		t.Errorf("%d kinds, %d of them others", len(count), count[otherHolder])
	}
	for _, p := range passes {
		p.Leave()
	}
	if s := g.Stats(); s.Inside != 0 || s.Entered != uint64(len(passes)) || s.Misused != 0 {
		t.Errorf("afterwards: %+v", s)
	}
}

// TestTokenTellsForHowLong: also over the time after which its bits begin again.
func TestTokenTellsForHowLong(t *testing.T) {
	const unit, round = time.Duration(1) << unitShift, time.Duration(1) << (unitShift + sinceBits)
	for _, came := range []time.Duration{0, unit - 1, time.Hour, round - unit, round - 1, round, 3*round + time.Minute} {
		t1 := token(0).next(visitor(kindsMost-1, came))
		for _, stayed := range []time.Duration{0, 1, unit, time.Second, 300 * 24 * time.Hour, round - 2*unit} {
			got := t1.since(came + stayed)
			if early := came - got; early < 0 || early >= unit {
				t.Errorf("came at %v, and %v later is said to have come at %v", came, stayed, got)
			}
		}
		if !t1.is(taken) || t1.kind() != kindsMost-1 || t1.passes() != 1 || t1&traced != 0 {
			t.Errorf("token %x", t1)
		}
	}
}

// TestHoldersAreListedWhileTheyComeAndGo: a list takes a seat from its holder for
// a moment, and neither the holder nor the one after may notice.
func TestHoldersAreListedWhileTheyComeAndGo(t *testing.T) {
	const visitors, visits = seatsOfAGate + 4, 2000
	g := New(Config{Hooks: &Hooks{Clock: NewClock()}})
	stays := mustEnter(t, g, "stays")
	done := make(chan struct{})
	var all sync.WaitGroup
	for range visitors {
		all.Go(func() {
			for range visits {
				pass, err := g.Enter(t.Context(), "visits")
				if err != nil {
					t.Error(err)
					return
				}
				pass.Leave()
			}
		})
	}
	go func() { all.Wait(); close(done) }()
	for listing := true; listing; {
		select {
		case <-done:
			listing = false
		default:
		}
		list := names(g.Holders())
		if n := len(list); n > visitors+1 || !slices.Contains(list, "stays") || !stays.isInside() {
			t.Fatalf("inside are %v", list)
		}
	}
	stays.Leave()
	if s := g.Stats(); s.Misused != 0 || s.Inside != 0 || s.Entered != visitors*visits+1 {
		t.Fatalf("stats after all left: %+v", s)
	}
}
