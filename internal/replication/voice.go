package replication

import (
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// voice is what we say to the source while it streams. It has one owner at a time; see pulse.
type voice struct {
	wire *wire
	// open says that the protocol allows us to speak: from the source's CopyBoth to our CopyDone.
	open     bool
	reported pg.LSN    // the flush LSN that was said last; 0: none
	spokeAt  time.Time // when anything was said last
	buf      [statusLen + 16]byte
}

// say reports a flush LSN; 0 acknowledges nothing. With ask, the source is asked for a sign of life.
func (v *voice) say(flush pg.LSN, ask bool) error {
	if !v.open {
		return nil
	}
	now := time.Now()
	if err := v.wire.write(appendStatus(v.buf[:0], flush, now, ask)); err != nil {
		return err
	}
	v.reported, v.spokeAt = flush, now
	return nil
}

// repeat says again what was said last: we live, and promise nothing new.
func (v *voice) repeat() error { return v.say(v.reported, false) }

// endCopy ends our side of the copy.
func (v *voice) endCopy() error {
	v.open = false
	return v.wire.write(copyDone)
}

// goodbye reports a last flush LSN, as far as the protocol allows, and leaves.
func (v *voice) goodbye(flush pg.LSN) error {
	words := v.buf[:0]
	if v.open {
		words = append(appendStatus(words, flush, time.Now(), false), copyDone...)
		v.open = false
	}
	return v.wire.write(append(words, terminate...))
}
