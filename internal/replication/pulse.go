package replication

import "time"

// pulseEvery is how often the source hears from us while the disk is slow. The shortest wal_sender_timeout in use is 1 s.
const pulseEvery = 300 * time.Millisecond

// pulse speaks for a goroutine that may be held up. Between arm and disarm, if that takes longer than pulseEvery, beat is
// called again and again, by another goroutine. So what beat uses belongs to that one from arm to disarm: ownership goes over
// and comes back, and nothing need be locked.
type pulse struct {
	beat  func() error
	timer *time.Timer
	stop  chan struct{} // takes the ownership back
	ended chan struct{} // is told when beating has ended
}

func newPulse(beat func() error) *pulse {
	p := &pulse{beat: beat, stop: make(chan struct{}), ended: make(chan struct{})}
	p.timer = time.AfterFunc(time.Hour, p.run)
	p.timer.Stop()
	return p
}

func (p *pulse) arm() { p.timer.Reset(pulseEvery) }

// disarm returns when nothing beats any more.
func (p *pulse) disarm() {
	if !p.timer.Stop() {
		p.stop <- struct{}{}
		<-p.ended
	}
}

// run beats until it is told to stop, or a beat fails: the owner finds that out when it next speaks.
func (p *pulse) run() {
	ticker := time.NewTicker(pulseEvery)
	defer ticker.Stop()
	err := p.beat()
	for {
		select {
		case <-p.stop:
			p.ended <- struct{}{}
			return
		case <-ticker.C:
			if err == nil {
				err = p.beat()
			}
		}
	}
}
