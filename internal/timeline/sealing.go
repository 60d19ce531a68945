package timeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluicewal/sluice/internal/pg"
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
	if t.HoldsNothing() {
		// A node with a new disk, which knows from object storage what was decided.
		if seal, ok := t.Control().SealOf(t.Held().Position.TLI); ok {
			return SealResult{Seal: seal, Warning: t.Control().sealWarning(seal)}, nil
		}
		return SealResult{}, ErrEmpty
	}
	end, err := t.replaceReceiver(ctx)
	if err != nil {
		return SealResult{}, err
	}
	defer end()
	tli := l.Position().TLI
	if seal, ok := t.Control().SealOf(tli); ok {
		return SealResult{Seal: seal, Warning: t.Control().sealWarning(seal)}, nil
	}
	alone := t.sealableAlone(tli)
	if alone != nil && !acceptDataLoss {
		return SealResult{}, &UnsealableError{TLI: tli, Err: alone}
	}
	seal, err := t.decide(ctx, tli, alone != nil, acceptDataLoss)
	if err != nil {
		return SealResult{}, fmt.Errorf("seal TLI %d: %w", tli, err)
	}
	return SealResult{Seal: seal, Warning: t.Control().sealWarning(seal)}, nil
}

// sealableAlone reports whether this node's word is enough to seal a TLI, and if
// not, why.
func (t *Timeline) sealableAlone(tli pg.TLI) error {
	switch c := t.Control(); {
	case c.Away:
		return errors.New("this node has left the source, and came not back to it since: commits may be missing; promote another server, or seal with --accept-data-loss")
	case !t.Qualified():
		return fmt.Errorf("this node is still joining: it holds WAL up to %s, and the source was at %s when it came, so that commits are missing; "+
			"let it catch up, or seal with --accept-data-loss", t.Log().Flushed().LSN, c.JoinLSN)
	}
	return t.Control().QuorumOf(tli).SealableAlone(t.cfg.NodeID)
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

func (c Control) sealWarning(s Seal) string {
	q, read := quorumOf(c.Quorums, s.TLI)
	switch {
	case s.DataLossAccepted:
		return "sealed with --accept-data-loss: commits that other standbys acknowledged may be missing"
	case !read:
		return "the source's synchronous_standby_names were never read on this TLI: commits may be missing"
	case !q.Synchronous:
		return "the source's synchronous_standby_names did not name this node: commits may be missing"
	}
	return ""
}

// decide makes the end durable. Where the nodes meet in object storage it is
// decided there: the promise is made durable first, because from the decision on
// nothing more may be acknowledged, whatever becomes of this process.
func (t *Timeline) decide(ctx context.Context, tli pg.TLI, lossy, insist bool) (Seal, error) {
	if err := t.unclean(ctx); err != nil {
		return Seal{}, err
	}
	end, err := t.finalEnd()
	if err != nil {
		return Seal{}, err
	}
	seal := Seal{TLI: tli, End: end, At: t.cfg.now().UTC(), DataLossAccepted: lossy}
	if seal, err = t.decideTogether(ctx, seal, insist); err != nil {
		return Seal{}, err
	}
	return seal, t.update(ctx, func(c *Control) error {
		c.Promised = 0
		c.Seals = append(removeSeal(c.Seals, tli), seal)
		return nil
	})
}

// UndecidedError says that a TLI is never again acknowledged, and that its end
// could not be decided.
type UndecidedError struct {
	TLI pg.TLI
	Err error
}

// Error implements error.
func (e *UndecidedError) Error() string {
	return fmt.Sprintf("TLI %d is not acknowledged any more, but its end must be decided in object storage, and that failed (%v): "+
		"seal again once it can be reached, or, if no other node can decide, with --accept-data-loss", e.TLI, e.Err)
}

// Unwrap returns why.
func (e *UndecidedError) Unwrap() error { return e.Err }

// decideTogether asks where the nodes meet. If that cannot be asked, an operator's
// word lets this node decide alone, and object storage hears of it later.
func (t *Timeline) decideTogether(ctx context.Context, seal Seal, insist bool) (Seal, error) {
	if t.cfg.DecideSeal == nil {
		return seal, nil
	}
	err := t.update(ctx, func(c *Control) error {
		c.Promised = seal.TLI
		return nil
	})
	if err != nil {
		return Seal{}, err
	}
	decided, err := t.cfg.DecideSeal(ctx, seal)
	switch {
	case err == nil:
		return decided, nil
	case errors.Is(err, ErrEnded):
		return Seal{}, err // nobody will ever ask for it there
	case !insist:
		return Seal{}, &UndecidedError{TLI: seal.TLI, Err: err}
	}
	seal.Undelivered, seal.DataLossAccepted = true, true
	return seal, nil
}

// finalEnd returns the record end of what is durable. The receiver is away: what
// it appended is synced, or is not counted. Behind pg_switch_wal that is the
// segment's end, as a promoted server has it, and the log is filled up to there:
// an end above what is durable could never be served.
func (t *Timeline) finalEnd() (pg.LSN, error) {
	l := t.Log()
	err := l.Recover()
	if err == nil {
		_, err = l.Sync()
	}
	if err == nil {
		err = l.FillSwitched()
	}
	if err == nil && l.Stats().CommitEnd > l.Stats().Flush.LSN {
		err = errors.New("the segment behind a switch is not filled")
	}
	switch s := l.Stats(); {
	case s.CommitEnd == 0:
		return 0, fmt.Errorf("no complete record is held: %w", ErrEmpty)
	case s.CommitEnd > s.Flush.LSN:
		return 0, fmt.Errorf("the end would be %s, and only %s is durable: %w", s.CommitEnd, s.Flush.LSN, err)
	default:
		return s.CommitEnd, nil // whatever failed, what was vouched for is there
	}
}

// replaceReceiver makes the manager's plan stop the receiver, waits for its end,
// and is the log's writer in its place until end is called.
func (t *Timeline) replaceReceiver(ctx context.Context) (end func(), err error) {
	t.setSealing(+1)
	for {
		t.mu.Lock()
		leave, busy := t.enterLogLocked()
		t.mu.Unlock()
		if busy == nil {
			return func() { leave(); t.setSealing(-1) }, nil
		}
		select {
		case <-busy:
			continue
		case <-ctx.Done():
			err = fmt.Errorf("wait for the receiver to leave the source: %w", context.Cause(ctx))
		case <-t.ctx.Done():
			err = fmt.Errorf("%w: %w", ErrShuttingDown, context.Cause(t.ctx))
		}
		t.setSealing(-1)
		return nil, err
	}
}

// setSealing counts who decides a seal, and tells the manager.
func (t *Timeline) setSealing(change int) {
	t.mu.Lock()
	t.sealing += change
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
		if !ok && c.Promised != 0 && c.Promised == tli {
			taken, c.Promised = Seal{TLI: tli}, 0
			return nil
		}
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

// MarkTailServed makes durable that the tail of a seal is about to be handed out,
// or its end to be told. It is called before the first byte. It is ErrNotSealed
// if that seal was taken back since, also where there is another by now, whose
// end is higher.
func (t *Timeline) MarkTailServed(ctx context.Context, s Seal) error {
	return t.update(ctx, func(c *Control) error { return markTailServed(c, s) })
}

func markTailServed(c *Control, s Seal) error {
	for i := range c.Seals {
		if c.Seals[i].TLI != s.TLI || c.Seals[i].End != s.End {
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
