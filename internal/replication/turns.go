package replication

import (
	"context"
	"time"
)

const (
	// turnsAtOnce is how many connects have a turn at the same time: more than there are cores, because a connect waits for the
	// network most of the time, and few enough for their passwords to be hashed, and their TLS to begin, within turnLasts.
	turnsAtOnce = 128
	// turnLasts is how long a connect has its turn, at most. One that is not answered by then computes nothing: it waits on beside
	// the others.
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

// Take waits for a turn, and tells that it does if it has to. The turn ends when it is given back, or by itself. The error is the
// cause of ctx.
func (t *Turns) Take(ctx context.Context, waits func() (ended func())) (giveBack func(), err error) {
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
	giveBack, err := cfg.Turns.Take(ctx, waits)
	if err != nil {
		return nil, err
	}
	defer giveBack()
	return connect(ctx, cfg, applicationName)
}
