package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/sluicewal/sluice/internal/pg"
)

// Listing is what the store said that it has of a timeline. A listing may be late, and name what is gone: what matters is
// looked at again.
type Listing struct {
	Segments  []Object // whole ones, by number and TLI
	Partials  []Partial
	Histories []pg.TLI // increasing
	// Quarantined names the objects that are not what they should be: too short to be anything, found damaged, or under a
	// name that no Sluice gives. None of them counts as there, and none is removed.
	Quarantined []*DamagedError
}

// Object is a whole segment in the store.
type Object struct {
	TLI    pg.TLI
	SegNo  pg.SegNo
	Stored int64 // bytes of the object
}

// List lists all segments and histories: a request for each thousand.
func (t *Timeline) List(ctx context.Context) (Listing, error) {
	var l Listing
	err := t.store.list(ctx, t.prefix+walDir, func(o object) bool {
		t.add(&l, object{o.key[len(t.prefix):], o.size})
		return true
	})
	if err != nil {
		return Listing{}, err
	}
	slices.SortFunc(l.Segments, func(a, b Object) int { return cmp.Or(cmp.Compare(a.SegNo, b.SegNo), cmp.Compare(a.TLI, b.TLI)) })
	return l, nil
}

// add sorts an object in.
func (t *Timeline) add(l *Listing, o object) {
	n := t.layout.parse(o.key)
	if bad := t.suspect(n, o); bad != nil {
		l.Quarantined = append(l.Quarantined, bad)
		return
	}
	switch n.kind {
	case wholeSegment:
		l.Segments = append(l.Segments, Object{TLI: n.tli, SegNo: n.segNo, Stored: o.size})
	case openSegment:
		l.Partials = append(l.Partials, Partial{TLI: n.tli, SegNo: n.segNo, End: n.end, Node: n.node, key: o.key})
	case history:
		l.Histories = append(l.Histories, n.tli)
	}
}

// suspect says what is wrong with an object, as far as its name and its length tell; nil if nothing is.
func (t *Timeline) suspect(n name, o object) *DamagedError {
	t.mu.Lock()
	known := t.damaged[o.key]
	t.mu.Unlock()
	switch {
	case known != nil:
		return known
	case n.kind == foreign:
		return &DamagedError{Key: t.prefix + o.key, Reason: "no Sluice gives such a name"}
	case o.size == 0:
		return &DamagedError{Key: t.prefix + o.key, Reason: "it is empty"}
	case n.kind == wholeSegment && t.layout.compression == None && o.size != int64(t.layout.size):
		return &DamagedError{Key: t.prefix + o.key, Reason: fmt.Sprintf("it has %d bytes of %d", o.size, t.layout.size)}
	}
	return nil
}

// BackupLSN returns the end of the unbroken run of whole segments from the one that begins at from, along the history; from
// itself if that one is not there. With from = 0 the run begins at the oldest segment. It needs the store alone.
//
// Where the listing has a hole, the store is asked for that segment: the listing may be late, and the run goes on.
func (t *Timeline) BackupLSN(ctx context.Context, h pg.History, from pg.LSN) (pg.LSN, error) {
	l, err := t.List(ctx)
	if err != nil {
		return 0, err
	}
	n := t.layout.size.SegNo(from)
	if from == 0 {
		if len(l.Segments) == 0 {
			return 0, nil
		}
		n = l.Segments[0].SegNo
	}
	listed := map[Object]bool{}
	for _, o := range l.Segments {
		listed[Object{TLI: o.TLI, SegNo: o.SegNo}] = true
	}
	for ; ; n++ {
		tli := NewestAt(h, n, t.layout.size)
		if listed[Object{TLI: tli, SegNo: n}] {
			continue
		}
		there, err := t.has(ctx, tli, n)
		if err != nil || !there {
			return max(from, t.layout.size.Start(n)), err
		}
	}
}

// RunEnd is how far the unbroken run of whole segments goes from one border on, along the history, up to another. Each is
// asked for: there are few. With an error it is how far that was found out.
func (t *Timeline) RunEnd(ctx context.Context, h pg.History, from, to pg.LSN) (pg.LSN, error) {
	for n := t.layout.size.SegNo(from); n < t.layout.size.SegNo(to); n++ {
		there, err := t.has(ctx, NewestAt(h, n, t.layout.size), n)
		if err != nil || !there {
			return max(from, t.layout.size.Start(n)), err
		}
	}
	return max(from, to), nil
}

// NewestAt returns the TLI that has the segment with a number whole: the newest that begins in it or below. The parent's, of a
// segment in which it was left, stays open for ever.
func NewestAt(h pg.History, n pg.SegNo, size pg.SegmentSize) pg.TLI {
	tli := h.TLI
	for _, fork := range slices.Backward(h.Forks) {
		if size.SegNo(fork.LSN) <= n {
			return tli
		}
		tli = fork.TLI
	}
	return tli
}

// has asks for a whole segment, and holds what it says of itself against its name.
func (t *Timeline) has(ctx context.Context, tli pg.TLI, n pg.SegNo) (bool, error) {
	key := t.layout.segment(tli, n)
	if t.quarantined(key) {
		return false, nil
	}
	a, err := t.store.attributes(ctx, t.prefix+key)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = t.readLabel(ctx, key, t.whole(tli, n), a)
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		_ = t.quarantine(ctx, key, damaged.Reason) // told, and kept there
		return false, nil
	}
	return err == nil, err
}

// Trim removes whole segments, of any TLI, and open ones, below a segment: the oldest first, so that a crash leaves a run
// without holes. Histories, claims and seals stay.
func (t *Timeline) Trim(ctx context.Context, before pg.SegNo) (segments int, bytes int64, err error) {
	l, err := t.List(ctx)
	if err != nil {
		return 0, 0, err
	}
	for _, o := range l.Segments {
		if o.SegNo >= before {
			break
		}
		if err := t.removeWithSum(ctx, t.layout.segment(o.TLI, o.SegNo)); err != nil {
			return segments, bytes, err
		}
		segments++
		bytes += o.Stored
	}
	for _, p := range l.Partials {
		if p.SegNo >= before {
			continue
		}
		if err := t.removeWithSum(ctx, p.key); err != nil {
			return segments, bytes, err
		}
	}
	return segments, bytes, nil
}
