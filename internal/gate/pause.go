package gate

import "sync"

// pause lets the model test decide at each step on shared memory who goes next;
// nil but there. It is told when the step would not block; nil: always.
type pause func(ready func() bool)

// memory comes before an atomic operation.
func (p pause) memory() {
	if p != nil {
		p(nil)
	}
}

// lock comes before locking mu.
func (p pause) lock(mu *sync.Mutex) {
	if p == nil {
		return
	}
	p(func() bool {
		free := mu.TryLock()
		if free {
			mu.Unlock()
		}
		return free
	})
}

// wait comes before waiting for one of two channels.
func (p pause) wait(one, other <-chan struct{}) {
	if p == nil {
		return
	}
	p(func() bool {
		select {
		case <-one:
		case <-other:
		default:
			return false
		}
		return true
	})
}

// spin comes before looking again for the holder on the threshold of r.
func (p pause) spin(r *room) {
	if p == nil {
		return
	}
	p(func() bool {
		for i := range r.seats {
			if token(r.seats[i].token.Load()).is(taken) {
				return true
			}
		}
		return len(r.crowd.traces) > 0 || r.isClosed()
	})
}

// spinBusy comes before looking again at a seat that was busy.
func (p pause) spinBusy(s *seat) {
	if p == nil {
		return
	}
	p(func() bool { return !token(s.token.Load()).is(busy) })
}
