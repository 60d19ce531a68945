package telemetry

import (
	"sync"
	"testing"

	"github.com/sluicewal/sluice/internal/gate"
)

// BenchmarkGateOfANode is one entry and one leave with all that a node has joined to its gates, beside the usual lock.
//
//	go test ./telemetry -run '^$' -bench GateOfANode -cpu 1 -count 5
func BenchmarkGateOfANode(b *testing.B) {
	b.Run("gate", func(b *testing.B) {
		tel, err := Start(b.Context(), Config{LogOutput: b.Output()})
		if err != nil {
			b.Fatal(err)
		}
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
	})
	b.Run("rwmutex", func(b *testing.B) {
		var mu sync.RWMutex
		for b.Loop() {
			mu.RLock()
			mu.RUnlock() //nolint:staticcheck // the empty section is what is measured
		}
	})
}
