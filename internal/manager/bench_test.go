package manager

import (
	"context"
	"crypto/sha256"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/timeline"
)

// BenchmarkWakeToPlan is how long it takes from a change of the timeline's state to
// the manager's plan for it: in a process that does nothing else, and in one where
// more goroutines compute, all the time, than there are processors.
func BenchmarkWakeToPlan(b *testing.B) {
	b.Run("idle process", func(b *testing.B) { wakeToPlan(b, 0) })
	b.Run("busy process", func(b *testing.B) { wakeToPlan(b, 2*runtime.GOMAXPROCS(0)) })
}

func wakeToPlan(b *testing.B, busy int) {
	ctx, cancel := context.WithCancel(b.Context())
	w := newWorld()
	planned := make(chan time.Time, 1)
	m := New(w, bodies(nil), Config{Seed: 1, Events: Events{
		Planned: func(ctx context.Context, p Planned) context.Context {
			if p.Reasons.Has(timeline.ReasonRequest) {
				planned <- time.Now()
			}
			return ctx
		},
	}})
	var running sync.WaitGroup
	running.Go(func() { _ = m.Run(ctx) })
	for range busy {
		running.Go(func() {
			block := make([]byte, 64<<10)
			for ctx.Err() == nil {
				sum := sha256.Sum256(block)
				copy(block, sum[:])
			}
		})
	}
	var took []time.Duration
	for b.Loop() {
		begun := time.Now()
		w.change(func(*timeline.Snapshot) {})
		took = append(took, (<-planned).Sub(begun))
	}
	cancel()
	running.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
}
