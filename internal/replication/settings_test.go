package replication

import (
	"context"
	"errors"
	"testing"

	"github.com/sluicewal/sluice/internal/pg"
)

// TestSettingsAreToldBeforeAnythingIsAcknowledged: commits that were made under a setting are counted on by nobody who has not
// heard of it. They are told as those of the source's TLI, which the sink has gone over to by then.
func TestSettingsAreToldBeforeAnythingIsAcknowledged(t *testing.T) {
	_ = session(t, func(f *fakeSource, sink *memSink, cfg *Config) {
		*sink = *holding(base + 5000)
		f.tli, f.flush = 2, base+5000
		f.histories = map[pg.TLI]string{2: "1\t0/1001388\tno recovery target specified\n"}
		told := make(chan Settings, 2)
		cfg.Settings = func(_ context.Context, set Settings) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.said) != 0 || sink.Held().Position.TLI != 2 {
				t.Errorf("told after %+v, with the sink on %s", f.said, sink.Held().Position)
			}
			told <- set
			return nil
		}
		f.stream = func(s *fakeStream) {
			s.begin()
			s.send(walMessage(base, base+5000, zeros(5000)))
			s.untilFlush(base + 5000)
			if set := <-told; set.SystemID != 7 || set.TLI != 2 || set.SyncStandbyNames != "a" || set.ReadAt.IsZero() {
				t.Errorf("told %+v", set)
			}
		}
	})
}

func TestNothingIsAcknowledgedIfTheSettingsCannotBeKept(t *testing.T) {
	full := errors.New("the disk is full")
	err := session(t, func(f *fakeSource, sink *memSink, cfg *Config) {
		cfg.Settings = func(context.Context, Settings) error { return full }
		f.stream = func(s *fakeStream) {
			s.begin()
			for _, h := range s.rest() {
				if h.status.flush != 0 {
					t.Errorf("it said %+v", h)
				}
			}
		}
	})
	if !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}
