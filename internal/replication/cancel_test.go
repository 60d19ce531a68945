package replication

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

var errStop = errors.New("the test stops the session")

func TestCancellation(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*fakeSource, *memSink)
		flush  pg.LSN // of the last status; 0: there may be none
	}{
		"dialling hangs":     {change: func(f *fakeSource, _ *memSink) { f.hang = "dial" }},
		"startup hangs":      {change: func(f *fakeSource, _ *memSink) { f.hang = "startup" }},
		"identify hangs":     {change: func(f *fakeSource, _ *memSink) { f.hang = "IDENTIFY_SYSTEM" }},
		"show hangs":         {change: func(f *fakeSource, _ *memSink) { f.hang = "SHOW" }},
		"slot hangs":         {change: func(f *fakeSource, _ *memSink) { f.hang = "READ_REPLICATION_SLOT" }},
		"creating one hangs": {change: func(f *fakeSource, _ *memSink) { f.hang, f.slot = "CREATE_REPLICATION_SLOT", 0 }},
		"start hangs":        {change: func(f *fakeSource, _ *memSink) { f.hang = "START_REPLICATION" }},
		"start is not read":  {change: func(f *fakeSource, _ *memSink) { f.stream = func(*fakeStream) { <-f.released } }},
		"idle": {flush: base, change: func(f *fakeSource, _ *memSink) {
			f.stream = func(s *fakeStream) { s.begin(); s.rest() }
		}},
		"in a message": {flush: base + 50, change: func(f *fakeSource, _ *memSink) {
			f.stream = func(s *fakeStream) { s.begin(); s.send(walMessage(base, base, zeros(100))[:walHeader+50]); s.rest() }
		}},
		"while a sync runs": {flush: base + 100, change: func(f *fakeSource, sink *memSink) {
			sink.onSync = func() error { time.Sleep(400 * time.Millisecond); return nil }
			f.stream = func(s *fakeStream) {
				s.begin()
				s.untilFlush(base)
				time.Sleep(3400 * time.Millisecond)
				s.send(walMessage(base, base+100, zeros(100)))
				s.rest()
			}
		}},
		"source reads nothing": {change: func(f *fakeSource, _ *memSink) {
			f.stream = func(s *fakeStream) {
				s.send(otherMessage('W', "\x00\x00\x00"))
				s.send(keepaliveMessage(base, 1))
				<-f.released
			}
		}},
		"source reads nothing and floods": {change: func(f *fakeSource, _ *memSink) {
			f.stream = func(s *fakeStream) {
				s.send(otherMessage('W', "\x00\x00\x00"))
				for at := base; ; at += 1000 {
					if _, err := s.conn.Write(walMessage(at, at, zeros(1000))); err != nil {
						return
					}
				}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) { testCancellation(t, test.change, test.flush) })
	}
}

func testCancellation(t *testing.T, change func(*fakeSource, *memSink), flush pg.LSN) {
	synctest.Test(t, func(t *testing.T) {
		f, sink := newFakeSource(t), holding(base)
		change(f, sink)
		r, err := NewReceiver(f.config(), sink)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		var cancelled time.Time
		time.AfterFunc(4*time.Second, func() { cancelled = time.Now(); cancel(errStop) })
		err = r.Run(ctx)
		if d := time.Since(cancelled); !errors.Is(err, errStop) || d >= time.Second {
			t.Errorf("got %v after %s", err, d)
		}
		if s := r.State(); s.Name != StateStopped || s.Error != "" {
			t.Errorf("state %+v", s)
		}
		f.end()
		if f.dials > 1 {
			t.Errorf("%d connections: pgconn sent a cancel request", f.dials)
		}
		if flush != 0 {
			checkGoodbye(t, f.said, flush)
		}
	})
}

// checkGoodbye wants a last status that acknowledges flush, CopyDone and Terminate.
func checkGoodbye(t *testing.T, said []heard, flush pg.LSN) {
	if n := len(said); n < 3 || said[n-3].status.flush != flush || said[n-2].typ != 'c' || said[n-1].typ != 'X' {
		t.Errorf("heard %v; want a status with %s, c, X in the end", said, flush)
	}
}

// What was not compared is not acknowledged in the goodbye either, although it is durable.
func TestGoodbyeInTheComparisonAcknowledgesNothing(t *testing.T) {
	for name, last := range map[string]func(*fakeStream, context.CancelCauseFunc){
		"cancelled":  func(_ *fakeStream, cancel context.CancelCauseFunc) { cancel(errStop) },
		"TLI's end":  func(s *fakeStream, _ context.CancelCauseFunc) { s.send(otherMessage('c', "")); s.endOfTLI(2, base+10) },
		"broken off": func(s *fakeStream, _ context.CancelCauseFunc) { _ = s.conn.Close() },
	} {
		synctest.Test(t, func(t *testing.T) {
			f, sink := newFakeSource(t), holding(base+5000)
			f.flush = base + 5000
			ctx, cancel := context.WithCancelCause(t.Context())
			f.stream = func(s *fakeStream) {
				s.begin()
				s.send(walMessage(base, base+5000, zeros(1000)))
				last(s, cancel)
				s.rest()
			}
			r, err := NewReceiver(f.config(), sink)
			must(t, err)
			_ = r.Run(ctx)
			f.end()
			for _, h := range f.said {
				if h.status.flush != 0 {
					t.Errorf("%s: acknowledged %s", name, h.status.flush)
				}
			}
		})
	}
}
