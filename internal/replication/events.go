package replication

import (
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Events are told of moments. Each may be nil.
type Events struct {
	Connected func(Connected)
	SlotMade  func(Slot)
	Adopted   func(pg.Position)
	Followed  func(Followed)
	Refused   func(*RefusedError)
	Acked     func(Ack)
	// Ended comes last in each session, with what Run returns.
	Ended func(error)
}

// Connected is the beginning of a stream.
type Connected struct {
	Source Source
	Start  pg.Position // the first byte asked for
}

// Followed is a TLI that was left for its child.
type Followed struct {
	From, To pg.TLI
	Fork     pg.LSN
}

// Ack is an acknowledgement: a flush LSN that was reported, higher than the one before.
type Ack struct {
	Position pg.Position
	Bytes    int64         // that the sync made durable
	Duration time.Duration // from reading the first of these bytes off the socket to the report
}

func (e *Events) connected(c Connected) {
	if e.Connected != nil {
		e.Connected(c)
	}
}

func (e *Events) slotMade(s Slot) {
	if e.SlotMade != nil {
		e.SlotMade(s)
	}
}

func (e *Events) adopted(p pg.Position) {
	if e.Adopted != nil {
		e.Adopted(p)
	}
}

func (e *Events) followed(f Followed) {
	if e.Followed != nil {
		e.Followed(f)
	}
}

func (e *Events) refused(err *RefusedError) {
	if e.Refused != nil {
		e.Refused(err)
	}
}

func (e *Events) acked(a Ack) {
	if e.Acked != nil {
		e.Acked(a)
	}
}

func (e *Events) ended(err error) {
	if e.Ended != nil {
		e.Ended(err)
	}
}
