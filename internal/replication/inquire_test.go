package replication

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestInquiryComesFirst: before the source is asked anything, and before the sink is asked what it holds, once for each connect.
func TestInquiryComesFirst(t *testing.T) {
	asked := 0
	err := session(t, func(f *fakeSource, sink *memSink, cfg *Config) {
		cfg.Inquire = func(context.Context) error {
			asked++
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.commands) > 0 {
				t.Errorf("the source was asked before: %q", f.commands)
			}
			sink.held.Seal = &Seal{TLI: 1, End: base} // another node has sealed
			return nil
		}
	})
	if refused := new(RefusedError); !errors.As(err, &refused) || refused.Reason != Sealed || asked != 1 {
		t.Errorf("asked %d times; got %v", asked, err)
	}
}

// TestInquiryThatFailsEndsTheSession, with nothing changed on the source.
func TestInquiryThatFailsEndsTheSession(t *testing.T) {
	failed := errors.New("the store is away")
	err := session(t, func(f *fakeSource, _ *memSink, cfg *Config) {
		f.slot = 0
		cfg.Inquire = func(context.Context) error { return failed }
		t.Cleanup(func() {
			if len(f.commands) > 0 {
				t.Errorf("the source was asked %q", f.commands)
			}
		})
	})
	if !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
}

// TestNobodyInquiresForASourceThatRefuses the connection, or the user.
func TestNobodyInquiresForASourceThatRefuses(t *testing.T) {
	err := session(t, func(_ *fakeSource, _ *memSink, cfg *Config) {
		cfg.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") }
		cfg.Inquire = func(context.Context) error {
			t.Error("asked")
			return nil
		}
	})
	if err == nil {
		t.Error("no error")
	}
}

// TestStateTellsOfAnInquiry that lasts.
func TestStateTellsOfAnInquiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSource(t)
		cfg := f.config()
		told := make(chan struct{})
		cfg.Inquire = func(context.Context) error { <-told; return errors.New("no") }
		r, err := NewReceiver(cfg, holding(base))
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- r.Run(t.Context()) }()
		time.Sleep(time.Second)
		if s := r.State(); s.Name != StateConnecting || s.WaitsFor != WaitsForDecisions {
			t.Errorf("state %+v", s)
		}
		close(told)
		if err := <-ended; err == nil {
			t.Error("no error")
		}
		if s := r.State(); s.WaitsFor != WaitsForNothing {
			t.Errorf("state %+v", s)
		}
		f.end()
	})
}
