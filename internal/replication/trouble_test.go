package replication

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

func TestOtherBytesAreRefused(t *testing.T) {
	err := session(t, func(f *fakeSource, sink *memSink, _ *Config) {
		*sink = *holding(base + 5000)
		f.flush = base + 6000
		f.stream = func(s *fakeStream) {
			s.begin()
			s.send(walMessage(base, base+6000, append(zeros(4000), 1)))
			for _, h := range s.rest() {
				if h.status.flush != 0 {
					t.Errorf("acknowledged %s", h.status.flush)
				}
			}
		}
	})
	if refused := new(RefusedError); !errors.As(err, &refused) || refused.Reason != OtherBytes {
		t.Errorf("got %v", err)
	}
}

func TestGapInTheStreamIsAnError(t *testing.T) {
	err := session(t, func(f *fakeSource, sink *memSink, _ *Config) {
		f.stream = func(s *fakeStream) {
			s.begin()
			s.send(walMessage(base+8, base+100, zeros(8)))
			s.rest()
		}
	})
	if err == nil || !strings.Contains(err.Error(), "sent WAL at 0/1000008, where 0/1000000 comes next") {
		t.Errorf("got %v", err)
	}
}

// slowSync is a sink whose second sync takes long.
func slowSync(sink *memSink, d time.Duration) {
	n := 0
	sink.onSync = func() error {
		if n++; n == 2 {
			time.Sleep(d)
		}
		return nil
	}
}

func TestSourceHearsFromUsWhileTheDiskIsSlow(t *testing.T) {
	const timeout = time.Second // wal_sender_timeout
	for name, test := range map[string]struct {
		size int
		slow func(*memSink)
	}{
		"sync, live":        {100, func(m *memSink) { slowSync(m, 10*time.Second) }},
		"sync, catching up": {3 * mib, func(m *memSink) { slowSync(m, 10*time.Second) }},
		"write": {1000, func(m *memSink) {
			m.onAppend = func(pg.LSN, []byte) error { time.Sleep(5 * time.Second); return nil }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			_ = session(t, func(f *fakeSource, sink *memSink, _ *Config) {
				test.slow(sink)
				f.stream = func(s *fakeStream) {
					s.begin()
					s.untilFlush(base)
					last := time.Now()
					end := base + pg.LSN(test.size)
					for at := base; at < end; at += 1 << 16 {
						s.send(walMessage(at, end, zeros(min(1<<16, int(end-at)))))
					}
					for _, h := range s.untilFlush(end) {
						if d := h.at.Sub(last); d >= timeout {
							t.Errorf("silent for %s", d)
						}
						last = h.at
						if !slices.Contains(sink.synced(), h.status.flush) {
							t.Errorf("reported %s, which no sync returned", h.status.flush)
						}
					}
				}
			})
		})
	}
}

func TestReadingGoesOnWhileASyncRuns(t *testing.T) {
	_ = session(t, func(f *fakeSource, sink *memSink, _ *Config) {
		var ended time.Time // of the slow sync
		sink.onSync = func() error {
			if len(sink.synced()) == 1 {
				time.Sleep(20*time.Second + 50*time.Millisecond)
				ended = time.Now()
			}
			return nil
		}
		f.stream = func(s *fakeStream) {
			s.begin()
			s.untilFlush(base)
			end := base + 8*mib
			began := time.Now()
			for at := base; at < end; at += 1 << 17 {
				s.send(walMessage(at, end, zeros(1<<17)))
			}
			if d := time.Since(began); d > time.Second {
				t.Errorf("8 MiB took %s while a sync ran", d)
			}
			for h := s.next(); h.status.flush != end; h = s.next() {
				if h.status.flush > base && h.at != ended {
					t.Errorf("reported %s after the sync ended", h.at.Sub(ended))
				}
			}
		}
	})
}

func TestSilentSourceIsAskedAndThenLeft(t *testing.T) {
	began := time.Now()
	var took time.Duration
	err := session(t, func(f *fakeSource, _ *memSink, cfg *Config) {
		cfg.Events.Ended = func(error) { took = time.Since(began) }
		f.stream = func(s *fakeStream) {
			began = time.Now()
			s.begin()
			asked := false
			for _, h := range s.rest() {
				asked = asked || h.status.replyNow
			}
			if !asked {
				t.Error("it was not asked for a sign of life")
			}
		}
	})
	if err == nil || !strings.Contains(err.Error(), "silent for 1m0s") {
		t.Errorf("got %v", err)
	}
	if took < 60*time.Second || took > 65*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestProtocolErrorsEndTheSession(t *testing.T) {
	for name, stream := range map[string]func(*fakeStream){
		"WAL before CopyBoth":   func(s *fakeStream) { s.send(walMessage(base, base, zeros(8))) },
		"ready without result":  func(s *fakeStream) { s.send(otherMessage('Z', "I")) },
		"ready during the copy": func(s *fakeStream) { s.begin(); s.send(otherMessage('Z', "I")) },
		"CopyBoth twice":        func(s *fakeStream) { s.begin(); s.send(otherMessage('W', "\x00\x00\x00")) },
		"nonsense":              func(s *fakeStream) { s.begin(); s.send([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) },
		"WAL after CopyDone":    func(s *fakeStream) { s.begin(); s.send(otherMessage('c', ""), walMessage(base, base, zeros(8))) },
	} {
		err := session(t, func(f *fakeSource, _ *memSink, _ *Config) { f.stream = stream })
		if err == nil || !strings.Contains(err.Error(), "the source sent") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSinkErrorEndsTheSession(t *testing.T) {
	full := errors.New("no space left on device")
	for name, breakSink := range map[string]func(*memSink){
		"append": func(m *memSink) { m.onAppend = func(pg.LSN, []byte) error { return full } },
		"sync":   func(m *memSink) { m.onSync = func() error { return full } },
	} {
		syncs := 0
		err := session(t, func(f *fakeSource, sink *memSink, _ *Config) {
			breakSink(sink)
			if onSync := sink.onSync; onSync != nil {
				sink.onSync = func() error { syncs++; return onSync() }
			}
			f.stream = func(s *fakeStream) {
				s.begin()
				s.send(walMessage(base, base+100, zeros(100)))
				for _, h := range s.rest() {
					if h.status.flush > base {
						t.Errorf("%s: acknowledged %s", name, h.status.flush)
					}
				}
			}
		})
		if !errors.Is(err, full) {
			t.Errorf("%s: %v", name, err)
		}
		if syncs > 1 {
			t.Errorf("%s: a failed sync was tried again", name)
		}
	}
}

// A disk that has no room for the next segment has taken what lies below, and a commit may wait for that.
func TestWhatWasTakenBeforeAnErrorIsSyncedAndAcknowledged(t *testing.T) {
	err := session(t, func(f *fakeSource, sink *memSink, _ *Config) {
		sink.room = base + 100
		f.stream = func(s *fakeStream) {
			s.begin()
			s.untilFlush(base)
			s.send(walMessage(base, base+200, zeros(200)))
			s.untilFlush(base + 100)
			if got := s.rest(); len(got) == 0 || got[len(got)-1].typ != 'X' {
				t.Errorf("after the acknowledgement: %v", got)
			}
		}
	})
	if !errors.Is(err, errFull) {
		t.Errorf("got %v", err)
	}
}

// The end of a session is no reason to acknowledge what was not compared to its end.
func TestWhatWasNotComparedIsNotAcknowledgedAfterAnError(t *testing.T) {
	_ = session(t, func(f *fakeSource, sink *memSink, _ *Config) {
		*sink = *holding(base + 5000)
		f.flush = base + 5000
		sink.onAppend = func(lsn pg.LSN, _ []byte) error {
			if lsn > base {
				return errFull
			}
			return nil
		}
		f.stream = func(s *fakeStream) {
			s.begin()
			s.send(walMessage(base, base+5000, zeros(1000)))
			s.send(walMessage(base+1000, base+5000, zeros(1000)))
			for _, h := range s.rest() {
				if h.status.flush != 0 {
					t.Errorf("acknowledged %s", h.status.flush)
				}
			}
		}
	})
}

// A source that is lost loses nothing that it sent.
func TestWhatWasReceivedIsSyncedWhenTheConnectionBreaks(t *testing.T) {
	var results []pg.LSN
	_ = session(t, func(f *fakeSource, sink *memSink, _ *Config) {
		f.stream = func(s *fakeStream) {
			s.begin()
			s.untilFlush(base)
			message := walMessage(base, base+1000, zeros(1000))
			s.send(message[:len(message)-1]) // and breaks off
		}
		sink.onSync = func() error { results = append(results, sink.held.Position.LSN); return nil }
	})
	if len(results) == 0 || results[len(results)-1] != base+999 {
		t.Errorf("syncs: %v", results)
	}
}

// slowWrites is a connection on which each write takes so long that pgconn begins to read ahead, in a goroutine of its own.
type slowWrites struct{ net.Conn }

func (c slowWrites) Write(p []byte) (int, error) {
	time.Sleep(20 * time.Millisecond)
	return c.Conn.Write(p)
}

func TestSlowWritesLoseNoBytes(t *testing.T) {
	err := session(t, func(f *fakeSource, sink *memSink, cfg *Config) {
		cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := f.dial(ctx, network, address)
			return slowWrites{conn}, err
		}
		f.stream = func(s *fakeStream) {
			s.begin()
			s.send(walMessage(base, base+100, zeros(100)))
			s.untilFlush(base + 100)
			s.send(otherMessage('C', "COPY 0\x00"))
		}
	})
	if !errors.Is(err, ErrSourceShutdown) {
		t.Errorf("got %v", err)
	}
}
