package replication

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sluicewal/sluice/internal/pg"
)

// message takes what is not CopyData. A stream goes one of these ways (StartReplication, WalSndLoop and WalSndDone in
// walsender.c; c from us in brackets):
//
//	W … c [c] T D C C Z   the TLI ends; what follows is the next TLI, and where it began
//	T D C C Z             the same, when there is nothing to stream: a promotion exactly where we ask to begin
//	W … C                 the server is shut down, and we have acknowledged all
//	E, W … E              an error, such as a segment that was removed, also after the stream began
//	E Z, W … E Z          the same, where there is another place to begin: the next command is answered on this connection
func (s *stream) message(ctx context.Context, typ byte, body []byte) error {
	switch typ {
	case 'E':
		return s.serverError(body)
	case 'N', 'S', 'A': // a notice, a changed setting
		return nil
	}
	switch s.phase {
	case starting:
		switch typ {
		case 'W':
			return s.begin(ctx)
		case 'T':
			s.phase = closing
			return nil
		}
	case copying:
		switch typ {
		case 'c':
			s.phase = closing
			return nil
		case 'C':
			return ErrSourceShutdown
		}
	case failed:
		if typ == 'Z' {
			s.phase = ready
			return nil
		}
	case closing:
		switch typ {
		case 'T', 'D', 'C': // the next TLI is in the source's history too, which the next session asks for
			return nil
		case 'Z':
			s.phase = closed
			return nil
		}
	}
	return fmt.Errorf("the source sent a message %q that may not come here", typ)
}

// begin is the source's CopyBoth: it agrees. It may do so twice; see retreat.
func (s *stream) begin(ctx context.Context) error {
	if _, err := Apart(func() (struct{}, error) { return struct{}{}, s.meet(ctx) }); err != nil {
		return err
	}
	s.phase, s.voice.open = copying, true
	return nil
}

// meet lets the source in, and what it sends be compared.
func (s *stream) meet(ctx context.Context) error {
	r, first := s.receiver, !s.admitted
	s.admitted = true
	if first {
		if err := s.entry.admit(ctx, r.sink, &r.cfg.Events); err != nil {
			return err
		}
	}
	if err := s.entry.compare(r.sink); err != nil {
		return err
	}
	if first {
		return s.introduce(ctx)
	}
	return nil
}

// introduce tells who agreed.
func (s *stream) introduce(ctx context.Context) error {
	r := s.receiver
	if tell := r.cfg.Settings; tell != nil {
		if err := tell(ctx, s.entry.settings); err != nil {
			return err
		}
	}
	r.lastPID = s.entry.source.BackendPID
	r.tracker.connected(s.entry.source, s.entry.at.TLI)
	r.cfg.Events.connected(Connected{Source: s.entry.source, Start: s.entry.at})
	return nil
}

// serverError is an error of the source, which ends the stream.
func (s *stream) serverError(body []byte) error {
	var msg pgproto3.ErrorResponse
	if err := msg.Decode(body); err != nil {
		return fmt.Errorf("read an error of the source: %w", err)
	}
	err := pgconn.ErrorResponseToPgError(&msg)
	switch {
	case err.Code == codeUndefinedFile && s.entry.retreat(s.received):
		s.phase = failed
		return nil
	case err.Code == codeUndefinedFile:
		return s.missingWAL(err)
	case err.Code == codeObjectInUse && s.phase == starting:
		return s.slotInUse(err)
	case err.Code == codeUndefinedObject:
		return fmt.Errorf("the slot %s was dropped just now (%w)", s.entry.source.Slot.Name, err)
	case err.Code == codeNotInPrerequisite && s.phase == starting && canReadSlot(s.entry.source.ServerVersion):
		// Such a slot was seen to be physical, so it was invalidated.
		s.receiver.invalidated = true
		return fmt.Errorf("the slot %s was invalidated and is made anew (%w)", s.entry.source.Slot.Name, advise(err))
	}
	return fmt.Errorf("START_REPLICATION: %w", advise(err))
}

// missingWAL says what is lost, and what still is there.
func (s *stream) missingWAL(err *pgconn.PgError) error {
	size := s.entry.source.SegmentSize
	segment := pg.SegmentName(s.entry.at.TLI, size.SegNo(s.received), size)
	return &MissingWALError{Text: fmt.Sprintf("the source no longer has TLI %s from %s on, segment %s (it says: %s). The slot %s, "+
		"which should have kept it, %s. What is kept here, up to there, stays and can be restored; to go on from there would "+
		"leave a hole. Either copy the missing segments from an archive back into the source's pg_wal, or delete the timeline, "+
		"create it again and take a new base backup",
		s.entry.at.TLI, s.received, segment, err.Message, s.entry.source.Slot.Name, s.entry.source.Slot.failure())}
}

// failure is why a slot did not keep the WAL that it should have kept.
func (s Slot) failure() string {
	switch s.Made {
	case SlotAbsent:
		return "was not there: somebody dropped it, or the server was restored or promoted without it"
	case SlotInvalidated:
		return "was invalidated: max_slot_wal_keep_size or idle_replication_slot_timeout on the source is too small"
	default:
		return "did not: it was dropped and made again, or was invalidated (max_slot_wal_keep_size on the source is too small)"
	}
}

// slotInUse tells another process of our name from our own last connection, which the source has not yet found dead.
func (s *stream) slotInUse(err *pgconn.PgError) error {
	pid := slotUser(err.Message, s.entry.source.Slot.Name)
	if pid != 0 && pid == s.receiver.lastPID {
		return fmt.Errorf("the source still serves our last connection (PID %d); it notices by its wal_sender_timeout that "+
			"that has ended", pid)
	}
	return nameTaken(s.entry.source.Slot.Name, err.Message)
}
