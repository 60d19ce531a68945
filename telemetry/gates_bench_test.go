package telemetry

import (
	"context"
	"sync"
	"testing"

	"github.com/sluicewal/sluice/internal/gate"
)

// BenchmarkGateOfANode is one entry and one leave with all that a node has joined to its gates, beside the usual lock.
//
//	go test ./telemetry -run '^$' -bench GateOfANode -cpu 1 -count 5
func BenchmarkGateOfANode(b *testing.B) {
	b.Run("gate", func(b *testing.B) { enterAndLeave(b, Config{}) })
	b.Run("gate/traces", func(b *testing.B) { enterAndLeave(b, Config{OTLPEndpoint: "http://127.0.0.1:1"}) }) // where nothing is sent
	b.Run("rwmutex", func(b *testing.B) {
		var mu sync.RWMutex
		for b.Loop() {
			mu.RLock()
			mu.RUnlock() //nolint:staticcheck // the empty section is what is measured
		}
	})
}

func enterAndLeave(b *testing.B, cfg Config) {
	b.Helper()
	cfg.LogOutput = b.Output()
	tel, err := Start(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	g := gate.New(gate.Config{
		Kind: "timeline", Name: "acme/main", Hooks: &gate.Hooks{Events: tel.GateEvents(), Trace: tel.GateTrace(), Clock: gate.NewClock()},
	})
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		pass, err := g.Enter(ctx, "request")
		if err != nil {
			b.Fatal(err)
		}
		pass.Leave()
	}
}
