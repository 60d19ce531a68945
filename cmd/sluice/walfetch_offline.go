package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/sluicewal/sluice/internal/keeper"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/restore"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal"
)

// offline is the source that needs no node that runs: the data directories of dead ones, and object storage. It changes
// nothing, but for the seal and the mark that a tail went out.
type offline struct {
	dirs  []string
	store string // URL; empty: none
	id    timeline.ID
	seal  bool
}

// Find implements restore.Source.
func (o *offline) Find(ctx context.Context, q restore.Query) restore.Found {
	found := o.find(ctx, q)
	switch {
	case found.Reason != restore.Unsealed || !o.seal:
		return found
	case len(o.dirs) == 0:
		found.Text += ". --seal has no effect on object storage alone: a seal is the promise of a node"
		return found
	}
	if err := o.sealOffline(ctx, q.AcceptDataLoss); err != nil {
		return unknown(restore.Unsealed, "it could not be sealed: %v", err)
	}
	return o.find(ctx, q)
}

func unknown(reason restore.Reason, format string, args ...any) restore.Found {
	return restore.Found{Decision: restore.Decision{Reason: reason, Text: fmt.Sprintf(format, args...)}}
}

func (o *offline) find(ctx context.Context, q restore.Query) restore.Found {
	nodes, err := o.open()
	if err != nil {
		return unknown(restore.Refused, "%v", err)
	}
	stored := o.openStore(ctx, nodes.incarnation())
	defer stored.close()
	if stored.err != nil && len(nodes) == 0 {
		return stored.unknown()
	}
	file, err := restore.ParseFile(q.Name, cmp.Or(nodes.segmentSize(), stored.segmentSize()))
	if err != nil {
		return unknown(restore.Refused, "%v%s", err, nodes.troubles())
	}
	req := restore.Request{File: file, Timeline: o.id.String(), Copy: q.Copy, AcceptDataLoss: q.AcceptDataLoss}
	found := restore.Find(ctx, req, nodes.places(), stored.place(), nodes.quorum())
	if found.Tail == 0 {
		return found
	}
	if err := o.markServed(ctx, nodes, stored, found.Decision); err != nil && !found.Loss {
		found.Close()
		return unknown(restore.NotHeld, "that this tail goes out must be written down first, so that nobody takes the seal back: %v", err)
	}
	return found
}

// markServed writes down that a tail goes out, where it comes from. A loss that is accepted does not wait for that: whoever
// restores with it may be allowed only to read.
func (o *offline) markServed(ctx context.Context, nodes deadNodes, stored *storedPlace, d restore.Decision) error {
	if stored.gave(d) {
		if err := stored.MarkTailServed(ctx, d.Tail); err != nil {
			return fmt.Errorf("%w. Allow these credentials to write below served/, or restore with --accept-data-loss", err)
		}
		return nil
	}
	dir := d.From[0]
	if nodes.servedTail(dir, d.Tail) {
		return nil
	}
	if _, err := o.sealIn(ctx, dir, false); err != nil { // sealing again answers the same end, and marks it
		return fmt.Errorf("%w. Run 'sluice timeline seal --data-dir %s %s' as the owner of the directory, then ask again", err, dir, o.id)
	}
	return nil
}

// open looks into every directory. One that cannot be read is a place that does not answer.
func (o *offline) open() (deadNodes, error) {
	var nodes deadNodes
	seen := map[string]string{}
	for _, dir := range o.dirs {
		n := deadNode{dir: filepath.Clean(dir)}
		id, err := keeper.NodeID(wal.OSFS{}, dir)
		if err == nil {
			n.Offline, err = keeper.OpenOffline(wal.OSFS{}, dir, o.id)
		}
		n.err = err
		if other, twice := seen[id]; twice && id != "" {
			return nil, fmt.Errorf("%s and %s both belong to node %q: name one of them, because each node has one word", other, dir, id)
		}
		seen[id] = dir
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// sealOffline seals in a directory, and lets the end be decided where the nodes meet, if that is named. Several nodes decide on
// one end together, which only running ones can.
func (o *offline) sealOffline(ctx context.Context, acceptDataLoss bool) error {
	if len(o.dirs) > 1 {
		return fmt.Errorf("%d data directories are named, and one end has to be decided for all: start the nodes and run 'sluice timeline seal %s'", len(o.dirs), o.id)
	}
	seal, err := o.sealIn(ctx, o.dirs[0], acceptDataLoss)
	if err != nil || o.store == "" {
		return err
	}
	nodes, err := o.open()
	if err != nil {
		return err
	}
	stored := o.openStore(ctx, nodes.incarnation())
	defer stored.close()
	if stored.err != nil {
		return stored.err
	}
	return stored.DecideSeal(ctx, seal)
}

func (o *offline) sealIn(ctx context.Context, dir string, acceptDataLoss bool) (timeline.Seal, error) {
	node, err := keeper.NodeID(wal.OSFS{}, dir)
	if err != nil {
		return timeline.Seal{}, err
	}
	res, err := timeline.SealOffline(ctx, dir, node, o.id, acceptDataLoss)
	return res.Seal, err
}

// deadNode is a data directory: a place, or the reason why it is none.
type deadNode struct {
	dir string
	*keeper.Offline
	err error
}

// deadNodes are all that were named.
type deadNodes []deadNode

// segmentSize is the first that is known; two clusters would be told apart by their system identifiers.
func (ns deadNodes) segmentSize() pg.SegmentSize {
	for _, n := range ns {
		if n.err == nil && n.Control.SegmentSize != 0 {
			return n.Control.SegmentSize
		}
	}
	return 0
}

// incarnation is the life that they keep; empty where none is known.
func (ns deadNodes) incarnation() string {
	for _, n := range ns {
		if n.err == nil && n.Control.SystemID != 0 {
			return string(n.Control.Incarnation)
		}
	}
	return ""
}

// troubles says what is wrong with the directories.
func (ns deadNodes) troubles() string {
	var b strings.Builder
	for _, n := range ns {
		if n.err != nil {
			fmt.Fprintf(&b, "; %s: %v", n.dir, n.err)
		}
	}
	return b.String()
}

func (ns deadNodes) places() []restore.Place {
	var places []restore.Place
	for _, n := range ns {
		if n.err != nil {
			places = append(places, keeper.Unreachable(n.dir, n.err))
			continue
		}
		places = append(places, n.Offline)
	}
	return places
}

// quorum is the strictest that any of them knows for the newest TLI that any of them has.
func (ns deadNodes) quorum() restore.Quorum {
	var newest pg.TLI
	for _, n := range ns {
		if n.err == nil {
			newest = max(newest, n.Position.TLI)
		}
	}
	q := restore.Quorum{Required: 1}
	for _, n := range ns {
		if n.err != nil {
			continue
		}
		its := keeper.RequiredQuorum(n.Control, newest)
		if its.Required == 0 {
			return its
		}
		q.Required = max(q.Required, its.Required)
	}
	return q
}

// servedTail reports whether a directory's seal says already that its tail went out.
func (ns deadNodes) servedTail(dir string, tli pg.TLI) bool {
	for _, n := range ns {
		if n.err != nil || n.dir != dir {
			continue
		}
		seal, _ := n.Control.SealOf(tli)
		return seal.TailServed
	}
	return false
}
