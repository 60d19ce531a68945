package manager

import (
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

// view is what an iteration saw: the timeline, its tasks, and what the manager
// remembers of what it did.
type view struct {
	timeline.Snapshot
	tasks     []tasks.Status
	removable int64 // bytes that the retention rule lets go
	active    bool  // as announced last
	heard     Heard // of the other nodes
	turn      Turn  // as decided last
	uploading bool  // see uploads

	queuedSince   time.Time // since when whole segments wait for object storage; zero: none does
	saveFailures  int       // in a row
	saveNotBefore time.Time // set while saveFailures > 0
	partialSince  time.Time // see dirt
}

// Plan is what one iteration decided.
type Plan struct {
	Tasks []Decision // one for each task there is, in their fixed order

	// Active says that the timeline has something to tell its peers.
	Active        bool
	ActiveWhy     Why
	ActiveChanged bool

	// Turn says who backs the timeline up. That it is this node's where nobody else
	// keeps it is no change.
	Turn        Turn
	TurnChanged bool

	// Save says that the control file is saved now. Should that fail, it is not
	// tried again before SaveRetry.
	Save      bool
	SaveWhy   Why
	SaveRetry time.Time

	// Drained says that nothing is received any more, and that all that is held is
	// in object storage, if there is one.
	Drained bool

	// LookAgain is when something is due that no change announces; zero: never.
	LookAgain time.Time
	// Flush and Commit are the values of those LSNs that are worth waking for.
	Flush, Commit Threshold
}

// Threshold is a value worth waking for; the zero value: none is.
type Threshold struct {
	At     pg.LSN
	Reason timeline.WakeReason
}

// Acts reports whether applying the plan changes anything.
func (p *Plan) Acts() bool {
	for _, d := range p.Tasks {
		if d.Action == Start || d.Action == Stop {
			return true
		}
	}
	return p.Save || p.ActiveChanged || p.TurnChanged
}

// plan decides. It is pure: the same view, time and configuration give the same
// plan.
func plan(v *view, now time.Time, cfg *Config) Plan {
	p := Plan{Tasks: make([]Decision, 0, len(rules))}
	p.planTurn(v, now, cfg)
	seen := *v
	v = &seen
	v.uploading = v.uploads(p.Turn)
	for i := range rules {
		d := decide(i, v, now, cfg)
		p.Tasks = append(p.Tasks, d)
		p.lookAgain(d.NotBefore)
	}
	p.Active, p.ActiveWhy = active(v, p.Tasks)
	p.ActiveChanged = p.Active != v.active
	p.Drained = drained(v, p.Tasks)
	if p.Tasks[partialRule].Why == WhyNotDue {
		p.lookAgain(partialDue(v, now, cfg))
	}
	p.Commit = nextSegment(v)
	p.planSave(v, now, cfg)
	if cfg.Backup && !cfg.Secondary && !v.claimed() && !v.claimable() && v.State == timeline.StateRunning {
		p.Commit = Threshold{At: v.TLIBegin + 1, Reason: timeline.ReasonTLIChanged} // the first record
	}
	return p
}

// lookAgain makes sure that there is an iteration at that time.
func (p *Plan) lookAgain(at time.Time) {
	if !at.IsZero() && (p.LookAgain.IsZero() || at.Before(p.LookAgain)) {
		p.LookAgain = at
	}
}

// active: a timeline whose source is connected has new positions to tell.
func active(v *view, decisions []Decision) (bool, Why) {
	receive := decisions[receiveRule]
	switch receive.Action {
	case Off, Stop, Stopping:
		return false, receive.Why
	case Run:
		if v.status(Receive).Progressed {
			return true, WhyReceiving
		}
	}
	return false, WhyNotConnected
}

// planSave lets the control file lag the truth by less than a segment, and by
// less than SaveAfter. Its own durable facts are saved by who states them; what
// is saved here are positions, and one that is missing costs a restart some
// reading.
//
// While the file was saved a moment ago nothing is awaited but the end of that
// moment: WAL that flows costs one iteration for each save. After that, it is
// the first new byte that wakes.
func (p *Plan) planSave(v *view, now time.Time, cfg *Config) {
	dirty := unsaved(&v.Snapshot)
	due := notAfter(v.ControlSavedAt, now).Add(cfg.SaveAfter)
	switch {
	case v.State != timeline.StateRunning:
		p.SaveWhy = WhyNotRunning
	case dirty && now.Before(v.saveNotBefore):
		p.SaveWhy = WhyBackoff
		p.lookAgain(v.saveNotBefore)
	case dirty && v.TLI != v.ControlSaved.TLI:
		p.save(WhyTLI, v, now, cfg)
	case dirty && v.SegmentSize.SegNo(v.FlushLSN) > v.SegmentSize.SegNo(v.ControlSaved.LSN):
		p.save(WhySegment, v, now, cfg)
	case dirty && !now.Before(due):
		p.save(WhyInterval, v, now, cfg)
	case dirty:
		p.SaveWhy = WhyNotDue
		p.lookAgain(due)
	case now.Before(due):
		p.SaveWhy = WhySaved
		p.lookAgain(due)
	default:
		p.SaveWhy = WhySaved
		p.quiet(v)
	}
}

// quiet is for a time without WAL: the first new byte wakes. So does what the peers
// have now of the bytes that came last, which may be the open segment's.
func (p *Plan) quiet(v *view) {
	p.Flush = Threshold{At: v.FlushLSN + 1, Reason: timeline.ReasonWALResumed}
	if v.heard.several() && v.uploading && v.CommitLSN < v.FlushLSN {
		p.Commit = Threshold{At: v.CommitLSN + 1, Reason: timeline.ReasonPeerUpdate}
	}
}

// unsaved reports whether the control file lags what is durable, here or in object
// storage.
func unsaved(s *timeline.Snapshot) bool {
	return s.TLI != 0 && s.ControlSaved != pg.Position{TLI: s.TLI, LSN: s.FlushLSN} || s.Backup.Decided && s.Backup.LSN > s.BackupSaved.LSN ||
		s.NodesUnsaved
}

func (p *Plan) save(why Why, v *view, now time.Time, cfg *Config) {
	p.Save, p.SaveWhy = true, why
	p.SaveRetry = now.Add(backoff(v.saveFailures+1, cfg.Seed+uint64(len(rules)), retryCap))
	p.lookAgain(now.Add(cfg.SaveAfter))
}

// planEnd is the plan of a manager that ends: nothing runs.
func planEnd(active bool, turn Turn) Plan {
	p := Plan{ActiveWhy: WhyShuttingDown, ActiveChanged: active, SaveWhy: WhyShuttingDown}
	p.Turn = Turn{Why: WhyShuttingDown}
	p.TurnChanged = turn.Mine && turn.Why != WhyAlone
	for _, r := range rules {
		p.Tasks = append(p.Tasks, Decision{Task: r.task, Action: Off, Why: WhyShuttingDown})
	}
	return p
}

// nextSegment is where the commit LSN completes a segment: that is when a save, a
// removal or a backup may become due. It is the commit LSN's border, not the
// flush LSN's, so that both together wake once.
func nextSegment(v *view) Threshold {
	at := v.CommitLSN
	if at == 0 && v.heard.several() && v.State == timeline.StateRunning {
		return Threshold{At: 1, Reason: timeline.ReasonPeerUpdate} // nothing was heard yet
	}
	if at == 0 {
		at = v.FlushLSN // no record is complete yet
	}
	if v.SegmentSize == 0 || at == 0 || v.State != timeline.StateRunning {
		return Threshold{}
	}
	return Threshold{At: v.SegmentSize.Start(v.SegmentSize.SegNo(at) + 1), Reason: timeline.ReasonSegmentComplete}
}

// notAfter is t, or now if t lies in the future: a clock that was set back must
// not make anybody wait for it to catch up.
func notAfter(t, now time.Time) time.Time {
	if t.After(now) {
		return now
	}
	return t
}

// status is what is known of a task; the zero value: it never ran.
func (v *view) status(name tasks.Name) tasks.Status {
	for _, s := range v.tasks {
		if s.Name == name {
			return s
		}
	}
	return tasks.Status{Name: name}
}
