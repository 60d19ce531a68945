package replication

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sluicewal/sluice/internal/pg"
)

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
