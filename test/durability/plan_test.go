package durability

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// fault is something that happens to a running system, which has to go on by
// itself.
type fault string

// The faults under load. Those of the disk need one of our own (rig.Disk).
const (
	killNode    fault = "kill-node"
	pauseNode   fault = "pause-node"
	killPrimary fault = "kill-primary" // and restart it: crash recovery on the same TLI
	cutStream   fault = "cut-stream"   // the walsender is terminated
	switchWAL   fault = "switch-wal"
	fillDisk    fault = "fill-disk"
	losePower   fault = "lose-power" // of the node's disk
)

// ending is how a cycle's primary ends.
type ending string

// The endings. After each the primary's data is not used any more.
const (
	killedUnderLoad ending = "killed"       // in the middle of a segment, mostly
	killedAtBorder  ending = "at-border"    // nothing was written after pg_switch_wal
	killedInRecord  ending = "in-record"    // while records of megabytes are on their way
	staysAlive      ending = "stays-alive"  // it runs on, with its clients, until the new one has taken over
	comesBack       ending = "comes-back"   // killed; its data survived, and it is started again, before and after the failover
	sameAddress     ending = "same-address" // killed; the new one listens where it did, and nobody tells the node
)

// sealing is who seals.
type sealing string

// The ways to seal.
const (
	byVerb    sealing = "verb"    // sluice timeline seal
	byFetch   sealing = "fetch"   // the restore_command does, through the node
	offline   sealing = "offline" // the restore_command does, in the directory of the dead node
	powerLost sealing = "power"   // the node's machine died with the primary; it comes back, then the verb
)

// plannedFault is a fault and when.
type plannedFault struct {
	fault fault
	after time.Duration // of load without trouble
	lasts time.Duration // until what was broken is repaired
}

// plan is one cycle's schedule.
type plan struct {
	think  time.Duration // longest pause of a client between two transactions
	backup bool          // renew the base backup, under load
	faults []plannedFault
	calm   time.Duration // load between the last fault and the end
	ending ending
	seal   sealing
	// stumble happens while the new primary is being followed; "" is nothing.
	stumble plannedFault
}

// planner draws the schedules of a run, one cycle after the other. They follow
// from the seed alone.
type planner struct {
	*rand.Rand
	disk  bool // the node has one of its own
	drawn int
}

func newPlanner(seed int64, disk bool) *planner {
	return &planner{Rand: rand.New(rand.NewPCG(uint64(seed), 0)), disk: disk}
}

func (r *planner) next() plan {
	p := plan{
		think:   pick(r, 0, time.Millisecond, 4*time.Millisecond),
		backup:  r.drawn%4 == 0,
		calm:    r.between(100, 500),
		ending:  pick(r, killedUnderLoad, killedUnderLoad, killedAtBorder, killedInRecord, killedInRecord, staysAlive, comesBack, sameAddress),
		seal:    pick(r, orOfTheDisk(r, []sealing{byVerb, byVerb, byFetch, offline}, powerLost)...),
		stumble: plannedFault{pick(r, orOfTheDisk(r, []fault{"", "", killNode, killPrimary}, losePower)...), r.between(0, 150), r.between(0, 100)},
	}
	faults := orOfTheDisk(r, []fault{killNode, killNode, pauseNode, killPrimary, cutStream, switchWAL, switchWAL}, fillDisk, losePower, losePower)
	for range 1 + r.IntN(3) {
		p.faults = append(p.faults, plannedFault{pick(r, faults...), r.between(50, 400), r.between(0, 600)})
	}
	r.drawn++
	return p
}

// between is a random time in milliseconds.
func (r *planner) between(low, high int) time.Duration {
	return time.Duration(low+r.IntN(high-low)) * time.Millisecond
}

// orOfTheDisk adds what only a disk of one's own can do.
func orOfTheDisk[T any](r *planner, always []T, more ...T) []T {
	if !r.disk {
		return always
	}
	return append(always, more...)
}

func pick[T any](r *planner, from ...T) T { return from[r.IntN(len(from))] }

func (p plan) String() string {
	var names []string
	for _, f := range p.faults {
		names = append(names, string(f.fault))
	}
	text := fmt.Sprintf("%s; %s, sealed by %s", strings.Join(names, " "), p.ending, p.seal)
	if p.stumble.fault != "" {
		text += fmt.Sprintf(", %s after %v", p.stumble.fault, p.stumble.after)
	}
	return text
}

func TestPlansFollowFromTheSeed(t *testing.T) {
	one, two := newPlanner(7, true), newPlanner(7, true)
	for n := range 20 {
		if a, b := fmt.Sprintf("%+v", one.next()), fmt.Sprintf("%+v", two.next()); a != b {
			t.Errorf("cycle %d of one seed has two schedules:\n%s\n%s", n, a, b)
		}
	}
}

func TestPlansReachEveryFaultAndEnding(t *testing.T) {
	seen := map[string]bool{}
	planner := newPlanner(1, true)
	for range 60 {
		p := planner.next()
		seen[string(p.ending)], seen[string(p.seal)] = true, true
		for _, f := range p.faults {
			seen[string(f.fault)] = true
		}
	}
	for _, want := range slices.Concat(
		strs(killNode, pauseNode, killPrimary, cutStream, switchWAL, fillDisk, losePower),
		strs(killedUnderLoad, killedAtBorder, killedInRecord, staysAlive, comesBack, sameAddress),
		strs(byVerb, byFetch, offline, powerLost)) {
		if !seen[want] {
			t.Errorf("60 cycles never plan %s", want)
		}
	}
}

func strs[T ~string](of ...T) (out []string) {
	for _, s := range of {
		out = append(out, string(s))
	}
	return out
}
