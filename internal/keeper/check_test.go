package keeper

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/timeline"
)

// sound is evidence of a timeline with which all is well.
func sound() *evidence {
	at := pg.Position{TLI: 2, LSN: 0x5000100}
	return &evidence{
		nodeID: "a", timeline: main1, state: "connected",
		control: timeline.Control{
			Source: "host=db user=x", SystemID: systemID, SegmentSize: seg,
			Start: pg.Position{TLI: 1, LSN: 0x3000000}, JoinLSN: 0x3000100, Flush: at,
		},
		flush: at, commit: 0x50000F8, oldest: 0x3000000,
		held: timeline.Held{SystemID: systemID, Position: at, RecordEnd: 0x50000F8},
		source: &replication.Source{
			SystemID: systemID, TLI: 2, Flush: 0x5000200, ServerVersion: 150018, Address: "10.0.0.1:5432",
			Slot: replication.Slot{Name: "sluice_a", Exists: true, RestartLSN: 0x4000000, RestartTLI: 2},
		},
		settings: replication.Settings{SystemID: systemID, TLI: 2, SyncStandbyNames: "a", SynchronousCommit: "on", ReadAt: time.Now()},
		receiver: replication.State{Name: replication.StateConnected, TLI: 2, SourceEnd: 0x5000200},
	}
}

// TestFindings: what a check says, for one thing that is not as it should be.
func TestFindings(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*evidence)
		finding string
		verdict Verdict
		text    string // a part of it
	}{
		"source":           {nil, "source", CheckOK, "PostgreSQL 15.18 at 10.0.0.1:5432, TLI 2, at 0/5000200"},
		"no source":        {func(e *evidence) { e.control.Source, e.source = "", nil }, "source", CheckFail, "sluice timeline set acme/main --source"},
		"source is down":   {func(e *evidence) { e.source, e.err = nil, errors.New("connection refused") }, "source", CheckFail, "connection refused"},
		"stream":           {nil, "stream", CheckOK, "durable up to 0/5000100 of TLI 2, 256 bytes behind the source"},
		"ahead of the end": {func(e *evidence) { e.receiver.SourceEnd = 0 }, "stream", CheckOK, " 0 bytes behind"},
		"on its way to the child": {func(e *evidence) { e.receiver.TLI = 3 }, "stream", CheckOK,
			"connected, on TLI 3; durable up to 0/5000100 of TLI 2"},
		"refused": {func(e *evidence) {
			e.receiver = replication.State{Name: replication.StateRefused, Error: "source refused: it is another cluster"}
			e.state = "refused"
		}, "stream", CheckFail, "another cluster"},
		"not started": {func(e *evidence) { e.receiver, e.state = replication.State{}, "connecting" }, "stream", CheckFail, "the state is connecting"},

		"slot":               {nil, "slot", CheckOK, "sluice_a keeps the WAL that this node does not have yet, from 0/4000000 on"},
		"no slot":            {func(e *evidence) { e.source.Slot = replication.Slot{Name: "sluice_a"} }, "slot", CheckFail, "no slot sluice_a"},
		"slot invalidated":   {func(e *evidence) { e.source.Slot.RestartLSN = 0 }, "slot", CheckFail, "max_slot_wal_keep_size"},
		"slots not readable": {func(e *evidence) { e.source.ServerVersion, e.source.Slot.Exists = 140010, false }, "slot", CheckOK, "14.10 cannot be asked"},

		"synchronous":           {nil, "synchronous", CheckOK, `commits wait for this node (synchronous_standby_names = "a")`},
		"synchronous in vain":   {func(e *evidence) { e.receiver.Name = replication.StateRefused }, "synchronous", CheckFail, "they hang until it does"},
		"synchronous to nobody": {func(e *evidence) { e.settings.SyncStandbyNames = "" }, "synchronous", CheckFail, "name a in it"},
		"not in it":             {func(e *evidence) { e.settings.SyncStandbyNames = "b" }, "synchronous", CheckFail, "does not have a"},
		"one of two":            {func(e *evidence) { e.settings.SyncStandbyNames = "ANY 1 (a, b)" }, "synchronous", CheckWarn, "1 of 2"},
		"was one of two": {func(e *evidence) {
			e.control.Quorums = []timeline.Quorum{{TLI: 2, Required: 2, RequiredBy: "ANY 1 (a, b)", Synchronous: true}}
		}, "synchronous", CheckWarn, `under "ANY 1 (a, b)"`},
		"was one of two on the TLI before": {func(e *evidence) {
			e.control.Quorums = []timeline.Quorum{{TLI: 1, Required: 2, RequiredBy: "ANY 1 (a, b)", Synchronous: true}}
		}, "synchronous", CheckOK, "commits wait"},
		"not understood": {func(e *evidence) { e.settings.SyncStandbyNames = "MOST (a" }, "synchronous", CheckFail, "not understood"},

		"on":           {nil, "synchronous_commit", CheckOK, "on: a commit returns once its WAL is durable here"},
		"remote_write": {func(e *evidence) { e.settings.SynchronousCommit = "remote_write" }, "synchronous_commit", CheckOK, "remote_write"},
		"remote_apply": {func(e *evidence) { e.settings.SynchronousCommit = "remote_apply" }, "synchronous_commit", CheckFail, "Sluice applies nothing"},
		"local":        {func(e *evidence) { e.settings.SynchronousCommit = "local" }, "synchronous_commit", CheckFail, "do not wait for any standby"},
		"off":          {func(e *evidence) { e.settings.SynchronousCommit = "off" }, "synchronous_commit", CheckFail, "do not wait for any standby"},

		"not sealed": {nil, "seal", CheckOK, "not sealed"},
		"sealed": {func(e *evidence) { e.held.Seal = &timeline.Seal{TLI: 2, End: 0x50000F8} }, "seal", CheckWarn,
			"TLI 2 is sealed with the end 0/50000F8"},

		"restorable": {nil, "restore", CheckOK, "from base backups that began at 0/3000000 or later, up to 0/50000F8 of TLI 2"},
		"removed":    {func(e *evidence) { e.oldest = 0x4800000 }, "restore", CheckOK, "began at 0/4800000 or later"},
		"nothing":    {func(e *evidence) { e.flush, e.commit, e.oldest = pg.Position{}, 0, 0 }, "restore", CheckWarn, "nothing can be restored yet"},
		"no record":  {func(e *evidence) { e.commit = 0 }, "restore", CheckWarn, "nothing can be restored yet"},
		"joining": {func(e *evidence) { e.flush, e.control.JoinLSN = pg.Position{TLI: 1, LSN: 0x3000000}, 0x4000000 }, "restore", CheckWarn,
			"still joining: at 0/3000000, and the source was at 0/4000000"},
	} {
		t.Run(name, func(t *testing.T) {
			e := sound()
			if c.change != nil {
				c.change(e)
			}
			all := e.findings()
			failed := Failed(all)
			for _, f := range all {
				if (f.Verdict == CheckFail) != (failed != nil && strings.Contains(failed.Error(), f.Name+": "+f.Text)) {
					t.Errorf("%+v, all in all: %v", f, failed)
				}
				if f.Name == c.finding {
					if f.Verdict != c.verdict || !strings.Contains(f.Text, c.text) {
						t.Errorf("got %s: %s\nwant %s: %s", f.Verdict, f.Text, c.verdict, c.text)
					}
					return
				}
			}
			t.Errorf("nothing is said about %s: %+v", c.finding, all)
		})
	}
}

func TestFailedIfNothingDid(t *testing.T) {
	if err := Failed(sound().findings()); err != nil {
		t.Error(err)
	}
}
