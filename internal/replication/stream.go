package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

const (
	// catchUp is the lag, or the amount not yet synced, from which on reading does not wait for the disk.
	catchUp = 1 << 20
	// gather is how long a stream that lags gathers WAL for one sync, if catchUp bytes take longer.
	gather = 20 * time.Millisecond
)

// phase is how far a stream is, by the protocol.
type phase uint8

const (
	starting phase = iota // asked for, not answered yet
	copying               // both sides send CopyData
	closing               // the source sends no more WAL; its last words follow
	closed                // it would take another command
	failed                // the source no longer has what was asked for; its last word follows
	ready                 // it is asked again, for what is above that
)

// stream is one START_REPLICATION. It belongs to the goroutine of run, with two exceptions: while that one is inside the sink,
// pulse has the voice; and when much is to be done, one sync runs beside.
//
// Live, a turn reads what is there, appends it, syncs, and reports: what arrives meanwhile is the next turn's, so one sync
// covers all commits that came during the one before. Catching up, turns go on while a sync runs.
type stream struct {
	receiver *Receiver
	entry    entry
	interval time.Duration // the longest time between two status messages

	wire    *wire
	decoder decoder
	syncs   syncs
	voice   voice
	pulse   *pulse

	phase     phase
	admitted  bool   // the source has agreed once
	verified  bool   // the sink has found that it has what is held
	received  pg.LSN // where the next byte belongs
	sourceEnd pg.LSN // the highest end that the source told of
	replyDue  bool   // it asked for an answer

	small   [64]byte        // what is read into while there is no chunk
	full    bool            // the last read filled its buffer, so more was probably there
	chunk   *[chunkLen]byte // nil while the stream is idle
	readAt  time.Time       // when a read last ended
	silence time.Duration   // for how long reading has waited in vain
}

func newStream(r *Receiver, w *wire, e entry) *stream {
	s := &stream{
		receiver: r, entry: e, received: e.at.LSN, sourceEnd: e.source.Flush, wire: w,
		// Asked for a sign of life after half of ReceiveTimeout, the source has the other half to give it.
		interval: min(r.cfg.StatusInterval, r.cfg.ReceiveTimeout/2),
		syncs:    syncs{sink: r.sink, woken: w.wake},
		voice:    voice{wire: w},
	}
	s.pulse = newPulse(s.voice.repeat)
	return s
}

// run streams until something ends it. Whatever that is, what was received is synced, acknowledged if the source may still
// hear it, and the connection is closed.
func (s *stream) run(ctx context.Context) error {
	defer s.wire.close()
	unwatch := s.wire.watch(ctx)
	err := s.loop(ctx)
	unwatch()
	if syncErr := s.syncs.all(); err == nil {
		err = syncErr
	}
	if err == nil || ctx.Err() != nil || s.promise() > s.voice.reported {
		s.leave()
	}
	s.releaseChunk()
	return err
}

// loop asks for the stream, and takes turns until the source has no more, or an error.
func (s *stream) loop(ctx context.Context) error {
	if err := s.ask(); err != nil {
		return err
	}
	for s.phase != closed {
		if err := s.turn(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ask asks for the stream.
func (s *stream) ask() error {
	at := s.entry.at
	s.phase, s.received = starting, at.LSN
	command := fmt.Sprintf("START_REPLICATION SLOT %s PHYSICAL %s TIMELINE %s", s.entry.source.Slot.Name, at.LSN, at.TLI)
	return s.wire.write(appendQuery(nil, command))
}

// turn is one wait for the source, and what its answer brings about.
func (s *stream) turn(ctx context.Context) error {
	chunk, err := s.read(ctx)
	if err != nil {
		return err
	}
	if err := s.work(ctx, chunk); err != nil {
		return err
	}
	if !s.verified && s.phase == copying && s.receiver.sink.Verified() {
		s.verified = true
		s.receiver.tracker.verified()
	}
	return s.report()
}

// work is the part of a turn in which the disk may keep us.
func (s *stream) work(ctx context.Context, chunk []byte) error {
	if s.voice.open {
		s.pulse.arm()
		defer s.pulse.disarm()
	}
	if err := s.take(ctx, chunk); err != nil {
		return err
	}
	return s.commit()
}

// take works through what was read.
func (s *stream) take(ctx context.Context, chunk []byte) error {
	for {
		f, rest, err := s.decoder.next(chunk)
		if err != nil {
			return err
		}
		switch f.kind {
		case frameNone:
			return nil
		case frameWAL:
			err = s.append(f)
		case frameKeepalive:
			s.learn(f.sourceEnd)
			s.replyDue = s.replyDue || f.replyNow
		case frameMessage:
			err = s.message(ctx, f.typ, f.data)
		}
		if err != nil {
			return err
		}
		chunk = rest
	}
}

// append takes a piece of WAL, which must continue exactly where we are.
func (s *stream) append(f frame) error {
	if s.phase != copying {
		return errors.New("the source sent WAL where none may come")
	}
	if f.lsn != s.received {
		return fmt.Errorf("the source sent WAL at %s, where %s comes next", f.lsn, s.received)
	}
	if err := s.syncs.append(f.lsn, f.data, s.readAt); err != nil {
		return err
	}
	s.received += pg.LSN(len(f.data))
	s.learn(f.sourceEnd)
	return nil
}

// learn is told the end of the source's WAL.
func (s *stream) learn(end pg.LSN) {
	if end > s.sourceEnd {
		s.sourceEnd = end
		s.receiver.tracker.sourceEnd.Store(uint64(end))
	}
}

// commit has the sink sync, when it is time for that.
func (s *stream) commit() error {
	pending := &s.syncs.pending
	behind := s.received+catchUp < s.sourceEnd
	switch {
	case s.phase == closing:
		return s.syncs.all() // nothing can be reported after it
	case s.phase != copying || s.syncs.running() || !s.syncs.due() || !s.receiver.sink.Verified():
		return nil
	case pending.bytes >= catchUp || behind && pending.bytes > 0 && s.readAt.Sub(pending.readAt) >= gather:
		s.syncs.start()
		return nil
	case s.silence == 0 && (s.full || behind || !s.decoder.atBorder()):
		return nil // more is under way
	}
	return s.syncs.now()
}

// report tells the source what is due.
func (s *stream) report() error {
	switch s.phase {
	case ready:
		s.voice.open = false
		return s.ask()
	case failed:
		s.voice.open = false
	}
	if !s.voice.open {
		return nil
	}
	flush := s.promise()
	if flush != s.voice.reported || s.replyDue || time.Since(s.voice.spokeAt) >= s.due() {
		if err := s.say(flush); err != nil {
			return err
		}
	}
	if s.phase == closing {
		return s.voice.endCopy()
	}
	return nil
}

// due is how old the last status may become.
func (s *stream) due() time.Duration {
	if s.syncs.running() {
		return pulseEvery // meanwhile, flushed does not move, however much arrives
	}
	return s.interval
}

// promise is the flush LSN that may be acknowledged: what a sync vouched for, once it is known to be the source's, and only
// on the TLI that the source is on.
func (s *stream) promise() pg.LSN {
	if s.entry.at.TLI != s.entry.source.TLI || !s.receiver.sink.Verified() {
		return 0
	}
	return s.syncs.flushed
}

// say reports a flush LSN, and tells of it if it is an acknowledgement.
func (s *stream) say(flush pg.LSN) error {
	before := s.voice.reported
	if err := s.voice.say(flush, s.silence >= s.receiver.cfg.ReceiveTimeout/2); err != nil {
		return err
	}
	s.replyDue = false
	if b := s.syncs.takeSynced(); flush > before && b.bytes > 0 {
		s.receiver.cfg.Events.acked(Ack{
			Position: pg.Position{TLI: s.entry.at.TLI, LSN: flush},
			Bytes:    b.bytes,
			Duration: s.voice.spokeAt.Sub(b.readAt),
		})
	}
	return nil
}

// leave says goodbye, within the time for it, and waits until the source has heard it.
func (s *stream) leave() {
	s.wire.interrupt()
	if err := s.voice.goodbye(s.promise()); err != nil {
		return // it does not listen
	}
	s.useChunk()
	s.wire.drain(s.chunk[:])
}
