package timeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/gate"
)

type spanKey struct{}

// spanOf traces a context that was given a number.
func spanOf(ctx context.Context) gate.Trace {
	n, _ := ctx.Value(spanKey{}).(byte)
	return gate.Trace{TraceID: [16]byte{n}, SpanID: [8]byte{n}}
}

// inside are the texts of all that a tenant's gate has inside.
func inside(t *Tenant) string { return fmt.Sprint(t.NameHolders(t.Gate().Holders())) }

func enterFor(t *testing.T, tn *Tenant, ctx context.Context, client, file string) (leave func()) { //nolint:revive // the context is what differs
	t.Helper()
	leave, err := tn.EnterFor(WithClient(ctx, client), "wal_download", file)
	if err != nil {
		t.Fatal(err)
	}
	return leave
}

// TestHoldersAreKnownByWhatTheyWant: each by its own, whether they are traced or not, whoever came or left in between.
func TestHoldersAreKnownByWhatTheyWant(t *testing.T) {
	for name, trace := range map[string]func(context.Context) gate.Trace{"traced": spanOf, "not traced": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tn := NewTenant(t.Context(), "acme", gate.Config{Kind: "tenant", Name: "acme", Hooks: &gate.Hooks{Trace: trace}})
				var leave []func()
				for i := byte(1); i <= 3; i++ {
					other, err := tn.Enter(t.Context(), "receive") // nobody knows more of it
					if err != nil {
						t.Fatal(err)
					}
					defer other.Leave()
					time.Sleep(10 * time.Millisecond) // holders of one moment are listed by their kinds
					ctx := context.WithValue(t.Context(), spanKey{}, i)
					leave = append(leave, enterFor(t, tn, ctx, fmt.Sprintf("192.0.2.%d:1", i), fmt.Sprintf("file%d", i)))
					time.Sleep(10 * time.Millisecond)
				}
				want := "[receive wal_download of file1 for 192.0.2.1:1 receive wal_download of file2 for 192.0.2.2:1 receive wal_download of file3 for 192.0.2.3:1]"
				if got := inside(tn); got != want {
					t.Errorf("inside are %s\nwant       %s", got, want)
				}
				leave[1]()
				want = "[receive wal_download of file1 for 192.0.2.1:1 receive receive wal_download of file3 for 192.0.2.3:1]"
				if got := inside(tn); got != want {
					t.Errorf("inside are %s\nwant       %s", got, want)
				}
				leave[0]()
				leave[2]()
				if got := inside(tn); got != "[receive receive receive]" || len(tn.visits.list()) != 0 {
					t.Errorf("all have left, and inside are %s, known are %d", got, len(tn.visits.list()))
				}
			})
		})
	}
}

// TestShutdownThatGivesUpNamesWhoIsInside, as the status does: the log of a node that has exited is all there is.
func TestShutdownThatGivesUpNamesWhoIsInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := NewTenant(t.Context(), "acme", gate.Config{Kind: "tenant", Name: "acme"})
		other, err := tn.Enter(t.Context(), "receive")
		if err != nil {
			t.Fatal(err)
		}
		defer other.Leave()
		time.Sleep(10 * time.Millisecond)
		defer enterFor(t, tn, t.Context(), "192.0.2.1:1", "file1")()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = tn.Shutdown(ctx, ErrShuttingDown)
		const want = "held by receive (1.01s), wal_download of file1 for 192.0.2.1:1 (1s): context deadline exceeded"
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("the error is %v\nand should end with %s", err, want)
		}
	})
}

// TestNobodyIsKnownOfWhoWasTurnedAway: what is kept goes with the passes, and does not grow.
func TestNobodyIsKnownOfWhoWasTurnedAway(t *testing.T) {
	tn := NewTenant(t.Context(), "acme", gate.Config{Kind: "tenant", Name: "acme"})
	if err := tn.Shutdown(t.Context(), ErrShuttingDown); err != nil {
		t.Fatal(err)
	}
	if _, err := tn.EnterFor(t.Context(), "wal_download", "file"); !errors.Is(err, ErrShuttingDown) {
		t.Errorf("entered a gate that is closed: %v", err)
	}
	if n := len(tn.visits.list()); n != 0 {
		t.Errorf("%d are known, and nobody is inside", n)
	}
}
