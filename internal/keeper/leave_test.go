package keeper

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/broker"
	"github.com/sluicewal/sluice/internal/timeline"
)

// TestLeavingIsToldAtOnce: the next round of all is an hour away, and no manager has anything to say.
func TestLeavingIsToldAtOnce(t *testing.T) {
	rounds := make(chan broker.Round, 100)
	next := func() broker.Round {
		t.Helper()
		select {
		case r := <-rounds:
			return r
		case <-time.After(20 * time.Second):
			t.Fatal("nothing is told")
			return broker.Round{}
		}
	}
	k := newHome(t).start(t, func(c *Config) {
		c.Broker = broker.Config{URL: broker.Embedded, ClusterListen: "127.0.0.1:0", Interval: time.Hour}
		c.Broker.Events.RoundEnded = func(_ context.Context, r broker.Round) { rounds <- r }
	})
	m := create(t, k, main1)
	receive(t, m, source(start+mib), start+1000)
	if r := next(); r.Kind != broker.RoundAll { // it is connected
		t.Errorf("the first round is %+v", r)
	}
	must(t, k.Leave(t.Context()))
	if r := next(); r.Kind != broker.RoundEdges || r.Timelines != 1 {
		t.Errorf("the round for what ends is %+v", r)
	}
	stop(t, k)
}

// unstartable is a broker's configuration that nobody can be reached with.
func unstartable(c *Config) {
	c.Broker = broker.Config{URL: broker.Embedded, ClusterListen: "no port"}
}

// TestLeavingIsDecidedByAtOnce: whoever goes looks whose turn it is now, and does not wait for the others' word.
func TestLeavingIsDecidedByAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newHome(t).start(t, unstartable)
		m := create(t, k, main1)
		time.Sleep(time.Minute)
		before := m.manager.Status().Iterations
		must(t, k.Leave(t.Context()))
		synctest.Wait()
		if s := m.manager.Status(); s.Iterations != before+1 || !s.LastReasons.Has(timeline.ReasonRequest) {
			t.Errorf("%d iterations, the last for %s", s.Iterations-before, s.LastReasons)
		}
		stop(t, k)
	})
}

// TestListeningBeginsAnewWithTheConnection: what was said before could not be heard, however long ago the node was made.
func TestListeningBeginsAnewWithTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{NodeID: "a"}
		unstartable(&cfg)
		var told []broker.Connection
		cfg.Broker.Events.Connected = func(_ context.Context, c broker.Connection) { told = append(told, c) }
		k := newKeeper(t.Context(), cfg)
		fromNow := func(what string) {
			t.Helper()
			if since := k.link.hearingSince(); !since.Equal(time.Now()) {
				t.Errorf("%s: the others are heard for %s", what, time.Since(since))
			}
		}
		fromNow("made")
		time.Sleep(time.Hour) // all is opened
		k.startBroker()
		fromNow("started")
		time.Sleep(time.Hour)
		for _, up := range []bool{true, false} {
			k.connected(t.Context(), broker.Connection{Up: up})
			fromNow("connected or lost")
			time.Sleep(time.Hour)
		}
		if len(told) != 2 || !told[0].Up || told[1].Up {
			t.Errorf("told was %+v", told)
		}
		must(t, k.stopBroker(t.Context()))
	})
}
