package replication

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// base is where the streams of these tests begin: the start of a segment of 1 MiB.
const base = pg.LSN(0x1000000)

// session runs one session in virtual time. It returns how it ended, and how long it took.
func session(t *testing.T, change func(*fakeSource, *memSink, *Config)) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f, sink := newFakeSource(t), holding(base)
		cfg := f.config()
		change(f, sink, &cfg)
		r, newErr := NewReceiver(cfg, sink)
		if newErr != nil {
			t.Fatal(newErr)
		}
		err = r.Run(t.Context())
		f.end()
	})
	return err
}

func zeros(n int) []byte { return make([]byte, n) }

func TestAcknowledgesWhatASyncReturned(t *testing.T) {
	err := session(t, func(f *fakeSource, sink *memSink, cfg *Config) {
		var acks []Ack
		cfg.Events.Acked = func(a Ack) { acks = append(acks, a) }
		f.stream = func(s *fakeStream) {
			s.begin()
			s.untilFlush(base) // what it held before
			s.send(walMessage(base, base+100, zeros(100)))
			got := s.untilFlush(base + 100)
			if st := got[len(got)-1].status; st.write != base+100 || st.apply != 0 {
				t.Errorf("got %+v; want the write LSN as the flush LSN, and no apply LSN", st)
			}
			s.send(otherMessage('C', "COPY 0\x00"))
			if want := (pg.Position{TLI: 1, LSN: base + 100}); len(acks) != 1 || acks[0].Position != want || acks[0].Bytes != 100 {
				t.Errorf("events: %+v", acks)
			}
		}
	})
	if !errors.Is(err, ErrSourceShutdown) {
		t.Errorf("got %v", err)
	}
}

func TestOneSyncCoversWhatCameTogether(t *testing.T) {
	_ = session(t, func(f *fakeSource, sink *memSink, _ *Config) {
		f.stream = func(s *fakeStream) {
			s.begin()
			s.untilFlush(base)
			var all []byte
			for i := range 50 {
				at := base + pg.LSN(i*200)
				all = append(all, walMessage(at, at+200, zeros(200))...)
				all = append(all, keepaliveMessage(at+200, 1)...)
			}
			s.send(all)
			if got := s.untilFlush(base + 50*200); len(got) > 3 {
				// Two: 64 bytes are read at first, because the stream was idle.
				t.Errorf("%d status messages for one batch", len(got))
			}
			if n := len(sink.synced()); n > 4 {
				t.Errorf("%d syncs: %v", n, sink.synced())
			}
		}
	})
}

// A large message comes in many pieces; its record's commit waits for the last of them in any case.
func TestOneSyncCoversAMessageInPieces(t *testing.T) {
	_ = session(t, func(f *fakeSource, sink *memSink, _ *Config) {
		f.stream = func(s *fakeStream) {
			s.begin()
			s.untilFlush(base)
			message := walMessage(base, base+9000, zeros(9000))
			for _, piece := range [][]byte{message[:10], message[10:100], message[100:5000], message[5000:]} {
				s.send(piece)
			}
			if got := s.untilFlush(base + 9000); len(got) != 1 || len(sink.synced()) != 2 {
				t.Errorf("%d status messages, syncs %v", len(got), sink.synced())
			}
		}
	})
}

func TestNothingIsAcknowledgedBeforeTheComparison(t *testing.T) {
	_ = session(t, func(f *fakeSource, sink *memSink, _ *Config) {
		*sink = *holding(base + 5000)
		f.flush = base + 5000
		f.stream = func(s *fakeStream) {
			s.begin()
			s.send(walMessage(base, base+5000, zeros(4999)), keepaliveMessage(base+5000, 1))
			if h := s.next(); h.status != (status{}) {
				t.Errorf("got %+v before the end was reached", h.status)
			}
			s.send(walMessage(base+4999, base+5000, zeros(1)))
			s.untilFlush(base + 5000)
		}
	})
}

func TestReplyIsGivenAtOnceWhenIdle(t *testing.T) {
	_ = session(t, func(f *fakeSource, _ *memSink, _ *Config) {
		f.stream = func(s *fakeStream) {
			s.begin()
			s.untilFlush(base)
			for range 3 {
				began := time.Now()
				s.send(keepaliveMessage(base, 1))
				if h := s.next(); h.status.flush != base || h.at.Sub(began) > time.Millisecond {
					t.Errorf("got %+v after %s", h.status, h.at.Sub(began))
				}
				time.Sleep(3 * time.Second)
			}
		}
	})
}

func TestStatusIsSentEachInterval(t *testing.T) {
	_ = session(t, func(f *fakeSource, _ *memSink, cfg *Config) {
		cfg.StatusInterval = 4 * time.Second
		f.stream = func(s *fakeStream) {
			s.begin()
			last := s.untilFlush(base)[0].at
			for range 10 {
				s.send(keepaliveMessage(base, 0))
				h := s.next()
				if d := h.at.Sub(last); d < 3*time.Second || d > 5*time.Second {
					t.Errorf("status after %s", d)
				}
				last = h.at
			}
		}
	})
}

func TestCatchingUpSyncsInLargeBatches(t *testing.T) {
	_ = session(t, func(f *fakeSource, sink *memSink, _ *Config) {
		f.stream = func(s *fakeStream) {
			s.begin()
			s.untilFlush(base)
			end := base + 8*mib
			for at := base; at < end; at += 1 << 14 {
				s.send(walMessage(at, end+8*mib, zeros(1<<14)))
			}
			s.untilFlush(end)
			if n := len(sink.synced()); n > 12 {
				t.Errorf("%d syncs for 8 MiB", n)
			}
		}
	})
}

// Over a slow network, a lag does not make commits wait for a large batch.
func TestCatchingUpSlowlyStillAcknowledges(t *testing.T) {
	_ = session(t, func(f *fakeSource, _ *memSink, _ *Config) {
		f.stream = func(s *fakeStream) {
			s.begin()
			s.untilFlush(base)
			for at := base; at < base+100*1000; at += 1000 {
				s.send(walMessage(at, base+8*mib, zeros(1000)))
				time.Sleep(5 * time.Millisecond)
			}
			if got := s.untilFlush(base + 100*1000); len(got) < 15 {
				t.Errorf("%d acknowledgements in half a second", len(got))
			}
		}
	})
}
