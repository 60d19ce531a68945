package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/sluicewal/sluice/internal/pg"
)

// listen makes a fake reachable over TCP, in real time, until end.
func (f *fakeSource) listen(t *testing.T) (cfg Config, end func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	f.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() {
				defer conn.Close()
				f.serve(conn)
			})
		}
	})
	cfg = Config{Conninfo: fmt.Sprintf("host=127.0.0.1 port=%d user=u sslmode=disable", l.Addr().(*net.TCPAddr).Port), NodeID: "a"}
	return cfg, func() { _ = l.Close(); f.end() }
}

// hotStreams is how many streams wait in the kernel now.
func hotStreams() int {
	hot.mu.Lock()
	defer hot.mu.Unlock()
	return hot.threads
}

// commits sends n pieces of WAL, and waits each time until they are acknowledged. It returns where they end.
func (s *fakeStream) commits(from pg.LSN, n int) pg.LSN {
	for range n {
		s.send(walMessage(from, from+100, zeros(100)))
		from += 100
		s.untilFlush(from)
	}
	return from
}

// heats commits until the stream is hot, and returns where they end. On a busy machine it may have cooled before one looks.
func (s *fakeStream) heats(from pg.LSN) (end pg.LSN) {
	for limit := time.Now().Add(time.Minute); ; {
		from = s.commits(from, 3)
		if hotStreams() == 1 {
			return from
		}
		if time.Now().After(limit) {
			s.source.t.Error("the stream is never hot")
			return from
		}
	}
}

// hotSession streams from a fake that has made the stream hot before it goes on with then. It returns how the session ended,
// and what the fake heard.
func hotSession(t *testing.T, sink *memSink, then func(s *fakeStream, end pg.LSN, cancel func())) ([]heard, error) {
	t.Helper()
	f := newFakeSource(t)
	cfg, end := f.listen(t)
	cfg.briskly = time.Hour // however busy the machine is
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	f.stream = func(s *fakeStream) {
		s.begin()
		s.untilFlush(base)
		then(s, s.heats(base), func() { cancel(errStop) })
	}
	r, err := NewReceiver(cfg, sink)
	must(t, err)
	err = r.Run(ctx)
	if n := hotStreams(); n != 0 {
		t.Errorf("%d streams are hot after the end", n)
	}
	end()
	return f.said, err
}

func TestHotStreamIsCancelledAtOnceAndSaysGoodbye(t *testing.T) {
	var cancelled time.Time
	var flush pg.LSN
	sink := holding(base)
	said, err := hotSession(t, sink, func(s *fakeStream, end pg.LSN, cancel func()) {
		flush = end + 50
		s.send(walMessage(end, end+100, zeros(100))[:walHeader+50]) // half a message, which is waited for
		eventually(t, "it is there", func() bool { return sink.end() == end+50 })
		cancelled = time.Now()
		cancel()
		s.rest()
	})
	if took := time.Since(cancelled); !errors.Is(err, errStop) || took > 5*time.Second {
		t.Errorf("got %v after %s", err, took)
	}
	checkGoodbye(t, said, flush)
}

func TestHotStreamCoolsWhenItIsQuietAndGoesOn(t *testing.T) {
	_, err := hotSession(t, holding(base), func(s *fakeStream, end pg.LSN, _ func()) {
		for range 3 {
			eventually(t, "the stream is cool", func() bool { return hotStreams() == 0 })
			end = s.heats(end)
		}
		s.send(otherMessage('C', "COPY 0\x00"))
		s.rest()
	})
	if !errors.Is(err, ErrSourceShutdown) {
		t.Errorf("got %v", err)
	}
}

// The sync lasts until the source has heard from us three times.
func TestHotStreamSpeaksWhileTheDiskIsSlow(t *testing.T) {
	sink := holding(base)
	var slow chan struct{}
	sink.onSync = func() error {
		if slow == nil {
			return nil
		}
		select {
		case <-slow:
			return nil
		case <-time.After(time.Minute):
			return errors.New("nothing was said during the sync")
		}
	}
	_, err := hotSession(t, sink, func(s *fakeStream, end pg.LSN, cancel func()) {
		heard := make(chan struct{})
		sink.mu.Lock()
		slow = heard
		sink.mu.Unlock()
		s.send(walMessage(end, end+100, zeros(100)))
		for range 3 {
			if h := s.next(); h.typ != 'd' || h.status.flush != end {
				t.Errorf("heard %+v", h)
			}
		}
		close(heard)
		s.untilFlush(end + 100)
		cancel()
		s.rest()
	})
	if !errors.Is(err, errStop) {
		t.Errorf("the session ended: %v", err)
	}
}

func TestHotStreamFindsTheSourceGone(t *testing.T) {
	_, err := hotSession(t, holding(base), func(s *fakeStream, _ pg.LSN, _ func()) { _ = s.conn.Close() })
	if !errors.Is(err, errClosed) {
		t.Errorf("got %v", err)
	}
}

// pair is a hot wire, and the other end of its connection.
func pair(t *testing.T, l limits) (*wire, net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		conns[i], err = net.FileConn(f)
		must(t, err)
		must(t, f.Close())
	}
	w := newWire(conns[0], conns[0], l)
	w.heat()
	if w.sock == nil {
		t.Fatal("not hot")
	}
	t.Cleanup(func() { w.close(); _ = conns[1].Close() })
	return w, conns[1]
}

func TestHotReadWaitsForAMomentOnly(t *testing.T) {
	w, _ := pair(t, limits{})
	shortest := time.Hour // a busy machine may hold up one of them
	for range 3 {
		began := time.Now()
		if _, err := w.read([][]byte{make([]byte, 10)}); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		shortest = min(shortest, time.Since(began))
	}
	if shortest < socketWait/2 || shortest > 20*socketWait {
		t.Errorf("took %s", shortest)
	}
}

func TestHotWriteEndsWithItsTime(t *testing.T) {
	for name, test := range map[string]struct {
		limits limits
		cancel bool
	}{
		"limit":   {limits: limits{write: 200 * time.Millisecond, goodbye: time.Hour}},
		"goodbye": {limits: limits{write: time.Hour, goodbye: 200 * time.Millisecond}, cancel: true},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := pair(t, test.limits) // whose other end reads nothing
			if test.cancel {
				ctx, cancel := context.WithCancel(t.Context())
				defer w.watch(ctx)()
				time.AfterFunc(100*time.Millisecond, cancel)
			}
			began := time.Now()
			err := w.write(make([]byte, 16<<20))
			if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took < 150*time.Millisecond || took > 30*time.Second {
				t.Errorf("got %v after %s", err, took)
			}
			if err := w.write([]byte{1}); !errors.Is(err, errBroken) {
				t.Errorf("then %v", err)
			}
		})
	}
}

// Whether hot or cool, the bytes are those of one connection.
func TestHeatingAndCoolingLosesNoBytes(t *testing.T) {
	w, other := pair(t, limits{write: time.Minute})
	for i := range byte(20) {
		if i%3 == 0 {
			must(t, w.cool())
		} else {
			w.heat()
		}
		_, err := other.Write([]byte{i})
		must(t, err)
		got := make([]byte, 2)
		must(t, w.limitRead(time.Minute))
		if n, err := w.read([][]byte{got}); n != 1 || err != nil || got[0] != i {
			t.Fatalf("read %v, %d, %v; want %d", got, n, err, i)
		}
		must(t, w.write([]byte{i}))
		if n, err := other.Read(got); n != 1 || err != nil || got[0] != i {
			t.Fatalf("the other end read %v, %d, %v; want %d", got, n, err, i)
		}
	}
	must(t, w.cool())
	w.interrupt()
	if _, err := w.read([][]byte{make([]byte, 1)}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the interruption: %v", err)
	}
}

func TestNotAllStreamsAreHot(t *testing.T) {
	var wires []*wire
	for range maxHot() {
		w, _ := pair(t, limits{})
		wires = append(wires, w)
	}
	a, b := net.Pipe()
	defer b.Close()
	piped := newWire(a, a, limits{})
	piped.heat()
	if piped.sock != nil || hotStreams() != maxHot() {
		t.Errorf("a pipe is hot, or %d streams are", hotStreams())
	}
	if hot.enter() {
		t.Error("one more is let in")
	}
	for _, w := range wires {
		must(t, w.cool())
	}
	if n := hotStreams(); n != 0 {
		t.Errorf("%d streams are hot", n)
	}
}

// A stream that catches up reads many messages at once, and guesses how long they are. Whatever the source does instead, the
// bytes are the same in the end.
func TestGuessedReadsPutEveryByteInItsPlace(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		lengths := rapid.SliceOfN(rapid.OneOf(
			rapid.Just(maxSend), rapid.IntRange(0, 300), rapid.IntRange(maxSend-40, maxSend+40), rapid.IntRange(0, 3*maxSend),
		), 1, 60).Draw(rt, "lengths of messages")
		others := rapid.SliceOfN(rapid.SampledFrom([]string{"", "", "", "keepalive", "notice", "pause"}), 1, 10).Draw(rt, "between them")
		if err := checkGuesses(t, lengths, others); err != nil {
			rt.Fatal(err)
		}
	})
}

func checkGuesses(t *testing.T, lengths []int, others []string) error {
	f, sink := newFakeSource(t), holding(base)
	cfg, end := f.listen(t)
	want := make([]byte, 0, 8<<20)
	random := rand.NewChaCha8([32]byte{2})
	f.stream = func(s *fakeStream) {
		s.begin()
		s.untilFlush(base)
		for i, n := range append([]int{1000}, lengths...) { // after the first, the stream catches up
			data := zeros(n)
			_, _ = random.Read(data)
			at := base + pg.LSN(len(want))
			want = append(want, data...)
			s.send(walMessage(at, at+64*mib, data))
			switch others[i%len(others)] {
			case "keepalive":
				s.send(keepaliveMessage(at, 1))
			case "notice":
				s.send(otherMessage('N', "SWARNING\x00C01000\x00Mnothing\x00\x00"))
			case "pause":
				time.Sleep(time.Millisecond)
			}
		}
		s.untilFlush(base + pg.LSN(len(want)))
		s.send(otherMessage('C', "COPY 0\x00"))
		s.rest()
	}
	r, err := NewReceiver(cfg, sink)
	must(t, err)
	err = r.Run(t.Context())
	end()
	if !errors.Is(err, ErrSourceShutdown) {
		return fmt.Errorf("the session ended: %w", err)
	}
	if !bytes.Equal(sink.bytes, want) {
		return fmt.Errorf("%d bytes are held that are not the %d that were sent", len(sink.bytes), len(want))
	}
	return nil
}
