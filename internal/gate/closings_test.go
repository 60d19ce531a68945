package gate

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

// TestClosingsAreTheGatesThatClose from the first moment of a Close to the last, also of one that was given up.
func TestClosingsAreTheGatesThatClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closings := &Closings{}
		hooks := &Hooks{Closings: closings}
		open, closing := New(Config{Name: "open", Hooks: hooks}), New(Config{Name: "closing", Hooks: hooks})
		_, err := open.Enter(t.Context(), "visitor")
		if err != nil {
			t.Fatal(err)
		}
		pass, err := closing.Enter(t.Context(), "visitor")
		if err != nil {
			t.Fatal(err)
		}
		listed := func(when string, want ...*Gate) {
			t.Helper()
			if all := closings.All(); !slices.Equal(all, want) {
				t.Errorf("%s: %d gates are listed, want %d", when, len(all), len(want))
			}
		}
		listed("nobody closes")

		patient := make(chan error, 1)
		go func() { patient <- closing.Close(t.Context()) }()
		synctest.Wait()
		listed("a close waits", closing)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := closing.Close(gone); err == nil {
			t.Error("it is closed with somebody inside")
		}
		listed("another gave up", closing)
		pass.Leave()
		if err := <-patient; err != nil {
			t.Error(err)
		}
		if n := len(closings.gates); n != 0 {
			t.Errorf("it is closed, and %d gates are kept", n)
		}
		listed("it is closed")
		if err := closing.Close(t.Context()); err != nil {
			t.Error(err)
		}
		listed("it is closed twice")
	})
}

// TestClosingsForgetAGateThatClosesUnseen: its Close was given up, and nobody waited for the last one inside.
func TestClosingsForgetAGateThatClosesUnseen(t *testing.T) {
	closings := &Closings{}
	g := New(Config{Hooks: &Hooks{Closings: closings}})
	pass, err := g.Enter(t.Context(), "visitor")
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Close(gone); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if n := len(closings.All()); n != 1 {
		t.Errorf("%d gates are listed", n)
	}
	pass.Leave()
	if n := len(closings.All()); n != 0 || len(closings.gates) != 0 {
		t.Errorf("%d gates are listed, %d kept", n, len(closings.gates))
	}
}
