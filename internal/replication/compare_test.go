package replication

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Two servers that went apart below a border, and write equal bytes from there on.
func TestOtherBytesBelowABorderAreRefused(t *testing.T) {
	err := session(t, func(f *fakeSource, sink *memSink, _ *Config) {
		*sink = *holdingFrom(base-mib, base)
		f.stream = func(s *fakeStream) {
			s.begin()
			s.send(walMessage(base-mib, base, append(zeros(4000), 1)))
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

func TestComparisonOnABorderIsAcknowledgedWithoutMoreWAL(t *testing.T) {
	_ = session(t, func(f *fakeSource, sink *memSink, _ *Config) {
		*sink = *holdingFrom(base-mib, base)
		f.stream = func(s *fakeStream) {
			s.begin()
			s.send(walMessage(base-mib, base, zeros(mib-1)), keepaliveMessage(base, 1))
			if h := s.next(); h.status != (status{}) {
				t.Errorf("got %+v before the end was reached", h.status)
			}
			s.send(walMessage(base-1, base, zeros(1)))
			s.untilFlush(base)
		}
	})
}

// The slot of a source keeps what was not acknowledged, and so no segment below a border on which we stand.
func TestSegmentBelowTheBorderIsGone(t *testing.T) {
	const gone = "requested WAL segment has already been removed"
	for name, refuse := range map[string]func(*fakeStream){
		"before CopyBoth": func(s *fakeStream) { s.listen(); s.fail("58P01", gone) },
		"after CopyBoth":  func(s *fakeStream) { s.begin(); s.fail("58P01", gone) },
		"after a part of it": func(s *fakeStream) {
			s.begin()
			s.send(walMessage(base-mib, base, zeros(8192)))
			s.fail("58P01", gone)
		},
	} {
		t.Run(name, func(t *testing.T) {
			connected := 0
			err := session(t, func(f *fakeSource, sink *memSink, cfg *Config) {
				*sink = *holdingFrom(base-mib, base)
				cfg.Events.Connected = func(Connected) { connected++ }
				f.stream = func(s *fakeStream) {
					refuse(s)
					for _, h := range s.untilCommand() {
						if h.status.flush != 0 {
							t.Errorf("acknowledged %s to a source that was not compared", h.status.flush)
						}
					}
					s.send(otherMessage('W', "\x00\x00\x00"), walMessage(base, base+100, zeros(100)))
					s.untilFlush(base + 100)
					s.send(otherMessage('C', "COPY 0\x00"))
					want := []string{
						"START_REPLICATION SLOT sluice_a PHYSICAL 0/F00000 TIMELINE 1",
						"START_REPLICATION SLOT sluice_a PHYSICAL 0/1000000 TIMELINE 1",
					}
					if got := f.asked("START"); !slices.Equal(got, want) {
						t.Errorf("asked for %q", got)
					}
				}
			})
			if !errors.Is(err, ErrSourceShutdown) || connected != 1 {
				t.Errorf("got %v; %d times connected", err, connected)
			}
		})
	}
}

func TestMissingWALIsNotAskedForAgain(t *testing.T) {
	for name, test := range map[string]struct {
		end    pg.LSN
		stream func(*fakeStream)
	}{
		"the next segment is gone, too": {base, func(s *fakeStream) {
			s.begin()
			s.fail("58P01", "removed")
			s.untilCommand()
			s.send(otherMessage('W', "\x00\x00\x00"))
			s.fail("58P01", "removed")
			s.rest()
		}},
		"only the next segment is gone": {base, func(s *fakeStream) {
			s.begin()
			s.send(walMessage(base-mib, base, zeros(mib)))
			s.fail("58P01", "removed")
			s.rest()
		}},
		"the open segment is gone": {base + 100, func(s *fakeStream) {
			s.begin()
			s.fail("58P01", "removed")
			s.rest()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			err := session(t, func(f *fakeSource, sink *memSink, _ *Config) {
				*sink = *holdingFrom(base-mib, test.end)
				f.flush = test.end
				f.stream = test.stream
			})
			if missing := new(MissingWALError); !errors.As(err, &missing) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Seen from outside, over sessions: it stays refused while the source streams what is compared, and not for longer.
func TestRefusalSeenWhileComparing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, sink := newFakeSource(t), holding(base+5000)
		f.flush = base + 5000
		r, err := NewReceiver(f.config(), sink)
		must(t, err)
		f.stream = func(s *fakeStream) {
			s.begin()
			s.send(walMessage(base, base+5000, append(zeros(4000), 1)))
			s.rest()
		}
		refused := new(RefusedError)
		if err := r.Run(t.Context()); !errors.As(err, &refused) {
			t.Fatal(err)
		}
		first := r.State()
		time.Sleep(time.Minute)
		f.stream = func(s *fakeStream) {
			s.begin()
			s.send(walMessage(base, base+5000, zeros(4999)))
			synctest.Wait()
			if got := r.State(); got.Name != StateRefused || got.Since != first.Since || got.Error != first.Error {
				t.Errorf("before the end was reached: %+v, want %+v", got, first)
			}
			s.send(walMessage(base+4999, base+5000, zeros(1)))
			s.untilFlush(base + 5000)
			if got := r.State(); got.Name != StateConnected || got.Error != "" {
				t.Errorf("compared: %+v", got)
			}
			s.send(otherMessage('C', "COPY 0\x00"))
		}
		if err := r.Run(t.Context()); !errors.Is(err, ErrSourceShutdown) {
			t.Error(err)
		}
		f.end()
	})
}
