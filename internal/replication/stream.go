package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

const (
	// catchUp is the lag from which on reading does not wait for the disk.
	catchUp = 1 << 20
	// gather is how long a stream that lags gathers WAL for one sync, if that is little, and gatherMuch if it is much.
	gather     = 20 * time.Millisecond
	gatherMuch = 500 * time.Millisecond
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

// mode is how a stream works. All three go through the same turns; what differs is who waits for whom.
type mode uint8

const (
	// idle waits in the runtime's poller, and has no memory.
	idle mode = iota
	// live reads what is there, writes, syncs, and reports, one after the other: what arrives meanwhile waits in the socket
	// and is the next turn's, so one sync covers all commits that came during the one before. If turns come close, it waits in
	// the kernel (wire.heat).
	live
	// catchingUp reads straight into blocks of memory, others write and sync them: no commit waits for a single
	// sync, so all that counts is that neither the source nor the disk ever waits.
	catchingUp
)

// stream is one START_REPLICATION. It belongs to the goroutine of run, with two exceptions: while that one is inside the sink,
// pulse has the voice; and while it catches up, disk has goroutines for the sink.
type stream struct {
	receiver *Receiver
	entry    entry
	interval time.Duration // the longest time between two status messages

	wire    *wire
	decoder decoder
	disk    disk
	voice   voice
	pulse   *pulse

	mode      mode
	phase     phase
	admitted  bool   // the source has agreed once
	verified  bool   // the sink has found that it has what is held
	received  pg.LSN // where the next byte belongs
	sourceEnd pg.LSN // the highest end that the source told of
	replyDue  bool   // it asked for an answer

	into    [maxParts][]byte // see parts
	headers [maxParts / 2][walHeader]byte
	small   [64]byte        // what is read into while nothing is expected
	full    bool            // the last read filled its buffer, so more was probably there
	chunk   *[chunkLen]byte // nil unless the stream is live
	readAt  time.Time       // when a read last ended
	brisk   bool            // data came twice within cfg.briskly
	silence time.Duration   // for how long reading has waited in vain
}

func newStream(r *Receiver, w *wire, e entry) *stream {
	s := &stream{
		receiver: r, entry: e, sourceEnd: e.source.Flush, wire: w,
		// Asked for a sign of life after half of ReceiveTimeout, the source has the other half to give it.
		interval: min(r.cfg.StatusInterval, r.cfg.ReceiveTimeout/2),
		disk:     disk{sink: r.sink, segment: e.source.SegmentSize, woken: w.wake},
		voice:    voice{wire: w},
	}
	s.expect(e.at.LSN)
	s.pulse = newPulse(s.voice.repeat)
	return s
}

// expect says where the next byte belongs.
func (s *stream) expect(lsn pg.LSN) {
	s.received = lsn
	s.disk.begin(lsn)
}

// run streams until something ends it. Whatever that is, what was received is synced, acknowledged if the source may still
// hear it, and the connection is closed.
func (s *stream) run(ctx context.Context) error {
	defer s.wire.close()
	unwatch := s.wire.watch(ctx)
	err := s.loop(ctx)
	unwatch()
	if syncErr := s.disk.all(); err == nil {
		err = syncErr
	}
	if err == nil || ctx.Err() != nil || s.promise() > s.voice.reported {
		s.leave()
	}
	s.release()
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
	s.phase = starting
	s.expect(at.LSN)
	command := fmt.Sprintf("START_REPLICATION SLOT %s PHYSICAL %s TIMELINE %s", s.entry.source.Slot.Name, at.LSN, at.TLI)
	return s.wire.write(appendQuery(nil, command))
}

// turn is one wait for the source, and what its answer brings about.
func (s *stream) turn(ctx context.Context) error {
	parts, err := s.read(ctx)
	if err != nil {
		return err
	}
	if err := s.work(ctx, parts); err != nil {
		return err
	}
	if !s.verified && s.phase == copying && s.receiver.sink.Verified() {
		s.verified = true
		s.receiver.tracker.verified()
	}
	return s.report()
}

// work is the part of a turn in which the disk may keep us.
func (s *stream) work(ctx context.Context, parts [][]byte) error {
	if s.voice.open {
		s.pulse.arm()
		defer s.pulse.disarm()
	}
	if err := s.take(ctx, parts); err != nil {
		return err
	}
	if s.mode != catchingUp {
		if err := s.disk.write(); err != nil {
			return err
		}
	}
	if err := s.steer(); err != nil {
		return err
	}
	return s.commit()
}

// steer changes the mode, when it is time for that.
func (s *stream) steer() error {
	next := s.next()
	if next == s.mode {
		return nil
	}
	before := s.mode
	s.mode = next
	switch {
	case next == catchingUp:
		s.receiver.sink.Expect(s.sourceEnd)
		s.releaseChunk()
		s.disk.start()
	case before == catchingUp:
		return s.disk.join()
	case next == idle:
		s.release()
	}
	return nil
}

// next is the mode that fits what is known.
func (s *stream) next() mode {
	switch {
	case s.phase == copying && s.verified && (s.behind() || s.disk.pending.bytes >= catchUp):
		return catchingUp // the source's end may be old news: what it sent before lies in the socket
	case s.disk.busy():
		return catchingUp // what it has handed over comes back first
	case s.silence >= idleAfter:
		return idle
	case s.mode == idle && (s.silence > 0 || !s.full && s.decoder.atBorder()):
		return idle // a word that is short, such as a keepalive, is worth no memory
	default:
		return live
	}
}

// behind says whether the source has much that is not here yet.
func (s *stream) behind() bool { return s.received+catchUp < s.sourceEnd }

// take works through what was read. From where a guess was wrong, the bytes are put aside first: taking WAL in might put it over
// what comes behind.
func (s *stream) take(ctx context.Context, parts [][]byte) error {
	for i, part := range parts {
		if i > 0 && !s.fits(part, i+1 == len(parts)) {
			return s.takeChunk(ctx, bytes.Join(parts[i:], nil))
		}
		if err := s.takeChunk(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// takeChunk works through bytes that come one after the other.
func (s *stream) takeChunk(ctx context.Context, chunk []byte) error {
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
	s.learn(f.sourceEnd)
	s.received += pg.LSN(len(f.data))
	return s.disk.add(f.data, s.readAt)
}

// learn is told the end of the source's WAL.
func (s *stream) learn(end pg.LSN) {
	if end > s.sourceEnd {
		s.sourceEnd = end
		s.receiver.tracker.sourceEnd.Store(uint64(end))
		if s.mode == catchingUp {
			s.receiver.sink.Expect(end)
		}
	}
}

// commit has the sink sync, when it is time for that.
func (s *stream) commit() error {
	switch {
	case s.phase == closing:
		return s.disk.all() // nothing can be reported after it
	case s.phase != copying || !s.receiver.sink.Verified():
		return nil
	case s.mode == catchingUp:
		return s.commitBeside()
	case !s.disk.due() || s.underWay():
		return nil
	}
	return s.disk.now()
}

// commitBeside hands over what will not fill a block soon, with a sync, one at a time. Where a segment ends, disk does so
// itself.
func (s *stream) commitBeside() error {
	pending := &s.disk.pending
	age := s.readAt.Sub(pending.readAt)
	late := s.behind() && (age >= gatherMuch || age >= gather && pending.bytes < catchUp)
	if pending.bytes > 0 && !s.disk.syncing() && (late || !s.underWay()) {
		s.disk.submit(true)
	}
	return s.disk.makeRoom() // so that reading need not wait, where nobody speaks for us
}

// underWay says that more is coming now, which one sync may cover as well.
func (s *stream) underWay() bool {
	return s.silence == 0 && (s.full && s.mode == live || s.behind() || !s.decoder.atBorder())
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
	if s.disk.syncing() {
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
	return s.disk.flushed
}

// say reports a flush LSN, and tells of it if it is an acknowledgement.
func (s *stream) say(flush pg.LSN) error {
	before := s.voice.reported
	if err := s.voice.say(flush, s.silence >= s.receiver.cfg.ReceiveTimeout/2); err != nil {
		return err
	}
	s.replyDue = false
	if b := s.disk.takeSynced(); flush > before && b.bytes > 0 {
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
	s.releaseChunk()
}
