package replication

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

// A state's age is what an alert is made of: trying again and failing again is no new state.
func TestStateKeepsItsAgeOverRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTracker()
		attempt := func(err error) State {
			time.Sleep(time.Minute)
			tr.begin()
			time.Sleep(time.Second)
			tr.end(t.Context(), err)
			return tr.load()
		}
		refused := refuse(Forked, "text")
		first := attempt(refused)
		if first.Name != StateRefused || first.Reason != Forked || first.Since != time.Now() {
			t.Errorf("got %+v", first)
		}
		if again := attempt(refused); !reflect.DeepEqual(again, first) {
			t.Errorf("got %+v, want %+v", again, first)
		}
		down := attempt(errors.New("server down"))
		if down.Name != StateConnecting || down.Since != time.Now() || down.Error != "server down" || down.Reason != "" {
			t.Errorf("got %+v", down)
		}
		if missing := attempt(&MissingWALError{"gone"}); missing.Name != StateMissingWAL || missing.Since == down.Since {
			t.Errorf("got %+v", missing)
		}
	})
}

// A source with other bytes, or without the WAL that comes next, agrees to stream first. An alert on a refusal that lasts must see
// that it does.
func TestRefusalStaysUntilTheSourceHasProvedItself(t *testing.T) {
	for name, verdict := range map[string]error{"refused": refuse(OtherBytes, "text"), "missing_wal": &MissingWALError{"gone"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTracker()
				tr.begin()
				tr.end(t.Context(), verdict)
				first := tr.load()
				for _, err := range []error{verdict, errors.New("the connection broke"), nil} {
					time.Sleep(time.Minute)
					tr.begin()
					tr.asked()
					tr.connected(source(nil), 2)
					if s := tr.load(); !reflect.DeepEqual(s, first) {
						t.Errorf("connected: %+v, want %+v", s, first)
					}
					tr.end(t.Context(), err)
					if s := tr.load(); !reflect.DeepEqual(s, first) {
						t.Errorf("ended with %v: %+v, want %+v", err, s, first)
					}
				}
				tr.begin()
				tr.asked()
				tr.connected(source(nil), 2)
				tr.verified()
				if s := tr.load(); s.Name != StateConnected || s.Since != time.Now() || s.Error != "" || s.Reason != "" || s.TLI != 2 {
					t.Errorf("verified: %+v", s)
				}
				tr.end(t.Context(), errors.New("the connection broke"))
				if s := tr.load(); s.Name != StateConnecting || s.Error != "the connection broke" {
					t.Errorf("afterwards: %+v", s)
				}
			})
		})
	}
}

func TestStateOfAStream(t *testing.T) {
	tr := newTracker()
	if s := tr.load(); s.Name != StateStopped {
		t.Errorf("got %+v", s)
	}
	tr.begin()
	tr.connected(source(nil), 2)
	if s := tr.load(); s.Name != StateConnected || s.TLI != 2 || s.SourceEnd != source(nil).Flush || s.Error != "" {
		t.Errorf("got %+v", s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tr.end(ctx, errStop)
	if s := tr.load(); s.Name != StateStopped || s.TLI != 0 || s.SourceEnd != 0 || s.Error != "" || s.Source.SystemID == 0 {
		t.Errorf("got %+v", s)
	}
}
