package gate

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// story is what several goroutines told, in order.
type story struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

func (s *story) tell(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

func (s *story) compare(t *testing.T, want []string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !reflect.DeepEqual(s.lines, want) {
		t.Fatalf("told\n got %q\nwant %q", s.lines, want)
	}
}

func TestExpiredCloseNamesHoldersAndStaysClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Name: "timeline acme/main"})
		receiver := mustEnter(t, g, "receive")
		time.Sleep(2 * time.Second)
		download := mustEnter(t, g, "wal_download")

		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err := g.Close(ctx)
		var stuck *CloseError
		if !errors.As(err, &stuck) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("expired close: %v", err)
		}
		const want = "gate of timeline acme/main is not empty after 5s: " +
			"held by receive (7s), wal_download (5s): context deadline exceeded"
		if err.Error() != want {
			t.Fatalf("error text\n got %s\nwant %s", err, want)
		}
		if _, err := g.Enter(t.Context(), "late"); !errors.Is(err, ErrClosed) {
			t.Fatalf("a close that gave up opened the gate: %v", err)
		}

		receiver.Leave()
		download.Leave()
		<-g.Closed()
		if err := g.Close(t.Context()); err != nil {
			t.Fatalf("a later close: %v", err)
		}
	})
}

func TestCloseErrorSaysTheCauseOfItsContext(t *testing.T) {
	g := New(Config{})
	defer mustEnter(t, g, "slow").Leave()
	cause := errors.New("second signal")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := g.Close(ctx); !errors.Is(err, cause) {
		t.Fatalf("close gave up with %v", err)
	}
}

func TestCloseErrorNamesTheOldestAndCountsTheRest(t *testing.T) {
	g := New(Config{})
	for i := range 20 {
		defer mustEnter(t, g, Holder(fmt.Sprintf("holder%02d", i))).Leave()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	text := g.Close(ctx).Error()
	if !strings.Contains(text, "holder00") || !strings.Contains(text, "and 12 more") || strings.Contains(text, "holder08") {
		t.Fatal(text)
	}
}

// TestWaitingCloseNamesItsHolders has two closers and expects one voice.
func TestWaitingCloseNamesItsHolders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var reports story
		g := New(Config{Name: "acme/main", Hooks: &Hooks{Events: Events{
			CloseWaiting: func(_ context.Context, w CloseWait) {
				reports.tell("%v %v", time.Since(began), names(w.Holders))
			},
		}}})
		stuck := mustEnter(t, g, "stuck")
		time.Sleep(time.Second)
		began = began.Add(time.Second)
		slow := mustEnter(t, g, "slow")
		first := closeInBackground(t.Context(), g)
		time.Sleep(50 * time.Millisecond)
		second := closeInBackground(t.Context(), g)
		time.Sleep(time.Second)
		slow.Leave()
		time.Sleep(1500 * time.Millisecond)
		stuck.Leave()
		if err := <-first; err != nil {
			t.Fatal(err)
		}
		if err := <-second; err != nil {
			t.Fatal(err)
		}
		want := []string{"100ms [stuck slow]", "1.1s [stuck]", "2.1s [stuck]"}
		reports.compare(t, want)
	})
}

func TestShortCloseReportsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Hooks: &Hooks{Events: Events{
			CloseWaiting: func(_ context.Context, w CloseWait) { t.Errorf("reported %v", w) },
		}}})
		pass := mustEnter(t, g, "quick")
		time.AfterFunc(firstReport-time.Millisecond, pass.Leave)
		if err := g.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestEventsTellAStay follows one gate from the first entry to the end.
func TestEventsTellAStay(t *testing.T) {
	type spanKey struct{}
	synctest.Test(t, func(t *testing.T) {
		var s story
		tell := s.tell
		var left []Exit // apart: a Close need not wait for the report of who left last
		g := New(Config{Kind: "timeline", Name: "acme/main", Hooks: &Hooks{
			Trace: func(context.Context) Trace { return Trace{TraceID: [16]byte{7}} },
			Events: Events{
				Entered: func(_ context.Context, e Entry) { tell("enter %s refused=%v", e.Holder, e.Refused) },
				Left:    func(e Exit) { left = append(left, e) },
				CloseStarted: func(ctx context.Context, s CloseStart) context.Context {
					tell("close %s %s", s.Kind, s.Name)
					return context.WithValue(ctx, spanKey{}, "span")
				},
				CloseWaiting: func(ctx context.Context, w CloseWait) {
					tell("wait %v trace %d in %v", w.Waited, w.Holders[0].TraceID[0], ctx.Value(spanKey{}))
				},
				CloseEnded: func(ctx context.Context, e CloseEnd) {
					tell("closed after %v: %v in %v", e.Waited, e.Err, ctx.Value(spanKey{}))
				},
			},
		}})
		entered := time.Now()
		pass := mustEnter(t, g, "request")
		result := closeInBackground(t.Context(), g)
		synctest.Wait()
		if _, err := g.Enter(t.Context(), "late"); err == nil {
			t.Fatal("entered while closing")
		}
		time.Sleep(200 * time.Millisecond)
		pass.Leave()
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		want := []string{
			"enter request refused=false",
			"close timeline acme/main",
			"enter late refused=true",
			"wait 100ms trace 7 in span",
			"closed after 200ms: <nil> in span",
		}
		s.compare(t, want)
		stay := Exit{
			Kind: "timeline", Name: "acme/main", Holder: "request",
			Since: entered, Held: 200 * time.Millisecond, Trace: Trace{TraceID: [16]byte{7}},
		}
		if !reflect.DeepEqual(left, []Exit{stay}) {
			t.Fatalf("left\n got %+v\nwant %+v", left, stay)
		}
	})
}

// TestShortStaysAreCountedAndNotTold, nor is an entry that nobody traces.
func TestShortStaysAreCountedAndNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s story
		counts := map[string]*Counts{"timeline": {}, "tenant": {}}
		traced := false
		hooks := &Hooks{
			Clock: NewClock(),
			Trace: func(context.Context) (t Trace) {
				if traced {
					t.SpanID[0] = 1
				}
				return t
			},
			Events: Events{
				Counts:   func(kind string) *Counts { return counts[kind] },
				Entered:  func(_ context.Context, e Entry) { s.tell("enter %s", e.Holder) },
				Left:     func(e Exit) { s.tell("left %s after %v", e.Holder, e.Held.Round(tick)) },
				LongStay: time.Second,
			},
		}
		g, other := New(Config{Kind: "timeline", Hooks: hooks}), New(Config{Kind: "timeline", Hooks: hooks})
		short := mustEnter(t, g, "short")
		long := mustEnter(t, other, "long")
		time.Sleep(time.Second - 2*tick)
		short.Leave()
		time.Sleep(time.Second)
		long.Leave()
		traced = true
		mustEnter(t, g, "traced").Leave()
		if n := counts["timeline"].Entered(); n != 3 { // one gate stays open
			t.Errorf("counted before the close: %d", n)
		}
		if err := g.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Enter(t.Context(), "late"); err == nil {
			t.Error("entered a closed gate")
		}
		s.compare(t, []string{"left long after 1.98s", "enter traced", "enter late"})
		if c := counts["timeline"]; c.Entered() != 3 || c.Refused() != 1 || counts["tenant"].Entered() != 0 {
			t.Errorf("counted: %d entered, %d refused", c.Entered(), c.Refused())
		}
	})
}
