package replication

import (
	"runtime"
	"sync"
	"time"
)

// hot counts the threads that streams block in system calls. All streams share what the process has, and so this is the package's.
var hot heat

// heat lets streams block threads, and sees to it that this does not hold others up.
type heat struct {
	mu      sync.Mutex
	threads int // guarded by mu
}

// maxHot is how many threads live streams may block; beyond it, they would cost more than they save.
func maxHot() int { return 2 * runtime.NumCPU() }

// enter lets a live stream block a thread, if there is room.
func (h *heat) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.threads >= maxHot() {
		return false
	}
	h.addLocked(1)
	return true
}

// add notes that n threads more, or less, are blocked.
func (h *heat) add(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.addLocked(n)
}

// addLocked gives each blocked thread a P of the scheduler's for itself, and leaves one for everybody else. Where there is none,
// the scheduler takes a P away from whoever stays in a system call for 20 us, and a thread that comes back has to be woken by
// another. Measured with one live stream: with one P it had 0.87 of the commits, at two and a half times the CPU; more than
// are needed cost nothing. It is never lowered again, since each change stops the world.
func (h *heat) addLocked(n int) {
	h.threads += n
	if want := min(h.threads, maxHot()) + 1; n > 0 && runtime.GOMAXPROCS(0) < want {
		runtime.GOMAXPROCS(want)
	}
}

// yieldEvery is how often a goroutine that is in system calls most of the time has to let others have its P.
const yieldEvery = 7 * time.Millisecond

// turns is what such a goroutine remembers. One that never parks looks to the scheduler, after 10 ms, as if it had been in one
// long system call: its P is then taken away in each call that lasts longer than 20 us, which doubles the context switches and
// keeps the scheduler's monitor awake. To yield each time would cost as much.
type turns struct{ yieldedAt time.Time }

// yield is called after each system call.
func (t *turns) yield() {
	if now := time.Now(); now.Sub(t.yieldedAt) >= yieldEvery {
		t.yieldedAt = now
		runtime.Gosched()
	}
}
