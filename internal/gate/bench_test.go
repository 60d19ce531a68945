package gate

import (
	"sync"
	"testing"
)

// BenchmarkEnterLeave compares a named entry with what protects an object
// without saying who is inside.
func BenchmarkEnterLeave(b *testing.B) {
	ctx := b.Context()
	g := New(Config{})
	var rw sync.RWMutex
	var mu sync.Mutex
	var inside int
	for _, c := range []struct {
		name string
		once func()
	}{
		{"gate", func() {
			pass, err := g.Enter(ctx, "request")
			if err != nil {
				b.Error(err)
			}
			pass.Leave()
		}},
		{"rwmutex", func() {
			rw.RLock()
			rw.RUnlock() //nolint:staticcheck // the empty section is what is measured
		}},
		{"mutex+counter", func() {
			mu.Lock()
			inside++
			mu.Unlock()
			mu.Lock()
			inside--
			mu.Unlock()
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.once()
			}
		})
		b.Run(c.name+"/contended", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					c.once()
				}
			})
		})
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
