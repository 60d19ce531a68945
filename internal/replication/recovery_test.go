package replication

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

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
