package timeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/wal"
)

// SealResult is what a seal answers.
type SealResult struct {
	Seal
	// Warning is for the operator; "" when there is none.
	Warning string
}

// Seal promises, durably, never again to acknowledge the newest TLI, and decides
// its end: the record end of what is held. The receiver leaves the source first,
// so that nothing is acknowledged that the end does not know. Sealing again
// answers the same end.
//
// Where commits wait for other servers than this node, its word is not enough:
// the error says which server to promote instead, unless acceptDataLoss.
func (t *Timeline) Seal(ctx context.Context, acceptDataLoss bool) (SealResult, error) {
	l := t.Log()
	if l == nil {
		return SealResult{}, ErrEmpty
	}
	if err := t.stopReceiving(ctx); err != nil {
		return SealResult{}, err
	}
	defer t.endSealing()
	tli := l.Position().TLI
	c := t.Control()
	if seal, ok := c.SealOf(tli); ok {
		return SealResult{Seal: seal, Warning: sealWarning(seal, c.QuorumOf(tli))}, nil
	}
	q := c.QuorumOf(tli)
	if err := q.SealableAlone(t.cfg.NodeID); err != nil && !acceptDataLoss {
		return SealResult{}, &UnsealableError{TLI: tli, Err: err}
	}
	seal, err := t.decide(ctx, tli, acceptDataLoss)
	if err != nil {
		return SealResult{}, err
	}
	t.wake.Ring(ReasonRequest)
	return SealResult{Seal: seal, Warning: sealWarning(seal, q)}, nil
}

// UnsealableError says that this node's word is not enough to seal a TLI.
type UnsealableError struct {
	TLI pg.TLI
	Err error
}

// Error implements error.
func (e *UnsealableError) Error() string { return fmt.Sprintf("cannot seal TLI %d: %v", e.TLI, e.Err) }

// Unwrap returns why.
func (e *UnsealableError) Unwrap() error { return e.Err }

func sealWarning(s Seal, q Quorum) string {
	switch {
	case s.DataLossAccepted:
		return "sealed with --accept-data-loss: commits that other standbys acknowledged may be missing"
	case !q.Synchronous:
		return "the source's synchronous_standby_names did not name this node: commits may be missing"
	}
	return ""
}

// decide makes the end durable. The receiver is away: what it appended is
// synced, or is not counted. Behind pg_switch_wal the end is the segment's, as a
// promoted server has it.
func (t *Timeline) decide(ctx context.Context, tli pg.TLI, accepted bool) (Seal, error) {
	if err := t.Log().FillSwitched(); err != nil && !errors.Is(err, wal.ErrPoisoned) {
		return Seal{}, fmt.Errorf("seal TLI %d: %w", tli, err)
	}
	seal := Seal{TLI: tli, End: t.Log().Stats().CommitEnd, At: t.cfg.now().UTC(), DataLossAccepted: accepted}
	if seal.End == 0 {
		return Seal{}, fmt.Errorf("seal TLI %d: no complete record is held: %w", tli, ErrEmpty)
	}
	err := t.update(ctx, func(c *Control) error {
		c.Seals = append(c.Seals, seal)
		return nil
	})
	if err != nil {
		return Seal{}, fmt.Errorf("seal TLI %d: %w", tli, err)
	}
	return seal, nil
}

// stopReceiving makes the manager's plan stop the receiver, and waits for its
// end.
func (t *Timeline) stopReceiving(ctx context.Context) error {
	t.mu.Lock()
	t.sealing++
	receiving := t.receiving
	t.mu.Unlock()
	t.wake.Ring(ReasonRequest)
	if receiving == nil {
		return nil
	}
	select {
	case <-receiving:
		return nil
	case <-ctx.Done():
		t.endSealing()
		return fmt.Errorf("wait for the receiver to leave the source: %w", context.Cause(ctx))
	case <-t.ctx.Done():
		t.endSealing()
		return fmt.Errorf("%w: %w", ErrShuttingDown, context.Cause(t.ctx))
	}
}

func (t *Timeline) endSealing() {
	t.mu.Lock()
	t.sealing--
	t.mu.Unlock()
	t.wake.Ring(ReasonRequest)
}

var (
	// ErrNotSealed says that there is no seal to take back.
	ErrNotSealed = errors.New("timeline is not sealed")
	// ErrTailServed says that somebody may have promoted from the sealed tail.
	ErrTailServed = errors.New("the sealed tail was handed out: a server may have been promoted from it")
)

// Unseal takes the seal of the newest TLI back: its commits are acknowledged
// again. It is refused with ErrTailServed once the tail was handed out, unless
// forced.
func (t *Timeline) Unseal(ctx context.Context, force bool) (Seal, error) {
	tli := t.tli()
	var taken Seal
	err := t.update(ctx, func(c *Control) error {
		seal, ok := c.SealOf(tli)
		if !ok {
			return ErrNotSealed
		}
		if seal.TailServed && !force {
			return fmt.Errorf("unseal TLI %d: %w; look for that server first, then use --force", tli, ErrTailServed)
		}
		taken = seal
		c.Seals = removeSeal(c.Seals, tli)
		return nil
	})
	if err == nil {
		t.wake.Ring(ReasonRequest)
	}
	return taken, err
}

func removeSeal(seals []Seal, tli pg.TLI) []Seal {
	kept := seals[:0]
	for _, s := range seals {
		if s.TLI != tli {
			kept = append(kept, s)
		}
	}
	return kept
}

// MarkTailServed makes durable that a sealed tail is about to be handed out. It
// is called before the first byte.
func (t *Timeline) MarkTailServed(ctx context.Context, tli pg.TLI) error {
	return t.update(ctx, func(c *Control) error { return markTailServed(c, tli) })
}

func markTailServed(c *Control, tli pg.TLI) error {
	for i := range c.Seals {
		if c.Seals[i].TLI != tli {
			continue
		}
		if c.Seals[i].TailServed {
			return errNoChange
		}
		c.Seals[i].TailServed = true
		return nil
	}
	return ErrNotSealed
}
