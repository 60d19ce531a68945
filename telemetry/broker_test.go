package telemetry

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/broker"
	"github.com/sluicewal/sluice/internal/manager"
)

// A peer that floods this node with rubbish must not flood its log.
func TestRejectionsAreLoggedOnceAMinute(t *testing.T) {
	tel, log := start(t, Config{})
	e := tel.BrokerEvents()
	for range 100 {
		e.Rejected(t.Context(), broker.Rejection{Reason: broker.Malformed, Node: "b", Err: errors.New("short")})
		e.Rejected(t.Context(), broker.Rejection{Reason: broker.Late, Node: "b"})
	}
	e.Rejected(t.Context(), broker.Rejection{Reason: broker.Malformed, Node: "c", Err: errors.New("short")})
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("%d lines, want one for each of two peers:\n%s", n, log)
	}
}

func TestOffloaderChangeIsSaid(t *testing.T) {
	tel, log := start(t, Config{})
	tel.ManagerEvents(acme).OffloaderChanged(t.Context(), manager.OffloaderChange{From: "b", To: "a", Mine: true, Why: manager.WhyPresentSilent})
	for _, want := range []string{`"from":"b"`, `"to":"a"`, `"why":"present_silent"`, `"timeline":"main"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not have %s: %s", want, log)
		}
	}
}

// rounds has each event of a broker happen once.
func rounds(t *testing.T, e broker.Events) {
	t.Helper()
	e.Connected(t.Context(), broker.Connection{Up: true})
	e.Connected(t.Context(), broker.Connection{Err: errors.New("closed")})
	e.PeerChanged(t.Context(), broker.PeerChange{Node: "b"})
	e.PeerChanged(t.Context(), broker.PeerChange{Node: "b", Silent: true})
	e.RoundEnded(t.Context(), broker.Round{Kind: broker.RoundActive, Timelines: 2, Messages: 1, Bytes: 100, Duration: time.Second})
}
