package manager

import (
	"time"

	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

// The tasks of a timeline.
const (
	// Receive streams WAL from the source: one session, until it ends.
	Receive tasks.Name = "receive"
	// Settings reads the source's synchronous_standby_names again and again.
	Settings tasks.Name = "settings"
	// Backup brings whole segments, histories, claims and seals to object storage.
	Backup tasks.Name = "backup"
	// BackupPartial brings what is there of the open segment to object storage.
	BackupPartial tasks.Name = "backup_partial"
	// Follow brings what is in object storage to this node, again and again: a warm
	// copy instead of a stream.
	Follow tasks.Name = "follow"
	// Remove lets go of local WAL that the retention rule does not want.
	Remove tasks.Name = "remove"
)

// Action is what a plan does about a task.
type Action string

// The actions. Only Start and Stop change anything.
const (
	Off      Action = "off"      // it should not run, and does not
	Waiting  Action = "waiting"  // it should run, but not before a time
	Start    Action = "start"    // it is started
	Run      Action = "run"      // it runs, as it should
	Stop     Action = "stop"     // it is told to stop
	Stopping Action = "stopping" // it was told to stop, and has not ended
)

// Why is the reason of a decision; the list is closed.
type Why string

// The reasons.
const (
	WhySourceSet       Why = "source_set"
	WhyNoSource        Why = "no_source"
	WhySourceChanged   Why = "source_changed" // it works for an earlier source
	WhyRestarting      Why = "restarting"     // it has to end before it is started again
	WhySealing         Why = "sealing"
	WhyNotRunning      Why = "not_running" // the timeline's state is another
	WhyRemovable       Why = "removable"
	WhyNothingToRemove Why = "nothing_to_remove"
	WhyFinishing       Why = "finishing" // not wanted any more, but left to end by itself
	WhyBackoff         Why = "backoff"   // it failed, and is not tried again yet
	WhyTooSoon         Why = "too_soon"  // it was done, a moment after it was started
	WhyReceiving       Why = "receiving"
	WhyNotConnected    Why = "not_connected"
	WhyShuttingDown    Why = "shutting_down"
	WhySaved           Why = "saved"   // nothing to save
	WhyNotDue          Why = "not_due" // what is saved is recent enough
	WhySegment         Why = "segment" // what is saved is a segment behind
	WhyTLI             Why = "tli"     // what is saved is on another TLI
	WhyInterval        Why = "interval"
	WhyDraining        Why = "draining"
	WhyNoStore         Why = "no_store" // no object storage is configured
	WhyNothingToBackUp Why = "nothing_to_back_up"
	WhyUndecided       Why = "undecided"      // who this timeline is, in object storage
	WhyUnclaimed       Why = "unclaimed"      // the newest TLI, in object storage
	WhyUndelivered     Why = "undelivered"    // a seal, to object storage
	WhySegments        Why = "segments"       // whole ones are not in object storage
	WhyConfirm         Why = "confirm"        // another node says that it has brought some there
	WhyNotOurTurn      Why = "not_our_turn"   // another node backs the timeline up
	WhyClaimConflict   Why = "claim_conflict" // another promotion has our TLI in object storage
	WhyBorder          Why = "border"         // no segment is open
	WhyStored          Why = "stored"         // the open segment is in object storage
	WhySealed          Why = "sealed"
	WhySecondary       Why = "secondary" // the tenant keeps a warm copy here
	WhyAttached        Why = "attached"  // the tenant keeps no warm copy here
)

// Decision is what a plan says of one task.
type Decision struct {
	Task       tasks.Name
	Action     Action
	Why        Why
	Generation uint64    // of the source that it works for; 0: it works for none
	NotBefore  time.Time // when it is Waiting, until then
}

// rule says when one task should run.
type rule struct {
	task tasks.Name
	// wanted reports whether it should, and why or why not.
	wanted func(*view, time.Time, *Config) (bool, Why)
	// ofSource says that a run belongs to the source that it was started for.
	ofSource bool
	// finish is the reason against a task that does not stop a run under way.
	finish Why
	// pauseCap is the longest pause after failures.
	pauseCap time.Duration
}

// rules has every task there is. The order is that of decisions, and of Starts.
var rules = [...]rule{
	receiveRule: {task: Receive, wanted: wantsSource, ofSource: true, pauseCap: retryCap},
	{task: Settings, wanted: wantsSettings, finish: WhyNotConnected, ofSource: true, pauseCap: retryCap},
	backupRule:  {task: Backup, wanted: wantsBackup, finish: WhyNothingToBackUp, pauseCap: backupRetryCap},
	partialRule: {task: BackupPartial, wanted: wantsPartial, finish: WhyStored, pauseCap: backupRetryCap},
	{task: Follow, wanted: wantsFollow, pauseCap: backupRetryCap},
	{task: Remove, wanted: wantsRemoval, finish: WhyNothingToRemove, pauseCap: time.Minute},
}

const (
	receiveRule = 0
	backupRule  = 2
	partialRule = 3
)

func wantsSource(v *view, _ time.Time, cfg *Config) (bool, Why) {
	switch {
	case cfg.Secondary:
		return false, WhySecondary
	case v.State != timeline.StateRunning:
		return false, WhyNotRunning
	case !v.HasSource:
		return false, WhyNoSource
	case v.Sealing:
		return false, WhySealing
	case v.Draining:
		return false, WhyDraining
	}
	return true, WhySourceSet
}

// wantsSettings: who does not let the receiver in is not asked for settings beside it. Thousands of timelines whose sources are away
// try half as often, and what a receiver is refused for would be the second error of one fault.
func wantsSettings(v *view, now time.Time, cfg *Config) (bool, Why) {
	wanted, why := wantsSource(v, now, cfg)
	r := v.status(Receive)
	if wanted && r.Generation == v.SourceGeneration && r.FruitlessRuns > 0 && !r.Progressed {
		return false, WhyNotConnected
	}
	return wanted, why
}

func wantsFollow(v *view, _ time.Time, cfg *Config) (bool, Why) {
	switch {
	case !cfg.Backup:
		return false, WhyNoStore
	case !cfg.Secondary:
		return false, WhyAttached
	case v.State != timeline.StateRunning:
		return false, WhyNotRunning
	}
	return true, WhySecondary
}

func wantsRemoval(v *view, _ time.Time, _ *Config) (bool, Why) {
	switch {
	case v.State != timeline.StateRunning:
		return false, WhyNotRunning
	case v.removable <= 0:
		return false, WhyNothingToRemove
	}
	return true, WhyRemovable
}

// decide compares what should be with what is.
func decide(i int, v *view, now time.Time, cfg *Config) Decision {
	r := &rules[i]
	wanted, why := r.wanted(v, now, cfg)
	d := Decision{Task: r.task, Why: why}
	if r.ofSource {
		d.Generation = v.SourceGeneration
	}
	s := v.status(r.task)
	outdated := s.Generation != d.Generation
	switch {
	case s.Stopping && wanted:
		d.Action, d.Why = Stopping, WhyRestarting
	case s.Stopping:
		d.Action = Stopping
	case s.Running && wanted && !outdated:
		d.Action = Run
	case s.Running && wanted:
		d.Action, d.Why = Stop, WhySourceChanged
	case s.Running && why == r.finish:
		d.Action, d.Why = Run, WhyFinishing
	case s.Running:
		d.Action = Stop
	case !wanted:
		d.Action = Off
	case outdated: // what the last run came to counts no more
		d.Action = Start
	default:
		d.Action, d.Why, d.NotBefore = startOrPause(i, s, why, now, cfg)
	}
	return d
}

// startOrPause is for a task that should run and does not. After fruitless runs it
// pauses. One that was done goes on at once, but is never started more often
// than after a first failure, whatever it thinks it has achieved.
func startOrPause(i int, s tasks.Status, wanted Why, now time.Time, cfg *Config) (Action, Why, time.Time) {
	var at time.Time
	why := wanted
	switch {
	case s.FruitlessRuns > 0:
		pause := backoff(s.FruitlessRuns, cfg.Seed+uint64(i), rules[i].pauseCap)
		at, why = notAfter(s.LastEnd, now).Add(pause), WhyBackoff
	case s.LastOutcome == tasks.Done:
		at, why = notAfter(s.LastStart, now).Add(firstRetry), WhyTooSoon
	}
	if now.Before(at) {
		return Waiting, why, at
	}
	return Start, wanted, time.Time{}
}
