package main

import (
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

// dataDirs is the source that reads the data directories of nodes that do not run. It changes nothing, but for the seal.
type dataDirs struct {
	dirs []string
	id   timeline.ID
	seal bool
}

// Find implements restore.Source.
func (d *dataDirs) Find(ctx context.Context, q restore.Query) restore.Found {
	found := d.find(ctx, q)
	if found.Reason == restore.Unsealed && d.seal {
		if err := d.sealOffline(ctx, q.AcceptDataLoss); err != nil {
			return unknown(restore.Unsealed, "it could not be sealed: %v", err)
		}
		found = d.find(ctx, q)
	}
	return found
}

func unknown(reason restore.Reason, format string, args ...any) restore.Found {
	return restore.Found{Decision: restore.Decision{Reason: reason, Text: fmt.Sprintf(format, args...)}}
}

func (d *dataDirs) find(ctx context.Context, q restore.Query) restore.Found {
	nodes, err := d.open()
	if err != nil {
		return unknown(restore.Refused, "%v", err)
	}
	file, err := restore.ParseFile(q.Name, nodes.segmentSize())
	if err != nil {
		return unknown(restore.Refused, "%v%s", err, nodes.troubles())
	}
	req := restore.Request{File: file, Timeline: d.id.String(), Copy: q.Copy, AcceptDataLoss: q.AcceptDataLoss}
	found := restore.Find(ctx, req, nodes.places(), nil, nodes.quorum())
	if found.Tail == 0 || nodes.servedTail(found.From[0], found.Tail) {
		return found
	}
	if err := d.markServed(ctx, found.From[0]); err != nil {
		found.Close()
		return unknown(restore.NotHeld, "that this tail goes out must be written down first, so that nobody takes the seal back: %v. "+
			"Run 'sluice timeline seal --data-dir %s %s' as the owner of the directory, then ask again", err, found.From[0], d.id)
	}
	return found
}

// open looks into every directory. One that cannot be read is a place that does not answer.
func (d *dataDirs) open() (deadNodes, error) {
	var nodes deadNodes
	seen := map[string]string{}
	for _, dir := range d.dirs {
		n := deadNode{dir: filepath.Clean(dir)}
		id, err := keeper.NodeID(wal.OSFS{}, dir)
		if err == nil {
			n.Offline, err = keeper.OpenOffline(wal.OSFS{}, dir, d.id)
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

// sealOffline seals in a directory. Several nodes decide on one end together, which only running ones can.
func (d *dataDirs) sealOffline(ctx context.Context, acceptDataLoss bool) error {
	if len(d.dirs) > 1 {
		return fmt.Errorf("%d data directories are named, and one end has to be decided for all: start the nodes and run 'sluice timeline seal %s'", len(d.dirs), d.id)
	}
	return d.sealIn(ctx, d.dirs[0], acceptDataLoss)
}

func (d *dataDirs) sealIn(ctx context.Context, dir string, acceptDataLoss bool) error {
	node, err := keeper.NodeID(wal.OSFS{}, dir)
	if err != nil {
		return err
	}
	_, err = timeline.SealOffline(ctx, dir, node, d.id, acceptDataLoss)
	return err
}

// markServed makes a seal remember that its tail went out. Sealing again answers the same end and does that.
func (d *dataDirs) markServed(ctx context.Context, dir string) error {
	return d.sealIn(ctx, dir, false)
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
			places = append(places, noPlace(n))
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

// noPlace does not answer.
type noPlace deadNode

// Answer implements restore.Place.
func (p noPlace) Answer(context.Context, restore.File) restore.Answer {
	return restore.Answer{From: p.dir, Err: p.err}
}

// OpenSegment implements restore.Place; nobody asks for what was not offered.
func (p noPlace) OpenSegment(context.Context, pg.TLI, pg.SegNo) (restore.Segment, error) {
	return nil, p.err
}

// History implements restore.Place.
func (p noPlace) History(context.Context, pg.TLI) ([]byte, error) { return nil, p.err }
