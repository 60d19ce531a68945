package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
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
	r.tracker.end(ctx, err)
	if refused := new(RefusedError); errors.As(err, &refused) {
		r.cfg.Events.refused(refused)
	}
	r.cfg.Events.ended(err)
	return err
}

// session is Run without the telling.
func (r *Receiver) session(ctx context.Context) error {
	l, err := connect(ctx, r.cfg, r.cfg.NodeID)
	if err != nil {
		return err
	}
	src, start, err := r.prepare(ctx, l)
	if err != nil {
		l.close(r.cfg.GoodbyeTimeout)
		return err
	}
	w, err := l.hijack(r.cfg.limits())
	if err != nil {
		return err
	}
	return newStream(r, w, src, start).run(ctx)
}

// prepare does all that comes before the stream: who is there, the slot, a new TLI.
func (r *Receiver) prepare(ctx context.Context, l *link) (Source, pg.Position, error) {
	src, err := l.identify(ctx)
	if err != nil {
		return Source{}, pg.Position{}, err
	}
	src.Slot.Name = SlotName(r.cfg.NodeID)
	start, err := judge(r.sink.Held(), src)
	if err := r.excuseRecovery(src, err); err != nil {
		return Source{}, pg.Position{}, err
	}
	if err := l.ensureSlot(ctx, &src, r.invalidated); err != nil {
		return Source{}, pg.Position{}, err
	}
	r.invalidated = false
	if src.Slot.Made != "" {
		r.cfg.Events.slotMade(src.Slot)
	}
	if start.LSN == 0 {
		if err := r.adopt(ctx, src); err != nil {
			return Source{}, pg.Position{}, err
		}
	}
	at, err := r.follow(ctx, l, src)
	return src, at, err
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

func (r *Receiver) adopt(ctx context.Context, src Source) error {
	start := firstPosition(src)
	if err := r.sink.Adopt(ctx, src, start); err != nil {
		return fmt.Errorf("begin the timeline at %s: %w", start, err)
	}
	r.cfg.Events.adopted(start)
	return nil
}

// follow goes over to the source's TLI, as far as what is held reaches: a step for each TLI on the way. It returns where
// to stream from.
func (r *Receiver) follow(ctx context.Context, l *link, src Source) (pg.Position, error) {
	for {
		held := r.sink.Held()
		start, err := judge(held, src)
		if err != nil {
			return pg.Position{}, err
		}
		if !start.Follow {
			return r.rewind(start)
		}
		if err := r.step(ctx, l, held, src, start.TLI); err != nil {
			return pg.Position{}, err
		}
	}
}

// step leaves the TLI that is held for a child.
func (r *Receiver) step(ctx context.Context, l *link, held Held, src Source, child pg.TLI) error {
	history, raw := src.History, src.HistoryRaw
	if child != src.TLI {
		var err error
		if history, raw, err = l.history(ctx, child); err != nil {
			return err
		}
	}
	from := held.Position.TLI
	fork, found := history.End(from)
	if !found {
		return refuse(Forked, "its histories contradict each other: that of TLI %s contains TLI %s, that of TLI %s does not",
			src.TLI, from, child)
	}
	if err := r.sink.Follow(ctx, history, raw); err != nil {
		return fmt.Errorf("follow TLI %s to TLI %s at %s: %w", from, child, fork, err)
	}
	if now := r.sink.Held().Position.TLI; now != child {
		return fmt.Errorf("followed TLI %s to TLI %s, but the sink is on TLI %s", from, child, now)
	}
	r.cfg.Events.followed(Followed{From: from, To: child, Fork: fork})
	return nil
}

// rewind begins the comparison. The sink and judge must mean the same segment.
func (r *Receiver) rewind(start Start) (pg.Position, error) {
	at := pg.Position{TLI: start.TLI, LSN: r.sink.Rewind()}
	if at.LSN != start.LSN {
		return pg.Position{}, fmt.Errorf("the sink compares from %s, the stream would begin at %s", at.LSN, start.LSN)
	}
	return at, nil
}
