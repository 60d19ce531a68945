package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
)

// outbox is an out that keeps whom it was given a message for.
type outbox struct {
	mu       sync.Mutex
	subjects []string // guarded by mu
}

func (*outbox) IsConnected() bool { return true }
func (*outbox) LastError() error  { return nil }
func (*outbox) MaxPayload() int64 { return maxMessageBytes }

func (o *outbox) Publish(subject string, _ []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.subjects = append(o.subjects, subject)
	return nil
}

func (o *outbox) has(subject string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.subjects, subject)
}

// TestNewsWaitsForNoRound: the next tick of the rounds is an hour away.
func TestNewsWaitsForNoRound(t *testing.T) {
	status := encode(1, active(numbered(1), 0x2000000))
	for _, c := range []struct {
		name   string
		before func(testing.TB, *Broker)
		comes  func(testing.TB, *Broker)
	}{
		{"a node that was not heard of", func(testing.TB, *Broker) {}, func(t testing.TB, b *Broker) { hand(t, b, status) }},
		{
			"an edge", func(t testing.TB, b *Broker) { hand(t, b, status) },
			func(_ testing.TB, b *Broker) { b.Tell(numbered(1)) },
		},
		{
			"the connection", func(t testing.TB, b *Broker) { hand(t, b, status) },
			func(_ testing.TB, b *Broker) { b.linked(Connection{Up: true}) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := New(Config{Node: "b", Interval: time.Hour}, newFake(active(numbered(1), 0x1000000)))
				c.before(t, b)
				b.forgetNews()
				var out outbox
				ctx, cancel := context.WithCancel(t.Context())
				var running sync.WaitGroup
				running.Go(func() { b.rounds(ctx, &out) })
				synctest.Wait()
				if out.has(Subject("a", "b")) {
					t.Error("a was told before there was news")
				}
				c.comes(t, b)
				synctest.Wait()
				if !out.has(Subject("a", "b")) {
					t.Error("a waits for the next round")
				}
				cancel()
				running.Wait()
			})
		})
	}
}

// forgetNews makes the broker one that has told all.
func (b *Broker) forgetNews() {
	b.takeEdges(RoundAll)
	select {
	case <-b.bell:
	default:
	}
}

// TestRefusalIsTold on the broker's own goroutine, whichever of NATS's learns of it; the same reason again is not news.
func TestRefusalIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []Rejection
		b := New(Config{Node: "b", Interval: time.Hour, Events: Events{
			Rejected: func(_ context.Context, r Rejection) { told = append(told, r) },
		}}, newFake())
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { b.rounds(ctx, &outbox{}) })
		refused, slow := errors.New("connection refused"), fmt.Errorf("reading: %w", nats.ErrSlowConsumer)
		b.unreachable(refused)
		b.unreachable(refused)
		b.trouble(slow)
		synctest.Wait()
		cancel()
		running.Wait()
		if want := []Rejection{{Reason: Refused, Err: refused}, {Reason: SlowConsumer, Err: slow}}; !slices.Equal(told, want) {
			t.Errorf("told was %v, want %v", told, want)
		}
	})
}
