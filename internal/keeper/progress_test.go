package keeper

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/pg/pgtest"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/internal/wal/crashfs"
)

// A run that says nothing of its progress counts as one in vain: the pause before the next grows, up to half a minute.

// taskOf is what is known of a timeline's task.
func taskOf(m *Member, name tasks.Name) tasks.Status {
	for _, s := range m.manager.Status().Tasks {
		if s.Decision.Task == name {
			return s.Status
		}
	}
	return tasks.Status{} // nothing was planned yet
}

func TestWhatWasDoneIsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newHome(t).start(t, with(objects(t)), func(c *Config) { c.Retain = mib })
		m := create(t, k, main1)
		receive(t, m, source(start+6*mib), start+5*mib+1000)
		time.Sleep(time.Minute)
		for _, name := range []tasks.Name{manager.Backup, manager.BackupPartial, manager.Remove} {
			if s := taskOf(m, name); s.LastOutcome != tasks.Done || s.FruitlessRuns != 0 {
				t.Errorf("%s has done all there was: %+v", name, s)
			}
		}
		stop(t, k)
	})
}

// TestWarmCopyOfNothingIsProgress: it has asked, and nothing is there yet.
func TestWarmCopyOfNothingIsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newHome(t).start(t, following(objects(t)))
		create(t, k, main1)
		setMode(t, k, timeline.ModeSecondary)
		synctest.Wait()
		if s := taskOf(member(t, k, main1), manager.Follow); !s.Running || !s.Progressed {
			t.Errorf("%+v", s)
		}
		stop(t, k)
	})
}

// TestEachSegmentOfAWarmCopyIsTold: as progress, however many follow, and to the manager, which saves how far the copy is.
func TestEachSegmentOfAWarmCopyIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := objects(t)
		k := newHome(t).start(t, with(dir))
		m := create(t, k, main1)
		w := source(start + 3*mib)
		receive(t, m, w, w.End())
		time.Sleep(time.Minute) // they are backed up

		h := newHome(t)
		second := h.start(t, following(dir), onNode("b"))
		var held atomic.Bool
		hold := make(chan struct{})
		h.disk().Inject(func(op crashfs.Op) error {
			if op.Name == "WriteAt" && strings.Contains(op.Path, "000000010000000000000003") {
				held.Store(true)
				<-hold
			}
			return nil
		})
		setMode(t, second, timeline.ModeSecondary)
		synctest.Wait() // no time has passed
		if !held.Load() {
			t.Error("it does not write the third")
		}
		warm := member(t, second, main1)
		if s := taskOf(warm, manager.Follow); !s.Running || !s.Progressed {
			t.Errorf("it has copied two segments: %+v", s)
		}
		if saved := warm.Control().Flush.LSN; saved != start+2*mib {
			t.Errorf("the control file has it up to %s, want %s", saved, start+2*mib)
		}
		close(hold)
		stop(t, second)
		stop(t, k)
	})
}

// session lets a timeline have WAL up to an LSN as the task of a receiver would, which lasts, and returns the tasks that it is
// alone in.
func session(t *testing.T, m *Member, w *pgtest.Writer, to pg.LSN) *tasks.Group {
	t.Helper()
	r, err := m.receiverNow()
	must(t, err)
	alone := tasks.New(m.Gate(), tasks.Config{})
	must(t, alone.Go(m.Context(), tasks.Task{Name: manager.Receive, Run: func(ctx context.Context) error {
		end, err := m.BeginReceive()
		if err != nil {
			return err
		}
		defer end()
		r.session = ctx
		defer r.sink.countSettled(ctx)()
		from := r.sink.Rewind()
		err = r.sink.Append(from, w.Bytes()[from-start:to-start])
		if _, failed := r.sink.Sync(); err != nil || failed != nil {
			return errors.Join(err, failed)
		}
		<-ctx.Done()
		return nil
	}}))
	return alone
}

// TestWhatIsSyncedIsTold: as progress of the session, and to the manager, which saves how far the timeline is.
func TestWhatIsSyncedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newHome(t).start(t)
		m := create(t, k, main1)
		w := source(start + 4*mib)
		receive(t, m, w, start+5000)
		synctest.Wait()
		alone := session(t, m, w, start+3*mib)
		synctest.Wait() // no time has passed
		if s := alone.Status(); !s[0].Running || !s[0].Progressed {
			t.Errorf("it has received three segments: %+v", s)
		}
		if saved := m.Control().Flush.LSN; saved != start+3*mib {
			t.Errorf("the control file has it up to %s, want %s", saved, start+3*mib)
		}
		stop(t, k)
	})
}

// TestSessionThatLastsIsProgress, although its source has nothing new.
func TestSessionThatLastsIsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newHome(t).start(t)
		m := create(t, k, main1)
		w := source(start + mib)
		receive(t, m, w, start+5000)
		alone := session(t, m, w, start+5000)
		time.Sleep(settleAfter - time.Millisecond)
		if s := alone.Status(); !s[0].Running || s[0].Progressed {
			t.Errorf("a moment before: %+v", s)
		}
		time.Sleep(2 * time.Millisecond)
		if s := alone.Status(); !s[0].Running || !s[0].Progressed {
			t.Errorf("a moment after: %+v", s)
		}
		stop(t, k)
	})
}

// TestSettingsThatWereReadAreProgress: the task goes on to the next reading.
func TestSettingsThatWereReadAreProgress(t *testing.T) {
	k := newHome(t).start(t)
	s := &mute{application: "sluice a (settings)"}
	must(t, k.CreateTimeline(t.Context(), main1, s.listen(t), false))
	m := member(t, k, main1)
	waitUntil(t, 20*time.Second, "the settings were read", func() bool { return taskOf(m, manager.Settings).Progressed })
	stop(t, k)
}
