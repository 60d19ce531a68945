package replication

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// flood sends WAL from base to end as a source does that has much more.
func (s *fakeStream) flood(end pg.LSN) {
	for at := base; at < end; at += 1 << 17 {
		s.send(walMessage(at, end+8*mib, zeros(min(1<<17, int(end-at)))))
	}
}

// pieces is a sink that notes what it is to write in two steps.
func pieces(sink *memSink) *[]int {
	var sizes []int
	sink.onWrite = func(p []byte) error {
		sizes = append(sizes, len(p))
		return nil
	}
	return &sizes
}

func TestCatchingUpWritesWholeBlocks(t *testing.T) {
	_ = session(t, func(f *fakeSource, sink *memSink, _ *Config) {
		sizes := pieces(sink)
		f.stream = func(s *fakeStream) {
			s.begin()
			s.untilFlush(base)
			s.flood(base + 12*mib)
			s.untilFlush(base + 12*mib)
			small := slices.DeleteFunc(slices.Clone(*sizes), func(n int) bool { return n == blockLen })
			if len(*sizes) < 11 || len(small) > 2 {
				t.Errorf("wrote %v", *sizes)
			}
			if expected := sink.expects(); expected < base+20*mib {
				t.Errorf("the sink expects WAL up to %s", expected)
			}
		}
	})
}

// A disk that is too slow holds the source up, and not our memory; and the source still hears from us.
func TestCatchingUpWaitsForTheDiskWhenMemoryIsFull(t *testing.T) {
	_ = session(t, func(f *fakeSource, sink *memSink, _ *Config) {
		sink.onWrite = func([]byte) error { time.Sleep(3 * time.Second); return nil }
		f.stream = func(s *fakeStream) {
			s.begin()
			last := s.untilFlush(base)[0].at
			began := last
			end := base + 3*aheadBlocks*mib
			s.flood(end)
			if took := time.Since(began); took < aheadBlocks*3*time.Second {
				t.Errorf("%d MiB were taken within %s", 3*aheadBlocks, took)
			}
			for _, h := range s.untilFlush(end) {
				if d := h.at.Sub(last); d >= time.Second {
					t.Errorf("silent for %s", d)
				}
				last = h.at
			}
		}
	})
}

func TestCommitsAreAcknowledgedSinglyOnceCaughtUp(t *testing.T) {
	_ = session(t, func(f *fakeSource, sink *memSink, _ *Config) {
		sizes := pieces(sink)
		f.stream = func(s *fakeStream) {
			s.begin()
			s.untilFlush(base)
			end := base + 4*mib
			for at := base; at < end; at += 1 << 17 {
				s.send(walMessage(at, end, zeros(1<<17)))
			}
			s.untilFlush(end)
			before := len(*sizes)
			for range 50 {
				s.send(walMessage(end, end+100, zeros(100)))
				end += 100
				began := time.Now()
				if got := s.untilFlush(end); got[len(got)-1].at != began {
					t.Errorf("acknowledged after %s", got[len(got)-1].at.Sub(began))
				}
			}
			if len(*sizes) > before+1 {
				t.Errorf("%d commits went another goroutine's way", len(*sizes)-before)
			}
		}
	})
}

// What cannot be written does not take what was written before with it.
func TestWhatWasWrittenBesideBeforeAnErrorIsAcknowledged(t *testing.T) {
	for name, fail := range map[string]func(*memSink){
		"no room for a segment": func(m *memSink) { m.room = base + 3*mib },
		"not valid": func(m *memSink) {
			m.onCheck = func(lsn pg.LSN, p []byte) error {
				if lsn+pg.LSN(len(p)) > base+3*mib {
					m.room = base + 3*mib // so that Append says it too
					return errFull
				}
				return nil
			}
		},
	} {
		err := session(t, func(f *fakeSource, sink *memSink, _ *Config) {
			fail(sink)
			f.stream = func(s *fakeStream) {
				s.begin()
				s.untilFlush(base)
				s.flood(base + 6*mib)
				s.untilFlush(base + 3*mib)
				s.rest()
			}
		})
		if !errors.Is(err, errFull) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFailedSyncBesideIsNotTriedAgain(t *testing.T) {
	broken := errors.New("the disk is broken")
	syncs := 0
	err := session(t, func(f *fakeSource, sink *memSink, _ *Config) {
		sink.onSync = func() error {
			if syncs++; syncs > 2 {
				return broken
			}
			return nil
		}
		f.stream = func(s *fakeStream) {
			s.begin()
			s.untilFlush(base)
			s.flood(base + 6*mib)
			said := s.rest()
			covered := slices.Max(append(sink.synced(), base))
			for _, h := range said {
				if h.status.flush > covered {
					t.Errorf("acknowledged %s, synced %s", h.status.flush, covered)
				}
			}
		}
	})
	if !errors.Is(err, broken) || syncs != 3 {
		t.Errorf("got %v after %d syncs", err, syncs)
	}
}
