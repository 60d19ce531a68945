package gate

import (
	"runtime"
	"testing"
	"time"
	"unsafe"
)

// TestIdleGateIsSmall: there is one for each object, used or not.
func TestIdleGateIsSmall(t *testing.T) {
	const limit = 64
	if size := unsafe.Sizeof(Gate{}); size > limit {
		t.Errorf("a gate has %d bytes", size)
	}
	hooks := &Hooks{Clock: NewClock()}
	gates := make([]*Gate, 100_000)
	before := heap()
	for i := range gates {
		gates[i] = New(Config{Kind: "timeline", Name: "acme/main", Hooks: hooks})
	}
	each := float64(heap()-before) / float64(len(gates))
	t.Logf("%.1f bytes each", each)
	if each > limit {
		t.Errorf("an idle gate has %.1f bytes on the heap", each)
	}
	runtime.KeepAlive(gates)
}

// heap is how much of it is in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestSeatIsACacheLine: two in one would slow each other's holders down.
func TestSeatIsACacheLine(t *testing.T) {
	g := New(Config{})
	mustEnter(t, g, "first").Leave()
	seats := g.room.Load().seats
	if size := unsafe.Sizeof(seats[0]); size != 64 {
		t.Errorf("a seat has %d bytes", size)
	}
	if at := uintptr(unsafe.Pointer(&seats[0])); at%64 != 0 {
		t.Errorf("the seats begin at %#x", at)
	}
}

func TestEnterAndLeaveAllocateNothing(t *testing.T) {
	hooks := &Hooks{Clock: NewClock(), Events: Events{Left: func(Exit) {}}}
	counted := &Hooks{Clock: NewClock(), Events: Events{Counts: func(string) *Counts { return new(Counts) }, Left: func(Exit) {}, LongStay: time.Second}}
	for name, g := range map[string]*Gate{
		"bare": New(Config{}), "with hooks": New(Config{Hooks: hooks}), "counted": New(Config{Hooks: counted}),
	} {
		ctx := t.Context()
		mustEnter(t, g, "first").Leave()
		allocations := testing.AllocsPerRun(1000, func() {
			pass, err := g.Enter(ctx, "request")
			if err != nil {
				t.Fatal(err)
			}
			pass.Leave()
		})
		if allocations != 0 {
			t.Errorf("%s: %v allocations for one entry", name, allocations)
		}
	}
}
