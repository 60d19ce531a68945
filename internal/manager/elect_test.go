package manager

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/sluicewal/sluice/internal/pg"
)

// election is the world of one file in testdata/elect. Its commands:
//
//	election KEY=VALUE…    change what is known: backup=TLI@LSN, nodes=N, hearing=DURATION (for how long)
//	node NAME KEY=VALUE…   change what a node said: heard=DURATION (ago), start=, end=TLI@LSN, upload=BOOL,
//	                       stalled=DURATION, offloading=BOOL
//	gone NAME              nothing is known of a node
//	elect                  print who is elected, and why
//	elect become           let the elected node say so, and the others that they are not
type election struct{ Election }

func newElection() *election {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	return &election{Election{
		Timeline: "0195e7a0-0000-7000-8000-000000000001", Backup: pg.Position{TLI: 1, LSN: 0x5000000},
		Nodes: 3, Now: now, HearingSince: now.Add(-time.Hour),
	}}
}

func (e *election) candidate(name string) *Candidate {
	for i := range e.Candidates {
		if e.Candidates[i].Node == name {
			return &e.Candidates[i]
		}
	}
	e.Candidates = append(e.Candidates, Candidate{
		Node: name, Heard: e.Now, Start: pg.Position{TLI: 1, LSN: 0x1000000}, End: pg.Position{TLI: 1, LSN: 0x6000000}, CanUpload: true,
	})
	return &e.Candidates[len(e.Candidates)-1]
}

func TestElect(t *testing.T) {
	datadriven.Walk(t, "testdata/elect", func(t *testing.T, path string) {
		e := newElection()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out, err := e.command(d)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			return out
		})
	})
}

func (e *election) command(d *datadriven.TestData) (string, error) {
	switch d.Cmd {
	case "election":
		return "", eachArg(d.CmdArgs, e.set)
	case "node":
		c := e.candidate(d.CmdArgs[0].Key)
		return "", eachArg(d.CmdArgs[1:], func(k, v string) error { return e.say(c, k, v) })
	case "gone":
		e.Candidates = slices.DeleteFunc(e.Candidates, func(c Candidate) bool { return c.Node == d.CmdArgs[0].Key })
		return "", nil
	case "elect":
		node, why := Elect(&e.Election)
		if d.HasArg("become") {
			for i := range e.Candidates {
				e.Candidates[i].Offloading = e.Candidates[i].Node == node
			}
		}
		if node == "" {
			node = "nobody"
		}
		return fmt.Sprintf("%s: %s\n", node, why), nil
	}
	return "", fmt.Errorf("there is no command %s", d.Cmd)
}

func eachArg(args []datadriven.CmdArg, set func(key, value string) error) error {
	for _, a := range args {
		if err := set(a.Key, strings.Join(a.Vals, "")); err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
	}
	return nil
}

func (e *election) set(key, value string) (err error) {
	switch key {
	case "backup":
		e.Backup, err = position(value)
	case "nodes":
		e.Nodes, err = strconv.Atoi(value)
	case "hearing":
		var d time.Duration
		d, err = time.ParseDuration(value)
		e.HearingSince = e.Now.Add(-d)
	default:
		err = fmt.Errorf("no such key")
	}
	return err
}

func (e *election) say(c *Candidate, key, value string) (err error) {
	switch key {
	case "heard":
		var d time.Duration
		d, err = time.ParseDuration(value)
		c.Heard = e.Now.Add(-d)
	case "start":
		c.Start, err = position(value)
	case "end":
		c.End, err = position(value)
	case "upload":
		c.CanUpload, err = strconv.ParseBool(value)
	case "stalled":
		c.Stalled, err = time.ParseDuration(value)
	case "offloading":
		c.Offloading, err = strconv.ParseBool(value)
	default:
		err = fmt.Errorf("no such key")
	}
	return err
}

// position reads "1@0/3000000".
func position(s string) (p pg.Position, err error) {
	tli, lsn, _ := strings.Cut(s, "@")
	if _, err := fmt.Sscan(tli, &p.TLI); err != nil {
		return p, err
	}
	p.LSN, err = pg.ParseLSN(lsn)
	return p, err
}

// electAll elects for many timelines among the same nodes. had is who has each one's turn, "" = nobody.
func electAll(nodes []string, had []string) []string {
	e := newElection()
	for _, n := range nodes {
		e.candidate(n)
	}
	elected := make([]string, len(had))
	for i := range had {
		e.Timeline = strconv.Itoa(i)
		for j := range e.Candidates {
			e.Candidates[j].Offloading = e.Candidates[j].Node == had[i]
		}
		elected[i], _ = Elect(&e.Election)
	}
	return elected
}

// TestElectionsMoveFewTimelines counts who moves when a node comes or goes: each that does interrupts an upload, and a
// node that restarts must not interrupt thousands.
func TestElectionsMoveFewTimelines(t *testing.T) {
	const timelines = 2000
	nodes := []string{"a", "b", "c", "d", "e"}
	before := electAll(nodes, make([]string, timelines))
	share := map[string]int{}
	for _, node := range before {
		share[node]++
	}
	for _, node := range nodes {
		if n, fair := share[node], timelines/len(nodes); n < fair*8/10 || n > fair*12/10 {
			t.Errorf("node %s has %d timelines, its share is %d", node, n, fair)
		}
	}

	for _, c := range []struct {
		name  string
		nodes []string
		had   []string // who says that it has the turn
		moves func(was, is string) bool
	}{
		{"a node goes", nodes[1:], before, func(was, _ string) bool { return was == "a" }},
		{"a node goes, and nobody remembers", nodes[1:], make([]string, timelines), func(was, _ string) bool { return was == "a" }},
		{"a node comes", append(slices.Clone(nodes), "f"), before, func(string, string) bool { return false }},
		{"a node comes, and nobody remembers", append(slices.Clone(nodes), "f"), make([]string, timelines), func(_, is string) bool { return is == "f" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			moved := 0
			for i, is := range electAll(c.nodes, c.had) {
				if was := before[i]; (was != is) != c.moves(was, is) {
					t.Fatalf("timeline %d: from %s to %s", i, was, is)
				} else if was != is {
					moved++
				}
			}
			if most := timelines * 12 / 10 / (len(c.nodes)); moved > most && len(c.nodes) > len(nodes) {
				t.Errorf("%d of %d timelines moved, want at most %d", moved, timelines, most)
			}
			t.Logf("%d of %d timelines moved", moved, timelines)
		})
	}
}

// TestEveryNodeElectsTheSame gives each node the same facts in another order.
func TestEveryNodeElectsTheSame(t *testing.T) {
	for i := range 200 {
		nodes := []string{"a", "b", "c", "d"}
		want := electAll(nodes, make([]string, i+1))[i]
		slices.Reverse(nodes)
		if got := electAll(nodes, make([]string, i+1))[i]; got != want {
			t.Fatalf("timeline %d: %s and %s", i, got, want)
		}
	}
}

func TestCommitLSN(t *testing.T) {
	on := func(tli pg.TLI, lsns ...pg.LSN) (list []pg.Position) {
		for _, lsn := range lsns {
			list = append(list, pg.Position{TLI: tli, LSN: lsn})
		}
		return list
	}
	for _, c := range []struct {
		name     string
		reported []pg.Position
		k, m     int
		want     pg.LSN // 0: not known
	}{
		{"one node", on(2, 30), 1, 1, 30},
		{"not synchronous", on(2, 30), 0, 1, 30},
		{"ANY 2 of 3, all heard", on(2, 30, 10, 20), 2, 3, 20},
		{"ANY 2 of 3, one heard beside us", on(2, 30, 10), 2, 3, 10},
		{"ANY 2 of 3, nobody heard beside us", on(2, 30), 2, 3, 0},
		{"ANY 1 of 3, nobody heard beside us", on(2, 30), 1, 3, 30},
		{"ANY 3 of 3", on(2, 30, 10, 20), 3, 3, 10},
		{"ANY 2, and one of them is no node of ours", on(2, 30), 2, 1, 30},
		{"ANY 3, two of them nodes of ours", on(2, 30, 20), 3, 2, 20},
		{"another is behind, on the parent TLI", append(on(2, 30), on(1, 99)...), 2, 3, 0},
		{"another is ahead, on a later TLI", append(on(2, 30), on(3, 99)...), 2, 3, 0},
		{"the others are on our TLI", append(on(2, 30, 20), on(1, 99)...), 2, 3, 20},
		{"nobody said anything", nil, 1, 1, 0},
	} {
		got, ok := CommitLSN(2, c.reported, c.k, c.m)
		if got != c.want || ok != (c.want != 0) {
			t.Errorf("%s: %s, %t; want %s", c.name, got, ok, c.want)
		}
	}
}
