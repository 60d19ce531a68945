package replication

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
)

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
			s.begin()
			s.send(walMessage(base, base, zeros(0x200)))
			s.next() // it has followed
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

// The history of a TLI on the way is a file that somebody may have copied there, of another promotion: its fork may lie below
// what a seal promised.
func TestHistoryOnTheWayThatIsNotTheSourcesIsRefused(t *testing.T) {
	for name, onTheWay := range map[string]string{
		"another fork":   "1\t0/1000100\tx\n",
		"another parent": "2\t0/1000200\tx\n",
		"one more":       "1\t0/1000200\tx\n\n2\t0/1000200\tx\n",
	} {
		t.Run(name, func(t *testing.T) {
			err := session(t, func(f *fakeSource, sink *memSink, _ *Config) {
				*sink = *holding(base + 0x200)
				f.tli, f.flush = 4, base+0x900
				f.histories = map[pg.TLI]string{3: onTheWay, 4: "1\t0/1000200\tx\n\n3\t0/1000300\tx\n"}
				f.stream = func(*fakeStream) { t.Errorf("asked for %q", f.asked("START")) }
			})
			refused := new(RefusedError)
			if !errors.As(err, &refused) || refused.Reason != Forked {
				t.Fatalf("got %v", err)
			}
			contains(t, refused.Text, "TLI 3", "TLI 4", "TLI 1 at 0/1000200", strings.Fields(onTheWay)[1])
		})
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
				s.untilFlush(base)
				if want := (pg.Position{TLI: 1, LSN: base}); !slices.Equal(sink.adopted, []pg.Position{want}) {
					t.Errorf("%s: adopted %v", version, sink.adopted)
				}
			}
		})
	}
}
