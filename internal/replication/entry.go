package replication

import (
	"context"
	"fmt"

	"github.com/sluicewal/sluice/internal/pg"
)

// entry is what a session is about to do: decided before the stream is asked for, and done with the sink when the source has
// agreed to it. A second process of our name is refused by the slot at that moment, and must not have moved its sink by then.
type entry struct {
	source Source
	at     pg.Position // the first byte to ask for
	open   pg.LSN      // what to ask for if the source no longer has that; not above at: nothing
	// retreated says that at is open, because of that.
	retreated bool
	adopt     bool // the sink holds nothing yet, and begins at at
	// adoptRaw is the history file of the TLI that it begins on; nil on TLI 1.
	adoptRaw []byte
	// settings are the source's, if somebody wants to know them.
	settings Settings
	// child is the TLI to go over to; the zero value if the sink stays on its own.
	child struct {
		history pg.History
		raw     []byte // the history file
		from    pg.TLI // that is held
		fork    pg.LSN // where the history leaves that
	}
}

// enter makes an entry of what judge decided, with what the source must be asked for it.
func (l *link) enter(ctx context.Context, held Held, src Source, start Start) (entry, error) {
	e := entry{source: src, at: pg.Position{TLI: start.TLI, LSN: start.LSN}}
	if start.Adopt {
		return l.enterEmpty(ctx, e)
	}
	if !start.Follow {
		e.open = start.Open
		return e, nil
	}
	child := &e.child
	child.history, child.raw, child.from = src.History, src.HistoryRaw, held.Position.TLI
	if start.TLI != src.TLI {
		var err error
		if child.history, child.raw, err = l.history(ctx, start.TLI); err != nil {
			return entry{}, err
		}
		if err := judgeOnTheWay(child.history, src); err != nil {
			return entry{}, err
		}
	}
	child.fork, _ = child.history.End(child.from) // which judge found in it
	return e, nil
}

// enterEmpty makes an entry for a sink that holds nothing: at the place that was found, or else where the slot begins.
func (l *link) enterEmpty(ctx context.Context, e entry) (entry, error) {
	src := e.source
	e.adopt, e.adoptRaw = true, src.HistoryRaw
	if e.at.LSN == 0 {
		e.at = firstPosition(src)
		return e, nil
	}
	if e.at.TLI == src.TLI {
		return e, nil
	}
	older, raw, err := l.history(ctx, e.at.TLI)
	if err != nil {
		return entry{}, err
	}
	e.adoptRaw = raw
	return e, judgeOnTheWay(older, src)
}

// admit does with the sink what the entry says.
func (e *entry) admit(ctx context.Context, sink Sink, events *Events) error {
	switch {
	case e.adopt:
		if err := sink.Adopt(ctx, e.source, e.at, e.adoptRaw); err != nil {
			return fmt.Errorf("begin the timeline at %s: %w", e.at, err)
		}
		events.adopted(e.at)
	case e.child.from != 0:
		if err := sink.Follow(ctx, e.child.history, e.child.raw); err != nil {
			return fmt.Errorf("follow TLI %s to TLI %s at %s: %w", e.child.from, e.at.TLI, e.child.fork, err)
		}
		events.followed(Followed{From: e.child.from, To: e.at.TLI, Fork: e.child.fork})
	}
	return nil
}

// compare begins the comparison. The sink and judge must mean the same segment.
func (e *entry) compare(sink Sink) error {
	rewind := sink.Rewind
	if e.retreated {
		rewind = sink.RewindOpen
	}
	tli := e.at.TLI
	if !e.adopt {
		tli = sink.Held().Position.TLI
	}
	if at := (pg.Position{TLI: tli, LSN: rewind()}); at != e.at {
		return fmt.Errorf("the sink compares from %s, the stream begins at %s", at, e.at)
	}
	return nil
}

// retreat makes do with the open segment, if that begins above what the source no longer has. The slot keeps what was not
// acknowledged, and no more.
func (e *entry) retreat(missing pg.LSN) bool {
	if missing >= e.open {
		return false
	}
	e.at.LSN, e.retreated = e.open, true
	return true
}
