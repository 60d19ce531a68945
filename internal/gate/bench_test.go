package gate

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"
)

// BenchmarkEnterLeave compares an entry that is named with what lets somebody in
// and knows no names: the usual lock, a lock around a number, the semaphore whose
// permits a close would take all (Neon's gate), and a group that is only waited
// for. TestEnterAndLeaveAllocateNothing holds what is allocated.
//
//	go test ./internal/gate -run '^$' -bench EnterLeave -cpu 1,2 -count 5
func BenchmarkEnterLeave(b *testing.B) {
	for _, c := range []struct {
		name string
		make func(b *testing.B) func()
	}{
		{"gate", func(b *testing.B) func() { return visits(b, &Hooks{Clock: NewClock()}) }},
		{"gate/exact-clock", func(b *testing.B) func() { return visits(b, nil) }},
		{"gate/told", func(b *testing.B) func() {
			return visits(b, &Hooks{Clock: NewClock(), Events: Events{Left: func(Exit) {}}})
		}},
		{"gate/counted", func(b *testing.B) func() {
			counts := new(Counts)
			return visits(b, &Hooks{Clock: NewClock(), Events: Events{
				Counts: func(string) *Counts { return counts }, Left: func(Exit) {}, LongStay: time.Second,
			}})
		}},
		{"rwmutex", func(*testing.B) func() {
			var mu sync.RWMutex
			return func() {
				mu.RLock()
				mu.RUnlock() //nolint:staticcheck // the empty section is what is measured
			}
		}},
		{"mutex-counter", func(*testing.B) func() {
			var mu sync.Mutex
			var inside int
			return func() {
				mu.Lock()
				inside++
				mu.Unlock()
				mu.Lock()
				inside--
				mu.Unlock()
			}
		}},
		{"semaphore", func(*testing.B) func() {
			s := semaphore.NewWeighted(1 << 30)
			return func() {
				if s.TryAcquire(1) {
					s.Release(1)
				}
			}
		}},
		{"waitgroup", func(*testing.B) func() {
			var group sync.WaitGroup
			return func() {
				group.Add(1)
				group.Done()
			}
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			visit := c.make(b)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					visit()
				}
			})
		})
	}
}

// visits is one holder after the other.
func visits(b *testing.B, hooks *Hooks) func() {
	g := New(Config{Hooks: hooks})
	ctx := b.Context()
	return func() {
		pass, err := g.Enter(ctx, "request")
		if err != nil {
			b.Error(err)
		}
		pass.Leave()
	}
}

func BenchmarkRefused(b *testing.B) {
	g := New(Config{Hooks: &Hooks{Clock: NewClock()}})
	if err := g.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Enter(b.Context(), "request"); err == nil {
			b.Fatal("entered a closed gate")
		}
	}
}

func BenchmarkHoldersOfTen(b *testing.B) {
	g := New(Config{})
	for range 10 {
		if _, err := g.Enter(b.Context(), "request"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if len(g.Holders()) != 10 {
			b.Fatal("a holder is missing")
		}
	}
}
