package timeline

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrEnded says that this life of the timeline has ended: it was deleted where its
// nodes meet, and this node has learnt of it.
var ErrEnded = errors.New("this life of the timeline has ended")

// Ended is how a life ended that was deleted on another node, as object storage
// told. Nothing of it is received or uploaded any more. What is held here stays: it
// may be the only copy of a commit, and whoever deleted the timeline may not know.
type Ended struct {
	By string    `json:"by,omitempty"` // the node that deleted it
	At time.Time `json:"at,omitzero"`
	// Kept says that its objects were kept: it may come back.
	Kept bool `json:"kept,omitempty"`
	// Next is the life that goes on under the name; "": none did, then.
	Next Incarnation `json:"next,omitempty"`
}

// End makes durable that this life has ended, after it came back so often. The
// caller shuts the timeline down; from then on it is opened as stopped.
func (t *Timeline) End(ctx context.Context, e Ended, revived int) error {
	return t.update(ctx, func(c *Control) error {
		if c.Ended != nil {
			return errNoChange
		}
		c.Ended, c.Revived = &e, max(c.Revived, revived)
		return nil
	})
}

// GoOn makes durable that a life which had ended came back. The timeline is
// stopped; it is opened anew after that.
func (t *Timeline) GoOn(ctx context.Context, m Meeting) error {
	return t.update(ctx, func(c *Control) error {
		if c.Ended == nil || c.Incarnation != m.Incarnation {
			return fmt.Errorf("timeline %s: %w: there %s, here %s", t.id, ErrIncarnation, m.Incarnation, c.Incarnation)
		}
		c.Ended = nil
		c.meet(m)
		return nil
	})
}

// ended is why the timeline is stopped, and what to do; nil: its life goes on, as
// far as this node knows.
func (c *Control) ended() error {
	e := c.Ended
	if e == nil {
		return nil
	}
	text := fmt.Sprintf("node %s deleted it at %s, and nothing is received or uploaded here any more", e.By, e.At.UTC().Format(time.RFC3339))
	if c.Flush.TLI != 0 {
		text += fmt.Sprintf("; what this node holds, up to %s, stays on its disk (object storage had it up to %s)", c.Flush, c.backedUp())
	}
	if e.Kept && e.Next == "" {
		text += fmt.Sprintf("; its objects were kept: to go on with it, 'sluice timeline create %s --incarnation %s --source …'", c.ID(), c.Incarnation)
	}
	text += fmt.Sprintf("; to remove it here, and its slot on the source: 'sluice timeline delete %s'", c.ID())
	if e.Next != "" {
		text += fmt.Sprintf("; after that the name is free for the life that goes on, %s", e.Next)
	}
	return fmt.Errorf("%w: %s", ErrEnded, text)
}

// backedUp is up to where object storage had the life, whole segments or not.
func (c *Control) backedUp() string {
	s := c.Stored
	if s == nil {
		return "nothing"
	}
	return later(s.Backup, s.Partial).String()
}
