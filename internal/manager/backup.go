package manager

import (
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/timeline"
)

// backupRetryCap is the longest pause between two tries of object storage: no
// commit waits for it, and thousands of timelines may share one that is away.
const backupRetryCap = 30 * time.Second

// committed is the end of what may leave this node: records that are durable
// here, and on as many others as have to vouch for them.
func (v *view) committed() pg.LSN { return min(v.CommitLSN, v.FlushLSN) }

// wholeEnd is the end of the whole segments that may leave this node.
func (v *view) wholeEnd() pg.LSN {
	if v.SegmentSize == 0 {
		return 0
	}
	return v.SegmentSize.StartOf(v.committed())
}

// claimed reports whether the newest TLI may be uploaded: it was claimed in object
// storage, or is one that nobody can have been promoted to.
func (v *view) claimed() bool { return v.TLI <= 1 || v.Backup.Claimed >= v.TLI }

// claimable reports whether there is what a claim says: the first record of the
// TLI, or the certainty that none will come.
func (v *view) claimable() bool {
	return !v.claimed() && (v.committed() > v.TLIBegin || v.NewestSealed)
}

// queued reports whether whole segments are to be uploaded: of a TLI that is not
// claimed only what its parent has.
func (v *view) queued() bool {
	end := v.wholeEnd()
	if !v.claimed() {
		end = min(end, v.SegmentSize.StartOf(v.TLIBegin))
	}
	return end > v.Backup.LSN
}

func wantsBackup(v *view, _ time.Time, cfg *Config) (bool, Why) {
	switch {
	case !cfg.Backup:
		return false, WhyNoStore
	case cfg.Secondary:
		return false, WhySecondary
	case v.State != timeline.StateRunning:
		return false, WhyNotRunning
	case v.TLI == 0:
		return false, WhyNothingToBackUp
	case v.Backup.Conflict == v.TLI:
		return false, WhyClaimConflict
	case !v.Backup.Decided:
		return true, WhyUndecided
	case v.claimable():
		return true, WhyUnclaimed
	case v.BackupUndelivered:
		return true, WhyUndelivered
	case v.queued() && v.uploading:
		return true, WhySegments
	case v.confirmable():
		return true, WhyConfirm
	case v.queued():
		return false, WhyNotOurTurn
	}
	return false, WhyNothingToBackUp
}

// wantsPartial keeps the copy of the open segment from growing older than the
// interval; and makes one at once where nothing more may come, or a child's first
// segment is all that tells it from its parent.
func wantsPartial(v *view, now time.Time, cfg *Config) (bool, Why) {
	switch {
	case !cfg.Backup:
		return false, WhyNoStore
	case cfg.Secondary:
		return false, WhySecondary
	case v.State != timeline.StateRunning:
		return false, WhyNotRunning
	case v.TLI != 0 && v.Backup.Conflict == v.TLI:
		return false, WhyClaimConflict
	case !v.Backup.Decided:
		return false, WhyUndecided
	case !v.claimed():
		return false, WhyUnclaimed
	case v.committed() == v.wholeEnd():
		return false, WhyBorder
	case !v.partialBehind():
		return false, WhyStored
	case !v.uploading:
		return false, WhyNotOurTurn
	case v.Draining:
		return true, WhyDraining
	case v.NewestSealed:
		return true, WhySealed
	case v.TLIBegin != 0 && v.Backup.Partial.TLI < v.TLI && v.wholeEnd() <= v.TLIBegin:
		return true, WhyTLI
	case !now.Before(partialDue(v, now, cfg)):
		return true, WhyInterval
	}
	return false, WhyNotDue
}

// partialBehind reports whether the open segment has more than object storage.
func (v *view) partialBehind() bool {
	end := v.committed()
	return end != v.wholeEnd() && v.Backup.Partial != pg.Position{TLI: v.TLI, LSN: end}
}

// partialDue is when the open segment has been without a copy of its newest bytes
// for as long as it may.
func partialDue(v *view, now time.Time, cfg *Config) time.Time {
	return notAfter(v.partialSince, now).Add(cfg.PartialInterval)
}

// dirt remembers since when the open segment has what object storage does not.
type dirt struct {
	segment pg.SegNo
	partial pg.Position // what object storage had of it
	since   time.Time   // zero: object storage has it all
	looked  time.Time   // when this was last looked at
}

// look is called in each iteration. A byte that was not there at the last look came
// after it: at this moment, if it is what woke the manager.
func (d dirt) look(v *view, reasons timeline.WakeReasons, now time.Time) dirt {
	next := dirt{segment: d.segment, partial: v.Backup.Partial, since: d.since, looked: now}
	if v.SegmentSize != 0 {
		next.segment = v.SegmentSize.SegNo(v.committed())
	}
	switch {
	case !v.partialBehind():
		next.since = time.Time{}
	case d.looked.IsZero(), next.partial != d.partial:
		next.since = v.Backup.PartialAt
	case next.segment != d.segment || d.since.IsZero() && reasons.Has(timeline.ReasonWALResumed):
		next.since = now
	case d.since.IsZero():
		next.since = d.looked
	}
	return next
}

// drained reports whether there is nothing left to do: nothing is received, and
// object storage has all that is held.
func drained(v *view, decisions []Decision) bool {
	if !v.Draining {
		return false
	}
	for _, i := range []int{receiveRule, backupRule, partialRule} {
		if decisions[i].Action != Off {
			return false
		}
	}
	return true
}
