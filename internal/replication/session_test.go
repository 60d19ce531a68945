package replication

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

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
			if n := len(sink.results); n > 4 {
				t.Errorf("%d syncs: %v", n, sink.results)
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
	if err == nil || !strings.Contains(err.Error(), "0/1000008") || !strings.Contains(err.Error(), "0/1000000") {
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
	for name, size := range map[string]int{"live": 100, "catching up": 3 * mib} {
		t.Run(name, func(t *testing.T) {
			_ = session(t, func(f *fakeSource, sink *memSink, _ *Config) {
				slowSync(sink, 10*time.Second)
				f.stream = func(s *fakeStream) {
					s.begin()
					s.untilFlush(base)
					last := time.Now()
					end := base + pg.LSN(size)
					for at := base; at < end; at += 1 << 16 {
						n := min(1<<16, int(end-at))
						s.send(walMessage(at, end, zeros(n)))
					}
					for _, h := range s.untilFlush(end) {
						if d := h.at.Sub(last); d >= timeout {
							t.Errorf("silent for %s", d)
						}
						last = h.at
						if !slices.Contains(sink.results, h.status.flush) {
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
		slowSync(sink, 20*time.Second)
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
			s.untilFlush(end)
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

func TestEndOfTLI(t *testing.T) {
	for name, stream := range map[string]func(*fakeStream){
		"after WAL": func(s *fakeStream) {
			s.begin()
			s.send(walMessage(base, base+100, zeros(100)), otherMessage('c', ""))
			var flush pg.LSN
			for h := s.next(); h.typ != 'c'; h = s.next() {
				flush = h.status.flush
			}
			if flush != base+100 {
				t.Errorf("flush LSN %s before CopyDone", flush)
			}
			s.endOfTLI(2, base+100)
			if got := s.rest(); len(got) != 1 || got[0].typ != 'X' {
				t.Errorf("after CopyDone: %v", got)
			}
		},
		"without CopyBoth": func(s *fakeStream) {
			s.listen()
			s.endOfTLI(2, base)
			if got := s.rest(); len(got) != 1 || got[0].typ != 'X' {
				t.Errorf("heard %v", got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := session(t, func(f *fakeSource, _ *memSink, _ *Config) { f.stream = stream }); err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
}

// On a TLI that the source has left, nothing is acknowledged: its own commits are all on another.
func TestHistoricTLIIsNotAcknowledged(t *testing.T) {
	err := session(t, func(f *fakeSource, sink *memSink, _ *Config) {
		f.tli, f.flush = 2, base+900
		f.histories = map[pg.TLI]string{2: "1\t0/1000100\tno reason\n"}
		f.stream = func(s *fakeStream) {
			s.begin()
			s.send(walMessage(base, base+0x100, zeros(0x100)), otherMessage('c', ""))
			for h := s.next(); h.typ != 'c'; h = s.next() {
				if h.status.flush != 0 {
					t.Errorf("acknowledged %s", h.status.flush)
				}
			}
			s.endOfTLI(2, base+0x100)
			s.rest()
			if got := f.asked("START"); len(got) != 1 || !strings.HasSuffix(got[0], "PHYSICAL 0/1000000 TIMELINE 1") {
				t.Errorf("asked for %q", got)
			}
		}
	})
	if err != nil {
		t.Errorf("got %v", err)
	}
}

func TestFollowsEachTLIOnTheWay(t *testing.T) {
	_ = session(t, func(f *fakeSource, sink *memSink, _ *Config) {
		*sink = *holding(base + 0x300)
		f.tli, f.flush = 4, base+0x900
		f.histories = map[pg.TLI]string{
			2: "1\t0/1000200\tx\n",
			3: "1\t0/1000200\tx\n\n2\t0/1000200\tx\n",
			4: "1\t0/1000200\tx\n\n2\t0/1000200\tx\n\n3\t0/1000500\tx\n",
		}
		f.stream = func(s *fakeStream) {
			// TLI 2 ended where it began; TLI 3 has bytes that we lack.
			if got := f.asked("START"); len(got) != 1 || !strings.HasSuffix(got[0], "PHYSICAL 0/1000000 TIMELINE 3") {
				t.Errorf("asked for %q", got)
			}
			if !slices.Equal(sink.followed, []pg.TLI{3}) || sink.diverged[1] != 0x100 {
				t.Errorf("followed %v, diverged %v", sink.followed, sink.diverged)
			}
			if got := f.asked("TIMELINE_HISTORY"); !slices.Equal(got, []string{"TIMELINE_HISTORY 4", "TIMELINE_HISTORY 3"}) {
				t.Errorf("asked for %q", got)
			}
		}
	})
}

func TestMissingWAL(t *testing.T) {
	for name, test := range map[string]struct {
		slot   pg.LSN
		stream func(*fakeStream)
		text   string
	}{
		"at once": {base, nil, "000000010000000000000010"},
		"after CopyBoth": {base, func(s *fakeStream) {
			s.begin()
			_ = serverErrorTo(s, "58P01", "requested WAL segment 000000010000000000000010 has already been removed")
		}, "000000010000000000000010"},
		"slot dropped": {0, nil, "was not there"},
	} {
		t.Run(name, func(t *testing.T) {
			err := session(t, func(f *fakeSource, sink *memSink, _ *Config) {
				f.slot, f.stream = test.slot, test.stream
				if test.stream == nil {
					f.errors = map[string]*pgproto3.ErrorResponse{
						"START_REPLICATION": serverError("58P01", "requested WAL segment has already been removed"),
					}
				}
			})
			missing := new(MissingWALError)
			if !errors.As(err, &missing) || !strings.Contains(missing.Text, test.text) || !strings.Contains(missing.Text, "base backup") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func serverErrorTo(s *fakeStream, code, message string) error {
	s.b.Send(serverError(code, message))
	return s.b.Flush()
}

// A slot that is gone does no harm while the source still has the WAL.
func TestDroppedSlotIsMadeAgain(t *testing.T) {
	_ = session(t, func(f *fakeSource, sink *memSink, cfg *Config) {
		f.slot = 0
		var made []SlotReason
		cfg.Events.SlotMade = func(s Slot) { made = append(made, s.Made) }
		f.stream = func(s *fakeStream) {
			s.begin()
			s.untilFlush(base)
			if !slices.Equal(made, []SlotReason{SlotAbsent}) {
				t.Errorf("made %v", made)
			}
		}
	})
}

func TestInvalidatedSlotIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, sink := newFakeSource(t), holding(base)
		f.errors = map[string]*pgproto3.ErrorResponse{
			"START_REPLICATION": serverError("55000", `can no longer access replication slot "sluice_a"`),
		}
		f.stream = func(s *fakeStream) {
			s.begin()
			s.untilFlush(base)
		}
		r, err := NewReceiver(f.config(), sink)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "made anew") {
			t.Errorf("first session: %v", err)
		}
		f.errors = nil
		_ = r.Run(t.Context())
		if len(f.asked("DROP")) != 1 || len(f.asked("CREATE")) != 1 {
			t.Errorf("asked %q", f.commands)
		}
	})
}

func TestNameTaken(t *testing.T) {
	busy := map[string]*pgproto3.ErrorResponse{
		"START_REPLICATION": serverError("55006", `replication slot "sluice_a" is active for PID 4711`),
	}
	synctest.Test(t, func(t *testing.T) {
		f, sink := newFakeSource(t), holding(base)
		f.errors = busy
		r, err := NewReceiver(f.config(), sink)
		if err != nil {
			t.Fatal(err)
		}
		err = r.Run(t.Context())
		if refused := new(RefusedError); !errors.As(err, &refused) || refused.Reason != NameTaken || !strings.Contains(err.Error(), "4711") {
			t.Errorf("got %v", err)
		}
		if s := r.State(); s.Name != StateRefused || s.Reason != NameTaken || s.Error == "" {
			t.Errorf("state %+v", s)
		}

		// Our own last connection, which the source has not yet found dead, is nobody else.
		f.errors = nil
		f.stream = func(s *fakeStream) { s.begin() }
		if err := r.Run(t.Context()); err == nil {
			t.Error("a stream that broke off ended without an error")
		}
		f.errors, f.pid = busy, 4712
		err = r.Run(t.Context())
		if refused := new(RefusedError); errors.As(err, &refused) || !strings.Contains(err.Error(), "our last connection") {
			t.Errorf("got %v", err)
		}
		if s := r.State(); s.Name != StateConnecting {
			t.Errorf("state %+v", s)
		}
	})
}

func TestRecoveryIsASwitchoverForAWhile(t *testing.T) {
	for _, version := range []string{"13.23", "15.18"} {
		synctest.Test(t, func(t *testing.T) {
			f, sink := newFakeSource(t), holding(base)
			f.recovery, f.version = true, version
			r, err := NewReceiver(f.config(), sink)
			if err != nil {
				t.Fatal(err)
			}
			for range 6 {
				err := r.Run(t.Context())
				if refused := new(RefusedError); err == nil || errors.As(err, &refused) {
					t.Errorf("got %v", err)
				}
				if s := r.State(); s.Name != StateConnecting || !strings.Contains(s.Error, "recovery") {
					t.Errorf("state %+v", s)
				}
				time.Sleep(10 * time.Second)
			}
			err = r.Run(t.Context())
			if refused := new(RefusedError); !errors.As(err, &refused) || refused.Reason != InRecovery {
				t.Errorf("after the grace: %v", err)
			}
			if n := len(f.asked("CREATE")); n != 0 {
				t.Errorf("%d slots made on a source that was not judged", n)
			}
		})
	}
}

func TestTargetSessionAttrs(t *testing.T) {
	for _, version := range []string{"13.23", "15.18"} {
		err := session(t, func(f *fakeSource, _ *memSink, cfg *Config) {
			f.recovery, f.version = true, version
			cfg.Conninfo += " target_session_attrs=read-write"
		})
		if !errors.Is(err, errStandby) {
			t.Errorf("%s, in recovery: %v", version, err)
		}
		err = session(t, func(f *fakeSource, _ *memSink, cfg *Config) {
			f.version = version
			cfg.Conninfo += " target_session_attrs=read-write"
			f.stream = func(s *fakeStream) {
				s.begin()
				s.send(otherMessage('C', "COPY 0\x00"))
			}
		})
		if !errors.Is(err, ErrSourceShutdown) {
			t.Errorf("%s, primary: %v", version, err)
		}
	}
}

func TestNewTimelineBeginsAtItsSlot(t *testing.T) {
	for _, version := range []string{"13.23", "15.18"} {
		_ = session(t, func(f *fakeSource, sink *memSink, _ *Config) {
			*sink = memSink{}
			f.slot, f.version = 0, version
			f.flush = base + 0x1234
			f.stream = func(s *fakeStream) {
				s.begin()
				if want := (pg.Position{TLI: 1, LSN: base}); !slices.Equal(sink.adopted, []pg.Position{want}) {
					t.Errorf("%s: adopted %v", version, sink.adopted)
				}
			}
		})
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
