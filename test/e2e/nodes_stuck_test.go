package e2e

import (
	"context"
	"flag"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/test/rig"
)

var stuck = flag.Bool("stuck", false, "run TestNodeThatCannotUploadIsReplaced, which takes two minutes")

const (
	// isStuck is for how long nothing has to get through to object storage until a node loses its turn; what is said of that takes a
	// second, and this machine is busy.
	isStuck = 60*time.Second + takesOver
	// triesAgain is the longest pause of a node after it failed, and one try.
	triesAgain = 30*time.Second + takesOver
)

// cutOff lets a node find no objects any more: below a file there are none. mend ends that.
func (tr *trio) cutOff(id string) {
	tr.t.Helper()
	tr.cut = id
	tr.do(os.Remove(tr.door(id)))
	tr.do(os.WriteFile(tr.door(id), nil, 0o600))
}

func (tr *trio) mend(id string) {
	tr.t.Helper()
	tr.do(os.Remove(tr.door(id)))
	tr.do(os.Symlink(tr.store, tr.door(id)))
}

// within waits for something of one node, and returns how long that took.
func (tr *trio) within(d time.Duration, id, what string, wanted func(rig.Status) bool) time.Duration {
	tr.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(tr.ctx, d)
	defer cancel()
	_, err := tr.nodes[id].AwaitStatus(ctx, "node "+id+": "+what, wanted)
	tr.do(err)
	return time.Since(began)
}

// U6, with three processes under load: whoever has the turn is cut off from object storage, and alone in that. Another takes over, which
// keeps the turn when the first can upload again; meanwhile that says what it waits for, and for how long.
func TestNodeThatCannotUploadIsReplaced(t *testing.T) {
	if !*stuck {
		t.Skip("it takes two minutes: make nodes")
	}
	tr := newTrio(t)
	tr.explains("one node is cut off from object storage", "^task failed, will be tried again: (object storage|back up|look for)", "^object storage does not tell")
	stop := tr.commits()
	present := tr.offloader()
	tr.cutOff(present)
	took := tr.within(isStuck, present, "another has its turn", func(s rig.Status) bool { return s.Offloader != nil && s.Offloader.Node != present })
	heir := tr.offloader()
	tr.handovers++
	t.Logf("%s was cut off, %s took over after %v", present, heir, took)

	end := tr.walEnd(tr.primary)
	took = tr.within(patience, heir, "it has brought there what waited", func(s rig.Status) bool { return s.BackupLSN >= benchSegment.StartOf(end) })
	t.Logf("what waited was in object storage %v later", took)
	var before pg.LSN
	tr.within(triesAgain, present, "it says what it waits for", func(s rig.Status) bool {
		task := s.Task("backup")
		before = s.BackupLSN
		return task.State == "waiting" && task.Reason == "backoff" && task.LastError != "" && !s.Backup.Available && s.Backup.Error != ""
	})
	shown, err := tr.nodes[present].Must(tr.ctx, "timeline", "show", rig.Timeline)
	tr.do(err)
	if !strings.Contains(shown, "not a directory") || !strings.Contains(shown, "node "+heir) {
		t.Errorf("timeline show says:\n%s", shown)
	}
	t.Logf("while it is cut off:\n%s", shown)

	tr.mend(present)
	took = tr.within(triesAgain, present, "it sees object storage again", func(s rig.Status) bool { return s.BackupLSN > before && s.Backup.Available })
	t.Logf("%s sees object storage again %v after the repair", present, took)
	if after := tr.offloader(); after != heir {
		t.Errorf("%s was repaired, and the turn went from %s to %s", present, heir, after)
	}
	rows := stop()
	tr.awaitValue(tr.primary, "SELECT count(*) FROM load", strconv.Itoa(rows))
	tr.stored()
	tr.uploads()
	tr.turns()
}
