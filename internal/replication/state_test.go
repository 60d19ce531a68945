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
