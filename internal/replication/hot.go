package replication

import (
	"runtime"
	"sync"
)

// hot counts the streams that block a thread each. They share what the process has, and so this is the package's.
var hot heat

// heat lets a few streams block threads, and sees to it that this does not block others.
type heat struct {
	mu sync.Mutex
	n  int // guarded by mu
}

// maxHot is how many streams may block a thread; beyond it, threads would cost more than they save.
func maxHot() int { return 2 * runtime.NumCPU() }

// enter lets one in, if there is room.
//
// Each needs a P of the scheduler's that is its own: a P that is inside a system call when others are waiting is taken away, and
// the thread that comes back has to be woken by another. Measured on two cores, with one stream: GOMAXPROCS=1 had 0.87 of the
// commits, at two and a half times the CPU; more than two cost nothing. It is never lowered again.
func (h *heat) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n >= maxHot() {
		return false
	}
	h.n++
	if want := h.n + 1; runtime.GOMAXPROCS(0) < want {
		runtime.GOMAXPROCS(want)
	}
	return true
}

func (h *heat) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n--
}
