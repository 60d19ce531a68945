package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/sluicewal/sluice/internal/pg"
)

// Partial is an open segment in the store: what a node had of it at some time.
type Partial struct {
	TLI   pg.TLI
	SegNo pg.SegNo
	End   pg.LSN // of what was durable on the node
	Node  string

	key string // below the incarnation
}

func (p Partial) extent(size pg.SegmentSize) extent {
	return extent{tli: p.TLI, segNo: p.SegNo, start: size.Start(p.SegNo), end: p.End}
}

// PutPartial stores what is durable of an open segment, up to end, and then removes what that makes superfluous: the new
// one is up before the old one goes, so that a crash in between leaves one good object, or two.
func (t *Timeline) PutPartial(ctx context.Context, tli pg.TLI, n pg.SegNo, end pg.LSN, src io.ReaderAt) (Upload, error) {
	if !t.layout.within(n, end) {
		return Upload{}, fmt.Errorf("open segment %d does not end at %s", n, end)
	}
	p := Partial{TLI: tli, SegNo: n, End: end, Node: t.store.cfg.Node, key: t.layout.partial(tli, n, end, t.store.cfg.Node)}
	u, err := t.put(ctx, p.key, p.extent(t.layout.size), src)
	if err != nil {
		return Upload{}, err
	}
	return u, t.CleanPartials(ctx)
}

// CleanPartials removes open segments that hold nothing which is not held better: of one node and segment all but the
// longest, and of a segment that is there whole, all.
func (t *Timeline) CleanPartials(ctx context.Context) error {
	all, err := t.Partials(ctx)
	if err != nil {
		return err
	}
	for _, p := range all {
		superfluous, err := t.superfluous(ctx, p, all)
		if err != nil {
			return err
		}
		if !superfluous {
			continue
		}
		if err := t.removeWithSum(ctx, p.key); err != nil {
			return err
		}
	}
	return nil
}

func (t *Timeline) superfluous(ctx context.Context, p Partial, all []Partial) (bool, error) {
	for _, o := range all {
		if o.Node == p.Node && o.TLI == p.TLI && o.SegNo == p.SegNo && o.End > p.End {
			return true, nil
		}
	}
	key := t.layout.segment(p.TLI, p.SegNo)
	a, err := t.store.attributes(ctx, t.prefix+key)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = t.readLabel(ctx, key, t.whole(p.TLI, p.SegNo), a)
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		return false, nil
	}
	return err == nil, err
}

// removeWithSum removes a segment's object, and the checksum file beside it after it: what is left by a crash is a
// checksum of nothing.
func (t *Timeline) removeWithSum(ctx context.Context, key string) error {
	if err := t.store.remove(ctx, t.prefix+key); err != nil {
		return err
	}
	if t.layout.compression.labelled() || t.store.dir == nil {
		return nil
	}
	return t.store.remove(ctx, t.prefix+key+sumSuffix)
}

// Partials lists the open segments, without those in quarantine.
func (t *Timeline) Partials(ctx context.Context) ([]Partial, error) {
	keys, err := t.keys(ctx, partialDir)
	if err != nil {
		return nil, err
	}
	var all []Partial
	for _, key := range keys {
		if n := t.layout.parse(key); n.kind == openSegment && !t.quarantined(key) {
			all = append(all, Partial{TLI: n.tli, SegNo: n.segNo, End: n.end, Node: n.node, key: key})
		}
	}
	return all, nil
}

// NewestPartial returns the open segment that reaches farthest, whichever node had it; fs.ErrNotExist if there is none.
func (t *Timeline) NewestPartial(ctx context.Context, tli pg.TLI, n pg.SegNo) (Partial, error) {
	all, err := t.Partials(ctx)
	if err != nil {
		return Partial{}, err
	}
	if p, found := farthest(all, tli, n); found {
		return p, nil
	}
	return Partial{}, fmt.Errorf("open segment %s: %w", pg.SegmentName(tli, n, t.layout.size), fs.ErrNotExist)
}

func farthest(all []Partial, tli pg.TLI, n pg.SegNo) (best Partial, found bool) {
	for _, p := range all {
		if p.TLI == tli && p.SegNo == n && p.End > best.End {
			best, found = p, true
		}
	}
	return best, found
}
