package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
)

// sink keeps what a receiver receives in a timeline. It translates, and decides
// nothing.
type sink struct {
	*Member
	from pg.LSN // flush LSN when the session's comparison began; of Run's goroutine
	// claimed says that this session has tried to claim its TLI. Of whoever syncs,
	// one at a time.
	claimed bool
	// session is the context of the task that runs the session.
	session func() context.Context
	// rewound says that the source has let this session in.
	rewound atomic.Bool
	// progress is told when a session has moved the flush LSN. Being connected is
	// none: other bytes, or a full disk, show only after that, and the source would
	// be tried again without a pause.
	progress func()
}

// settled reports whether the source of this session has shown that it has what
// is held.
func (s *sink) settled() bool { return s.rewound.Load() && s.Log().Verified() }

// Held implements replication.Sink.
func (s *sink) Held() replication.Held {
	h := s.Timeline.Held()
	held := replication.Held{
		SystemID: h.SystemID, SegmentSize: h.SegmentSize,
		Position: h.Position, RecordEnd: h.RecordEnd, AcceptDataLoss: h.AcceptDataLoss,
		Stored: h.Stored, Newest: h.Newest,
	}
	if h.Seal != nil {
		held.Seal = &replication.Seal{TLI: h.Seal.TLI, End: h.Seal.End}
	}
	held.History = s.heldHistory(h.Position.TLI)
	if h.Position.LSN == 0 {
		held.History = h.Newest
		return held
	}
	if l := s.Log(); l != nil {
		held.CompareFrom = l.CompareFrom()
		held.Oldest = oldest(l.Segments(), h.Position.LSN, h.SegmentSize)
	}
	return held
}

// heldHistory returns the history of the TLI that is held; the zero value if it
// is not known, as on TLI 1.
func (s *sink) heldHistory(tli pg.TLI) pg.History {
	l := s.Log()
	if l == nil || tli <= 1 {
		return pg.History{}
	}
	raw, err := l.History(tli)
	if err != nil {
		return pg.History{}
	}
	h, err := pg.ParseHistory(tli, raw)
	if err != nil {
		return pg.History{}
	}
	return h
}

// Adopt implements replication.Sink. Where the nodes of a timeline meet, who it is
// is decided first.
func (s *sink) Adopt(ctx context.Context, src replication.Source, start pg.Position, raw []byte) error {
	if err := s.decide(ctx, src); err != nil {
		return err
	}
	return s.Timeline.Adopt(ctx, timeline.Adoption{
		SystemID: src.SystemID, SegmentSize: src.SegmentSize, Start: start, SourceFlush: src.Flush, History: raw,
	})
}

func (s *sink) decide(ctx context.Context, src replication.Source) error {
	if s.keeper.depot == nil || s.Control().Stored != nil {
		return nil
	}
	store, err := s.keeper.depot.open(ctx)
	if err == nil {
		err = s.decideIdentity(ctx, store, src.SystemID, src.SegmentSize)
	}
	if err != nil && s.Control().New && !errors.Is(err, errMetOther) {
		return nil // an operator's word that nobody else has it; the backup decides later
	}
	return err
}

// Follow implements replication.Sink.
func (s *sink) Follow(ctx context.Context, child pg.History, raw []byte) error {
	return s.Timeline.Follow(ctx, child, raw)
}

// Rewind implements replication.Sink.
func (s *sink) Rewind() pg.LSN { return s.letIn(s.Log().Rewind) }

// RewindOpen implements replication.Sink.
func (s *sink) RewindOpen() pg.LSN { return s.letIn(s.Log().RewindOpen) }

// letIn begins the comparison of a session that the source has let in.
func (s *sink) letIn(rewind func() pg.LSN) pg.LSN {
	s.from = s.Log().Flushed().LSN
	lsn := rewind()
	s.rewound.Store(true)
	return lsn
}

// Verified implements replication.Sink.
func (s *sink) Verified() bool {
	l := s.Log()
	return l != nil && l.Verified()
}

// Append implements replication.Sink.
func (s *sink) Append(lsn pg.LSN, p []byte) error {
	err := s.Log().Append(lsn, p)
	if other := new(wal.OtherBytesError); errors.As(err, &other) {
		return &replication.RefusedError{Reason: replication.OtherBytes, Text: fmt.Sprintf(
			"at %s of TLI %s it has other bytes than what is kept here, which ends at %s: it is a snapshot or a copy of the volume "+
				"that went its own way; set the source to the server that has the history kept here",
			other.LSN, s.Log().Position().TLI, s.Log().Position().LSN)}
	}
	return err
}

// Check implements replication.Sink.
func (s *sink) Check(lsn pg.LSN, p []byte) (pg.Walker, error) { return s.Log().Check(lsn, p) }

// Write implements replication.Sink.
func (s *sink) Write(p []byte, end *pg.Walker) error { return s.Log().Write(p, end) }

// Expect implements replication.Sink.
func (s *sink) Expect(end pg.LSN) { s.Log().Expect(end) }

// Sync implements replication.Sink. It is the only place from which an
// acknowledged position comes.
func (s *sink) Sync() (pg.LSN, error) {
	if s.Log() == nil {
		return 0, nil // a session ends in which the timeline could not begin
	}
	flush, err := s.Log().Sync()
	s.Synced()
	if err == nil {
		err = s.claimFirst()
	}
	if err == nil {
		err = s.comeBack()
	}
	if err == nil && s.rewound.Load() && flush > s.from {
		s.progress()
	}
	return flush, err
}

// comeBack notes where the source is, on a node that had left it: from there on
// nothing is missing here.
func (s *sink) comeBack() error {
	r := s.current()
	if !s.Control().Away || !s.Verified() || r == nil {
		return nil
	}
	src := r.State()
	if src.Name != replication.StateConnected || src.SourceEnd == 0 || src.TLI != s.Log().Position().TLI {
		return nil
	}
	return s.Returned(s.session(), pg.Position{TLI: src.TLI, LSN: src.SourceEnd})
}

// claimFirst claims a new TLI as soon as its first record is durable, and before
// anything of it is acknowledged: another promotion may have its number. Object
// storage that is away is not waited for; the backup claims later.
func (s *sink) claimFirst() error {
	l := s.Log()
	h := l.Lineage()
	fork, _ := h.Parent()
	b := s.Backup()
	if s.claimed || !b.Decided || h.TLI <= max(b.Claimed, 1) || l.RecordEnd() <= fork.LSN {
		return nil
	}
	s.claimed = true
	ctx, cancel := context.WithTimeout(s.session(), askStoreWithin)
	defer cancel()
	t, err := s.living(ctx)
	if err == nil {
		err = s.claim(ctx, t)
	}
	if errors.Is(err, timeline.ErrEnded) {
		return err // nothing of it is acknowledged any more
	}
	if claimed := new(backup.ClaimedError); errors.As(err, &claimed) {
		return &replication.RefusedError{Reason: replication.Forked, Text: conflictText(claimed)}
	}
	if err != nil && s.session().Err() == nil {
		s.keeper.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "new TLI is followed, and could not be claimed in object storage yet",
			slog.String("timeline", s.ID().String()), slog.Any("tli", h.TLI), slog.Any("error", err))
	}
	return nil
}
