package manager

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

// drawScript draws any state that a manager could find.
func drawScript(t *rapid.T) *script {
	s := newScript()
	s.cfg.Seed = rapid.Uint64().Draw(t, "seed")
	lsn := rapid.Custom(func(t *rapid.T) pg.LSN { return pg.LSN(rapid.Uint64Range(0, 64<<20).Draw(t, "lsn")) })
	ago := rapid.Custom(func(t *rapid.T) time.Time {
		return s.now.Add(time.Duration(rapid.Int64Range(-int64(time.Minute), int64(time.Minute)).Draw(t, "ago")))
	})
	s.v = view{
		Snapshot: timeline.Snapshot{
			State: rapid.SampledFrom(timeline.States()).Draw(t, "state"), HasSource: rapid.Bool().Draw(t, "source"),
			SourceGeneration: rapid.Uint64Range(0, 2).Draw(t, "generation"), Sealing: rapid.Bool().Draw(t, "sealing"),
			TLI: pg.TLI(rapid.Uint32Range(1, 2).Draw(t, "tli")), SegmentSize: pg.MinSegmentSize,
			FlushLSN: lsn.Draw(t, "flush"), CommitLSN: lsn.Draw(t, "commit"), ControlSavedAt: ago.Draw(t, "saved at"),
			ControlSaved: pg.Position{TLI: 1, LSN: lsn.Draw(t, "saved")},
		},
		removable: rapid.Int64Range(0, 1).Draw(t, "removable"), active: rapid.Bool().Draw(t, "active"),
	}
	s.v.Draining, s.v.NewestSealed = rapid.Bool().Draw(t, "draining"), rapid.Bool().Draw(t, "sealed")
	s.v.TLIBegin, s.v.BackupUndelivered = lsn.Draw(t, "begin"), rapid.Bool().Draw(t, "undelivered")
	s.cfg.Backup, s.cfg.PartialInterval = rapid.Bool().Draw(t, "store"), time.Minute
	s.cfg.Secondary = rapid.Bool().Draw(t, "secondary")
	s.v.Backup = timeline.Backup{
		Decided: rapid.Bool().Draw(t, "decided"), LSN: pg.MinSegmentSize.StartOf(lsn.Draw(t, "backup")),
		Claimed: pg.TLI(rapid.Uint32Range(0, 2).Draw(t, "claimed")), Conflict: pg.TLI(rapid.Uint32Range(0, 2).Draw(t, "conflict")),
		Partial: pg.Position{TLI: 1, LSN: lsn.Draw(t, "partial")}, PartialAt: ago.Draw(t, "partial at"),
	}
	for _, r := range rules {
		*s.task(r.task) = tasks.Status{
			Name: r.task, Running: rapid.Bool().Draw(t, "running"), Generation: rapid.Uint64Range(0, 2).Draw(t, "of"),
			FruitlessRuns: rapid.IntRange(0, 50).Draw(t, "fruitless"), LastEnd: ago.Draw(t, "last end"), LastStart: ago.Draw(t, "last start"),
			LastOutcome: rapid.SampledFrom(tasks.Outcomes()).Draw(t, "outcome"),
		}
		s.task(r.task).Stopping = s.task(r.task).Running && rapid.Bool().Draw(t, "stopping")
	}
	return s
}

// TestAppliedPlanLeavesNothingToDo: an iteration right after another finds
// nothing, so that an iteration's own changes can cause no storm.
func TestAppliedPlanLeavesNothingToDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawScript(t)
		p := plan(&s.v, s.now, &s.cfg)
		s.apply(&p, rapid.Bool().Draw(t, "save succeeds"))
		if again := plan(&s.v, s.now, &s.cfg); again.Acts() {
			t.Fatalf("first\n%s\nthen\n%s", s.print(&p), s.print(&again))
		}
	})
}

// TestPlanLooksAgainInTime: what waits is never forgotten, and nothing is looked
// for in the past.
func TestPlanLooksAgainInTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawScript(t)
		p := plan(&s.v, s.now, &s.cfg)
		if !p.LookAgain.IsZero() && !p.LookAgain.After(s.now) {
			t.Fatalf("looks again in the past:\n%s", s.print(&p))
		}
		for _, d := range p.Tasks {
			if d.Action == Waiting && (p.LookAgain.IsZero() || p.LookAgain.After(d.NotBefore)) {
				t.Fatalf("%s waits until after the next look:\n%s", d.Task, s.print(&p))
			}
		}
		if p.Tasks[partialRule].Why == WhyNotDue && p.LookAgain.IsZero() {
			t.Fatalf("the open segment is forgotten:\n%s", s.print(&p))
		}
		if unsaved(&s.v.Snapshot) && s.v.State == timeline.StateRunning && !p.Save && p.LookAgain.IsZero() {
			t.Fatalf("what is unsaved is forgotten:\n%s", s.print(&p))
		}
	})
}

// TestNothingOfAnUnclaimedTLIIsUploaded says it of every state there is.
func TestNothingOfAnUnclaimedTLIIsUploaded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawScript(t)
		s.v.TLI, s.v.Backup.Decided, s.v.Backup.Claimed = 2, true, 1
		p := plan(&s.v, s.now, &s.cfg)
		if p.Tasks[partialRule].Action == Start || p.Tasks[backupRule].Why == WhySegments && s.v.Backup.LSN >= s.v.SegmentSize.StartOf(s.v.TLIBegin) {
			t.Fatalf("\n%s", s.print(&p))
		}
	})
}

// TestDrainedHasNothingToDo: whoever waits for it stops everything then.
func TestDrainedHasNothingToDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawScript(t)
		p := plan(&s.v, s.now, &s.cfg)
		if p.Drained && (!s.v.Draining || s.v.State == timeline.StateRunning && s.cfg.Backup && s.v.Backup.Conflict != s.v.TLI && s.v.Backup.Decided && s.v.queued()) {
			t.Fatalf("\n%s", s.print(&p))
		}
	})
}

// TestNothingIsReceivedAgainstASeal says it of every state there is.
func TestNothingIsReceivedAgainstASeal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawScript(t)
		s.v.Sealing = true
		p := plan(&s.v, s.now, &s.cfg)
		if a := p.Tasks[receiveRule].Action; !slices.Contains([]Action{Off, Stop, Stopping}, a) {
			t.Fatalf("receives while a seal is decided:\n%s", s.print(&p))
		}
	})
}

func TestBackoffGrowsToItsCapWithJitter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		failures := rapid.IntRange(1, 1000).Draw(t, "failures")
		seed := rapid.Uint64().Draw(t, "seed")
		full := min(firstRetry<<min(failures-1, 20), retryCap)
		got := backoff(failures, seed, retryCap)
		if got <= full/2 || got > full {
			t.Fatalf("after %d failures: %v, want within (%v, %v]", failures, got, full/2, full)
		}
		if again := backoff(failures, seed, retryCap); again != got {
			t.Fatalf("the same failure pauses %v and %v", got, again)
		}
	})
	if backoff(9, 1, retryCap) == backoff(9, 2, retryCap) {
		t.Fatal("two timelines pause alike")
	}
}
