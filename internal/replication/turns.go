package replication

import (
	"context"
	"time"
)

const (
	// turnsAtOnce is how many connects have a turn at the same time. One that is answered works for a millisecond or two, with a
	// password that is hashed for some more, and waits for the rest of its time: a few dozen keep all cores busy, and the others of a
	// hundred wait for networks.
	turnsAtOnce = 128
	// turnLasts is how long a connect has its turn, at most. One that is still not answered costs nothing but memory, less than it
	// will once it is connected, so that it waits on beside the others.
	turnLasts = 100 * time.Millisecond
)

// Turns are shared by all receivers of a node, so that thousands of timelines which lost their sources at the same time, or were
// started at the same time, do not all connect at once. Who comes first has the first turn.
//
// Hosts that swallow what is sent to them keep nobody out for long: whoever is in line behind n others waits for n/128 * 100 ms,
// if not one of them is answered. Ten thousand of them hold up a source that would answer for 8 s, less than one of them takes to
// be given up ([Config.ConnectTimeout]), and a thousand for less than a second. With pauses of up to 5 s between their attempts,
// ten thousand ask for 730 turns a second, and 1280 are to be had: only once is there a line.
//
// The zero value is not usable; nil Turns make nobody wait.
type Turns struct {
	taken chan struct{} // who waits to send has the next place, in the order of coming: the language's runtime sees to that
}

// NewTurns returns turns that nobody has taken.
func NewTurns() *Turns { return &Turns{taken: make(chan struct{}, turnsAtOnce)} }

// take waits for a turn, and tells that it does if it has to. The turn ends when it is given back, or by itself.
func (t *Turns) take(ctx context.Context, waits func() (ended func())) (giveBack func(), err error) {
	if t == nil {
		return func() {}, nil
	}
	select {
	case t.taken <- struct{}{}:
	default:
		defer waits()()
		select {
		case t.taken <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	ends := time.AfterFunc(turnLasts, t.end)
	return func() {
		if ends.Stop() {
			t.end()
		}
	}, nil
}

func (t *Turns) end() { <-t.taken }

// inTurn connects when it is our turn.
func inTurn(ctx context.Context, cfg Config, applicationName string, waits func() (ended func())) (*link, error) {
	giveBack, err := cfg.Turns.take(ctx, waits)
	if err != nil {
		return nil, err
	}
	defer giveBack()
	return connect(ctx, cfg, applicationName)
}
