package replication

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Receiver streams from one source into one sink, session after session. It is made once for a timeline and a conninfo.
type Receiver struct {
	cfg     Config
	sink    Sink
	tracker *tracker

	// What a session leaves to the next. Owned by Run.
	recoverySince time.Time // since when the source is in recovery; zero if it was not when last seen
	invalidated   bool      // the source said that the slot is, which not every version tells beforehand
	lastPID       uint32    // the walsender of the last stream, which may not know yet that that ended
}

// NewReceiver checks the configuration. It starts nothing.
func NewReceiver(cfg Config, sink Sink) (*Receiver, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Receiver{cfg: cfg, sink: sink, tracker: newTracker()}, nil
}

// State is what the receiver is doing now. It takes no lock.
func (r *Receiver) State() State { return r.tracker.load() }

// Run is one session: one connection, from asking who is there to the end of the stream. It returns nil at the end of a TLI,
// where the next session, begun at once, goes on with the child. Its errors: [*RefusedError], [*MissingWALError],
// [ErrSourceShutdown], the context's cause, the sink's errors, and the source's and the network's, with advice in their text.
func (r *Receiver) Run(ctx context.Context) error {
	r.tracker.begin()
	err := r.session(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	err = adviseOnRoom(err)
	r.tracker.end(ctx, err)
	if refused := new(RefusedError); errors.As(err, &refused) {
		r.cfg.Events.refused(refused)
	}
	r.cfg.Events.ended(err)
	return err
}

// session is Run without the telling.
func (r *Receiver) session(ctx context.Context) error {
	s, err := Apart(func() (*stream, error) { return r.enter(ctx) })
	if err != nil {
		return err
	}
	return s.run(ctx)
}

// enter connects, and asks all that is to be asked before the stream.
func (r *Receiver) enter(ctx context.Context) (*stream, error) {
	l, err := inTurn(ctx, r.cfg, r.cfg.NodeID, func() func() { return r.tracker.waitFor(WaitsForTurn) })
	if err != nil {
		return nil, err
	}
	e, err := r.prepare(ctx, l)
	if err != nil {
		l.close(r.cfg.GoodbyeTimeout)
		return nil, err
	}
	w, err := l.hijack(r.cfg.limits())
	if err != nil {
		return nil, err
	}
	r.tracker.asked()
	return newStream(r, w, e), nil
}

// prepare finds out who is there, decides, and makes the slot. The sink is only asked.
func (r *Receiver) prepare(ctx context.Context, l *link) (entry, error) {
	if err := r.inquire(ctx); err != nil {
		return entry{}, err
	}
	src, err := l.identify(ctx)
	if err != nil {
		return entry{}, err
	}
	src.Slot.Name = SlotName(r.cfg.NodeID)
	held := r.sink.Held()
	start, err := judge(held, src)
	if err := r.excuseRecovery(src, err); err != nil {
		return entry{}, err
	}
	if err := l.ensureSlot(ctx, &src, r.invalidated); err != nil {
		return entry{}, err
	}
	r.invalidated = false
	if src.Slot.Made != "" {
		r.cfg.Events.slotMade(src.Slot)
	}
	e, err := l.enter(ctx, held, src, start)
	if err != nil || r.cfg.Settings == nil {
		return e, err
	}
	e.settings, err = l.settings(ctx)
	return e, err
}

// inquire has asked elsewhere what was decided.
func (r *Receiver) inquire(ctx context.Context) error {
	if r.cfg.Inquire == nil {
		return nil
	}
	defer r.tracker.waitFor(WaitsForDecisions)()
	return r.cfg.Inquire(ctx)
}

// excuseRecovery gives a source that is in recovery the time of a switchover before that is a refusal.
func (r *Receiver) excuseRecovery(src Source, judgement error) error {
	refused := new(RefusedError)
	if !src.InRecovery || !errors.As(judgement, &refused) || refused.Reason != InRecovery {
		r.recoverySince = time.Time{}
		return judgement
	}
	if r.recoverySince.IsZero() {
		r.recoverySince = time.Now()
	}
	if time.Since(r.recoverySince) >= r.cfg.RecoveryGrace {
		return judgement
	}
	return fmt.Errorf("the source is in recovery; for %s that is taken for a switchover", r.cfg.RecoveryGrace)
}
