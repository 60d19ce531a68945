package manager

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

// script is the world of one file in testdata/plan. Its commands:
//
//	timeline KEY=VALUE…   change what the timeline's snapshot says
//	task NAME KEY=VALUE…  change what the group says of a task
//	store                 there is object storage, and it knows the timeline
//	stored KEY=VALUE…     change what is there
//	nodes N KEY=VALUE…    N nodes keep the timeline, and this one is "a": hearing=DURATION (for how long), leaving=, upload=
//	peer NAME KEY=VALUE…  change what another node said, as in testdata/elect, and backup=TLI@LSN
//	gone NAME             nothing is known of a node
//	secondary             the tenant keeps a warm copy, and there is object storage
//	connected             receive and settings have made progress
//	pass DURATION         let time pass
//	plan                  print the plan
//	apply                 print the plan, and do what it says
//	save-fails            like apply, but the control file cannot be saved
type script struct {
	v    view
	now  time.Time
	cfg  Config
	dirt dirt
	wake pg.LSN // of the last applied plan's flush threshold; 0: it had none
}

// woken is the reason by which WAL wakes the manager, if it does.
func (s *script) woken() timeline.WakeReasons {
	if s.wake != 0 && s.v.FlushLSN >= s.wake {
		return timeline.WakeReasons(0).With(timeline.ReasonWALResumed)
	}
	return 0
}

func (s *script) setStored(key, value string) (err error) {
	b := &s.v.Backup
	switch key {
	case "decided":
		b.Decided, err = strconv.ParseBool(value)
	case "lsn":
		b.LSN, err = pg.ParseLSN(value)
		b.At, b.Since = pg.Position{TLI: s.v.TLI, LSN: b.LSN}, s.now
	case "claimed":
		_, err = fmt.Sscan(value, &b.Claimed)
	case "conflict":
		_, err = fmt.Sscan(value, &b.Conflict)
	case "undelivered":
		s.v.BackupUndelivered, err = strconv.ParseBool(value)
	case "partial":
		b.Partial.TLI, b.PartialAt = s.v.TLI, s.now
		b.Partial.LSN, err = pg.ParseLSN(value)
	default:
		err = fmt.Errorf("no such key")
	}
	return err
}

func newScript() *script {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	return &script{
		now: now,
		cfg: Config{SaveAfter: defaultSaveAfter, Seed: 1},
		v: view{Snapshot: timeline.Snapshot{
			State: timeline.StateRunning, HasSource: true, SourceGeneration: 1, TLI: 1,
			SegmentSize: pg.DefaultSegmentSize, FlushLSN: 0x1000100, CommitLSN: 0x1000100,
			ControlSavedAt: now.Add(-time.Hour), ControlSaved: pg.Position{TLI: 1, LSN: 0x1000100},
			Oldest: pg.Position{TLI: 1, LSN: 0x1000000},
		}, heard: Heard{Self: "a", Nodes: 1, CanUpload: true, Timeline: "0195e7a0-0000-7000-8000-000000000001"}},
	}
}

func TestPlan(t *testing.T) {
	datadriven.Walk(t, "testdata/plan", func(t *testing.T, path string) {
		s := newScript()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out, err := s.command(d)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			return out
		})
	})
}

func (s *script) command(d *datadriven.TestData) (string, error) {
	switch d.Cmd {
	case "timeline":
		return "", s.each(d.CmdArgs, s.setTimeline)
	case "task":
		name := tasks.Name(d.CmdArgs[0].Key)
		return "", s.each(d.CmdArgs[1:], func(k, v string) error { return s.setTask(s.task(name), k, v) })
	case "store":
		s.cfg.Backup, s.cfg.PartialInterval = true, time.Minute
		s.v.Backup = timeline.Backup{
			Decided: true, LSN: 0x1000000, Claimed: 1, Partial: pg.Position{TLI: 1, LSN: 0x1000100}, PartialAt: s.now.Add(-time.Hour),
			At: pg.Position{TLI: 1, LSN: 0x1000000},
		}
		s.v.BackupSaved = pg.Position{TLI: 1, LSN: 0x1000000}
		s.dirt = s.dirt.look(&s.v, 0, s.now)
		return "", nil
	case "stored":
		return "", s.each(d.CmdArgs, s.setStored)
	case "nodes", "peer", "gone":
		return "", s.hear(d)
	case "secondary":
		s.cfg.Secondary, s.cfg.Backup = true, true
		return "", nil
	case "connected":
		s.task(Receive).Progressed, s.task(Settings).Progressed = true, true
		return "", nil
	case "pass":
		return "", s.each(d.CmdArgs, s.pass)
	}
	s.dirt = s.dirt.look(&s.v, s.woken(), s.now)
	s.v.partialSince = s.dirt.since
	s.v.queuedSince = sinceQueued(&s.v, s.v.queuedSince, s.now)
	p := plan(&s.v, s.now, &s.cfg)
	switch d.Cmd {
	case "plan":
	case "apply":
		s.apply(&p, true)
	case "save-fails":
		s.apply(&p, false)
	default:
		return "", fmt.Errorf("no such command: %s", d.Cmd)
	}
	return s.print(&p), nil
}

func (s *script) each(args []datadriven.CmdArg, set func(key, value string) error) error {
	for _, a := range args {
		if err := set(a.Key, strings.Join(a.Vals, ",")); err != nil {
			return fmt.Errorf("%s: %w", a.Key, err)
		}
	}
	return nil
}

// hear changes what is known of the other nodes.
func (s *script) hear(d *datadriven.TestData) (err error) {
	h := &s.v.heard
	switch d.Cmd {
	case "nodes":
		if h.Nodes, err = strconv.Atoi(d.CmdArgs[0].Key); err != nil {
			return err
		}
		h.Since = s.now.Add(-time.Hour)
		return s.each(d.CmdArgs[1:], s.setHeard)
	case "gone":
		h.Peers = slices.DeleteFunc(h.Peers, func(p Peer) bool { return p.Node == d.CmdArgs[0].Key })
		return nil
	}
	return s.each(d.CmdArgs[1:], func(key, value string) (err error) {
		p := s.peer(d.CmdArgs[0].Key)
		if key == "backup" {
			p.Backup, err = position(value)
			return err
		}
		e := election{Election{Now: s.now}}
		return e.say(&p.Candidate, key, value)
	})
}

func (s *script) setHeard(key, value string) (err error) {
	switch key {
	case "hearing":
		var d time.Duration
		d, err = time.ParseDuration(value)
		s.v.heard.Since = s.now.Add(-d)
	case "leaving":
		s.v.heard.Leaving, err = strconv.ParseBool(value)
	case "upload":
		s.v.heard.CanUpload, err = strconv.ParseBool(value)
	default:
		err = fmt.Errorf("no such key")
	}
	return err
}

// peer is another node, which has said that it is where this one is.
func (s *script) peer(name string) *Peer {
	for i := range s.v.heard.Peers {
		if p := &s.v.heard.Peers[i]; p.Node == name {
			return p
		}
	}
	s.v.heard.Peers = append(s.v.heard.Peers, Peer{
		Candidate: Candidate{Node: name, Heard: s.now, Start: s.v.Oldest, End: pg.Position{TLI: s.v.TLI, LSN: s.v.FlushLSN}, CanUpload: true},
		Backup:    s.v.Backup.At,
	})
	return &s.v.heard.Peers[len(s.v.heard.Peers)-1]
}

func (s *script) setTimeline(key, value string) (err error) {
	v := &s.v
	switch key {
	case "state":
		v.State = timeline.State(value)
	case "source":
		v.HasSource = value != "none"
		v.SourceGeneration++
	case "sealing":
		v.Sealing, err = strconv.ParseBool(value)
	case "sealed":
		v.NewestSealed, err = strconv.ParseBool(value)
	case "draining":
		v.Draining, err = strconv.ParseBool(value)
	case "tli-begin":
		v.TLIBegin, err = pg.ParseLSN(value)
	case "tli":
		_, err = fmt.Sscan(value, &v.TLI)
	case "segment-size":
		v.SegmentSize, err = pg.ParseSegmentSize(value)
	case "flush":
		v.FlushLSN, err = pg.ParseLSN(value)
	case "commit":
		v.CommitLSN, err = pg.ParseLSN(value)
	case "removable":
		v.removable, err = strconv.ParseInt(value, 10, 64)
	case "saved":
		var ago time.Duration
		ago, err = time.ParseDuration(value)
		v.ControlSavedAt = s.now.Add(ago)
	default:
		err = fmt.Errorf("no such key")
	}
	return err
}

func (s *script) setTask(t *tasks.Status, key, value string) (err error) {
	switch key {
	case "ended":
		*t = tasks.Status{
			Name: t.Name, Generation: t.Generation, FruitlessRuns: t.FruitlessRuns, Starts: t.Starts,
			LastOutcome: tasks.Outcome(value), LastEnd: s.now, LastStart: t.LastStart,
		}
		if value == string(tasks.Cancelled) {
			t.FruitlessRuns = 0
		}
	case "fruitless":
		t.FruitlessRuns, err = strconv.Atoi(value)
	case "generation":
		t.Generation, err = strconv.ParseUint(value, 10, 64)
	case "last-end":
		var ago time.Duration
		ago, err = time.ParseDuration(value)
		t.LastEnd = s.now.Add(ago)
	default:
		err = fmt.Errorf("no such key")
	}
	return err
}

func (s *script) pass(duration, _ string) error {
	d, err := time.ParseDuration(duration)
	s.now = s.now.Add(d)
	return err
}

// task is the status of a task, for changing.
func (s *script) task(name tasks.Name) *tasks.Status {
	for i := range s.v.tasks {
		if s.v.tasks[i].Name == name {
			return &s.v.tasks[i]
		}
	}
	s.v.tasks = append(s.v.tasks, tasks.Status{Name: name})
	return &s.v.tasks[len(s.v.tasks)-1]
}

// apply does to the script's world what Manager.apply does to the real one.
func (s *script) apply(p *Plan, saved bool) {
	for _, d := range p.Tasks {
		t := s.task(d.Task)
		switch d.Action {
		case Start:
			t.Running, t.Generation, t.LastStart = true, d.Generation, s.now
			t.Starts++
		case Stop:
			t.Stopping = true
		}
	}
	s.v.active, s.wake, s.v.turn = p.Active, p.Flush.At, p.Turn
	switch {
	case !p.Save:
	case saved:
		s.v.ControlSaved, s.v.ControlSavedAt = pg.Position{TLI: s.v.TLI, LSN: s.v.FlushLSN}, s.now
		s.v.BackupSaved.LSN = s.v.Backup.LSN
		s.v.saveFailures, s.v.saveNotBefore = 0, time.Time{}
	default:
		s.v.saveFailures++
		s.v.saveNotBefore = p.SaveRetry
	}
}

// print shows a plan, with times from now.
func (s *script) print(p *Plan) string {
	var b strings.Builder
	line := func(name, does string, why Why, more string) {
		b.WriteString(strings.TrimRight(fmt.Sprintf("%-9s%-10s%-18s%s", short(name), does, why, more), " ") + "\n")
	}
	for _, d := range p.Tasks {
		if d.Why != WhyNoStore && d.Why != WhyAttached { // what only a node with object storage has, or a warm copy
			line(string(d.Task), string(d.Action), d.Why, s.in("not for ", d.NotBefore))
		}
	}
	if s.v.heard.several() {
		line("turn", cmp.Or(p.Turn.Node, "nobody"), p.Turn.Why, map[bool]string{true: "changed"}[p.TurnChanged])
	}
	line("active", yes(p.Active), p.ActiveWhy, map[bool]string{true: "changed"}[p.ActiveChanged])
	if s.v.Draining {
		line("drained", yes(p.Drained), "", "")
	}
	line("save", yes(p.Save), p.SaveWhy, s.in("if that fails, not for ", p.SaveRetry))
	var wake []string
	for _, at := range []struct {
		name string
		Threshold
	}{{"flush", p.Flush}, {"commit", p.Commit}} {
		if at.At != 0 {
			wake = append(wake, fmt.Sprintf("%s >= %v (%v)", at.name, at.At, at.Reason))
		}
	}
	if !p.LookAgain.IsZero() {
		wake = append(wake, s.in("in ", p.LookAgain)+" (timer)")
	}
	if wake == nil {
		wake = []string{"never"}
	}
	b.WriteString("wake     " + strings.Join(wake, ", ") + "\n")
	return b.String()
}

func (s *script) in(text string, at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return text + at.Sub(s.now).Round(time.Millisecond).String()
}

func short(name string) string { return strings.TrimPrefix(name, "backup_") }

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
