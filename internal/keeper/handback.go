package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/restore"
	"github.com/sluicewal/sluice/internal/timeline"
)

// WALRequest asks for a WAL file by its name.
type WALRequest struct {
	File           string
	Copy           bool
	AcceptDataLoss bool
}

// WALFile is the answer to a request. With a body, its holder is inside the
// timeline's gate until it closes the body; Gone tells it to do so at once.
type WALFile struct {
	restore.Found
	Gone <-chan struct{}

	read int64 // of the body so far

	leave func()            // the gate
	end   func(bytes int64) // told what was read
}

// Close lets go of the file and leaves the gate. It may be called once.
func (f *WALFile) Close() error {
	defer f.leave()
	if f.Body == nil {
		f.end(0)
		return nil
	}
	f.end(f.read)
	return f.Body.Close()
}

// Read reads the file, which is there.
func (f *WALFile) Read(p []byte) (int, error) {
	n, err := f.Body.Read(p)
	f.read += int64(n)
	return n, err
}

// OpenWAL answers a request for a WAL file; whoever gets an answer closes it. An
// error means that nothing could be found out.
func (k *Keeper) OpenWAL(ctx context.Context, id timeline.ID, r WALRequest) (*WALFile, error) {
	ctx, answered, end := k.cfg.Events.fetch(ctx, id, r.File)
	f, err := k.openWAL(ctx, id, r)
	if ctx.Err() != nil {
		answered = func(string, error) {} // whoever asked has left: nobody was told that something is not known
	}
	if err != nil {
		answered(restore.Unknown.String(), err)
		end(0)
		return nil, err
	}
	f.end = end
	answered(f.Kind.String(), nil)
	return f, nil
}

func (k *Keeper) openWAL(ctx context.Context, id timeline.ID, r WALRequest) (*WALFile, error) {
	m, err := k.member(id)
	if err != nil {
		return nil, err
	}
	leave, err := m.EnterFor(ctx, holderWALDownload, r.File)
	if err != nil {
		return nil, err
	}
	var f *WALFile
	defer func() {
		if f == nil { // also after a panic, which ends the request and not the node
			leave()
		}
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(m.Context(), func() { cancel(timeline.ErrShuttingDown) })()
	found, err := m.find(ctx, r, m.storePlace(ctx))
	if err != nil {
		return nil, err
	}
	f = &WALFile{Found: found, Gone: m.Context().Done(), leave: leave}
	return f, nil
}

// find looks the file up, and makes durable that a sealed tail is handed out. Of what is not on this node any more the object
// store is asked, if there is one (store is nil where none is configured). One that does not answer keeps nothing back that is
// here, but without its word nothing is known not to exist.
func (m *Member) find(ctx context.Context, r WALRequest, store restore.Place) (restore.Found, error) {
	l, c := m.Log(), m.Control()
	if l == nil && (store == nil || c.SystemID == 0) {
		return restore.Found{Decision: restore.Decision{
			Reason: restore.NotHeld, Retry: true, Text: "no WAL was received yet: look at the source with 'sluice timeline show'",
		}}, nil
	}
	file, err := restore.ParseFile(r.File, c.SegmentSize)
	if err != nil {
		return restore.Found{Decision: restore.Decision{Reason: restore.Refused, Text: err.Error()}}, nil //nolint:nilerr // a bad name is an answer
	}
	req := restore.Request{File: file, Timeline: m.ID().String(), Copy: r.Copy, AcceptDataLoss: r.AcceptDataLoss}
	at := place{name: "node " + m.keeper.cfg.NodeID, control: c}
	newest := m.Held().Position.TLI
	if l != nil {
		at.held, newest = heldBy(l, m.CommitEnd()), l.Position().TLI
	}
	found := restore.Find(ctx, req, []restore.Place{at}, store, RequiredQuorum(*c, newest))
	if found.Tail == 0 {
		return found, nil
	}
	if err := m.markTail(ctx, c, found.Tail, store); err != nil {
		found.Close()
		return restore.Found{}, fmt.Errorf("mark the sealed tail as handed out: %w", err)
	}
	return found, nil
}

// storePlace returns this timeline in the node's object storage, or the reason why it cannot be asked; nil without a store.
func (m *Member) storePlace(ctx context.Context) restore.Place {
	switch {
	case m.keeper.depot == nil:
		return nil
	case m.Control().Stored == nil: // to hand something back decides nothing
		return UnreachableStore(errors.New("who this timeline is was not decided there yet"))
	}
	ctx, cancel := context.WithTimeout(ctx, storeAnswersWithin)
	defer cancel()
	t, err := m.stored(ctx)
	if err != nil {
		return UnreachableStore(err)
	}
	return hurried{NewStored(t)}
}

// storeAnswersWithin is how long what is held here waits for the word of the store. That may name a promotion or a seal which
// this node has not heard of, so that it is asked for each file; but a store that hangs must not keep a standby from its WAL.
const storeAnswersWithin = 5 * time.Second

// hurried is a store that has to answer in time.
type hurried struct{ *Stored }

// Answer implements restore.Place.
func (h hurried) Answer(ctx context.Context, f restore.File) restore.Answer {
	ctx, cancel := context.WithTimeoutCause(ctx, storeAnswersWithin, fmt.Errorf("no answer within %v", storeAnswersWithin))
	defer cancel()
	return h.Stored.Answer(ctx, f)
}

// tailMarker is a place that remembers that a sealed tail went out.
type tailMarker interface {
	MarkTailServed(ctx context.Context, tli pg.TLI) error
}

// markTail writes it down where the seal is known: on this node, or in the store that told of a seal this node has not heard of.
func (m *Member) markTail(ctx context.Context, c *timeline.Control, tli pg.TLI, store restore.Place) error {
	if seal, ok := c.SealOf(tli); ok {
		return m.MarkTailServed(ctx, seal)
	}
	if at, ok := store.(tailMarker); ok {
		return at.MarkTailServed(ctx, tli)
	}
	return timeline.ErrNotSealed
}
