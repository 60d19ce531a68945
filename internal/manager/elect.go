package manager

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
)

// Candidate is a node that keeps a timeline, with what it last said of itself; this node is one, too.
type Candidate struct {
	Node  string
	Heard time.Time // when it said that; of this node: now
	// Start is the first position that it still holds, End what is durable there on its newest TLI.
	Start, End pg.Position
	// CanUpload says that it has object storage that it can use, as far as it knows; Stalled for how long it has had
	// WAL to upload and has uploaded none, though it tried, also after it lost the turn by that; Offloading that it thinks
	// it is its turn.
	CanUpload, Offloading bool
	Stalled               time.Duration
}

// Election is what decides who backs a timeline up. It has nothing but what every node hears, so that all come to the
// same result, or soon do.
type Election struct {
	// Timeline is the timeline's incarnation: two timelines of the same nodes are to differ in it.
	Timeline string
	// Backup is how far object storage has it, as far as anybody says.
	Backup     pg.Position
	Candidates []Candidate
	// Nodes is how many nodes keep the timeline, as far as this node knows, and HearingSince is since when it can hear
	// them: one that has just come does not take the turn of another before that one could say so.
	Nodes        int
	HearingSince time.Time
	Now          time.Time
	Limits       Limits
}

// Limits say how long nodes wait for each other. The nodes of a timeline need the same ones, or they do not agree; the
// zero value is what they have.
type Limits struct {
	// Silent: who says nothing for so long is dead; 0 = 5 s.
	Silent time.Duration
	// Stuck: who uploads nothing for so long is stuck; 0 = 60 s: an upload that hangs was cut and tried again by then.
	Stuck time.Duration
}

// OrDefaults returns the limits with what stands for zero.
func (l Limits) OrDefaults() Limits {
	return Limits{Silent: cmp.Or(l.Silent, 5*time.Second), Stuck: cmp.Or(l.Stuck, 60*time.Second)}
}

// The limits of an election that are no times.
const (
	electMaxLag  = 128 << 20 // who is further behind than this, in bytes, is not elected
	presentLagBy = 2         // times that, whoever has the turn loses it: a limit for both would make it go to and fro
)

// The reasons of an election's result.
const (
	WhyStays         Why = "stays"
	WhyNobodyHad     Why = "nobody_had_it"
	WhyTwoAtOnce     Why = "two_at_once" // for a moment, which is harmless
	WhyPresentSilent Why = "present_silent"
	WhyPresentStuck  Why = "present_stuck"
	WhyPresentLags   Why = "present_lags"
	WhyPresentLacks  Why = "present_lacks_wal"
	WhyAllStuck      Why = "all_stuck" // the trouble is the store's: nobody would do better
	WhyListening     Why = "listening" // others may have it, and could not be heard yet
	WhyNobodyFits    Why = "nobody_fits"
)

// Elect says whose turn it is to back the timeline up, and why; "" if it is nobody's. It is pure.
//
// A candidate fits if it is alive, holds WAL from the backup LSN on, is caught up and makes progress. Whoever has the
// turn keeps it for as long as it fits. Else rendezvous hashing decides among those who fit: each timeline has an order
// of nodes of its own, which a node that comes or goes changes in one place only.
func Elect(e *Election) (node string, why Why) {
	newest := e.newest()
	var fit, stuck, present []*Candidate
	why = WhyNobodyHad
	for i := range e.Candidates {
		c := &e.Candidates[i]
		unfit := e.unfit(c, newest)
		switch {
		case unfit == "" && c.Offloading:
			present = append(present, c)
		case unfit == "":
			fit = append(fit, c)
		case unfit == WhyPresentStuck:
			stuck = append(stuck, c)
		}
		if c.Offloading && unfit != "" && (unfit != WhyPresentSilent || why == WhyNobodyHad) {
			why = unfit // one that died long ago is not why another loses the turn
		}
	}
	switch {
	case len(present) == 1:
		return present[0].Node, WhyStays
	case len(present) > 1:
		return e.first(present), WhyTwoAtOnce
	case why == WhyNobodyHad && e.mayHaveMissed():
		return "", WhyListening
	case len(fit) > 0:
		return e.first(fit), e.whyVacant(why)
	case len(stuck) > 0:
		return e.first(offloading(stuck)), WhyAllStuck
	}
	return "", WhyNobodyFits
}

// whyVacant says why nobody has the turn, for the log: one that gave it up because it was stuck may have said so already.
func (e *Election) whyVacant(why Why) Why {
	for i := range e.Candidates {
		if c := &e.Candidates[i]; why == WhyNobodyHad && e.alive(c) && c.Stalled > e.Limits.OrDefaults().Stuck {
			return WhyPresentStuck
		}
	}
	return why
}

// unfit says why a candidate is not to have the turn, in the words of the one who has it; "" if it fits.
func (e *Election) unfit(c *Candidate, newest pg.Position) Why {
	lag := pg.LSN(electMaxLag)
	if c.Offloading {
		lag *= presentLagBy
	}
	switch {
	case !e.alive(c):
		return WhyPresentSilent
	case c.End.TLI != newest.TLI, c.End.LSN+lag < newest.LSN:
		return WhyPresentLags
	case !e.holdsFromBackup(c):
		return WhyPresentLacks
	case !c.CanUpload, c.Stalled > e.Limits.OrDefaults().Stuck:
		return WhyPresentStuck
	}
	return ""
}

func (e *Election) alive(c *Candidate) bool {
	return e.Now.Sub(c.Heard) <= e.Limits.OrDefaults().Silent
}

// holdsFromBackup reports whether all that is still to be backed up is there.
func (e *Election) holdsFromBackup(c *Candidate) bool {
	return e.Backup.IsZero() || c.Start.TLI <= e.Backup.TLI && c.Start.LSN <= e.Backup.LSN
}

// newest is the furthest end of all that are alive.
func (e *Election) newest() (p pg.Position) {
	for i := range e.Candidates {
		if c := &e.Candidates[i]; e.alive(c) && (c.End.TLI > p.TLI || c.End.TLI == p.TLI && c.End.LSN > p.LSN) {
			p = c.End
		}
	}
	return p
}

// mayHaveMissed reports whether another node may have the turn and could not say so yet.
func (e *Election) mayHaveMissed() bool {
	alive := 0
	for i := range e.Candidates {
		if e.alive(&e.Candidates[i]) {
			alive++
		}
	}
	return alive < e.Nodes && e.Now.Sub(e.HearingSince) < e.Limits.OrDefaults().Silent
}

// offloading returns those who have the turn, or all if nobody has it.
func offloading(list []*Candidate) []*Candidate {
	var some []*Candidate
	for _, c := range list {
		if c.Offloading {
			some = append(some, c)
		}
	}
	if some == nil {
		return list
	}
	return some
}

// first is the node that comes first in this timeline's order of nodes: the one with the highest hash.
func (e *Election) first(list []*Candidate) (node string) {
	var highest uint64
	for _, c := range list {
		hash := sha256.Sum256([]byte(e.Timeline + "\x00" + c.Node))
		if rank := binary.BigEndian.Uint64(hash[:]); node == "" || rank > highest {
			node, highest = c.Node, rank
		}
	}
	return node
}
