package keeper

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/timeline"
)

// Verdict is the result of one thing that a check looked at.
type Verdict string

// The verdicts.
const (
	CheckOK   Verdict = "ok"
	CheckWarn Verdict = "warn"
	CheckFail Verdict = "fail"
)

// Finding is one thing that a check looked at, and what to do about it.
type Finding struct {
	Name    string
	Verdict Verdict
	Text    string
}

// evidence is what a check looks at.
type evidence struct {
	nodeID   string
	timeline timeline.ID
	state    string // of the source
	control  timeline.Control
	flush    pg.Position
	commit   pg.LSN
	oldest   pg.LSN // the first that is still held
	held     timeline.Held
	source   *replication.Source // nil: it could not be asked
	settings replication.Settings
	err      error // why it could not be asked
	receiver replication.State
}

// Check asks the source whether it really waits for this node, and says what can
// be restored.
func (k *Keeper) Check(ctx context.Context, id timeline.ID) ([]Finding, error) {
	m, err := k.member(id)
	if err != nil {
		return nil, err
	}
	var findings []Finding
	err = m.during(ctx, func(ctx context.Context) (err error) {
		findings, err = m.check(ctx)
		return err
	})
	return findings, err
}

func (m *Member) check(ctx context.Context) ([]Finding, error) {
	e := evidence{nodeID: m.keeper.cfg.NodeID, timeline: m.ID(), control: *m.Control(), held: m.Held()}
	e.state, _, e.receiver = m.SourceState()
	if l := m.Log(); l != nil {
		h := heldBy(l, m.CommitEnd())
		e.flush, e.commit = h.position, h.recordEnd
		e.oldest = oldest(h.segments, h.position.LSN, e.control.SegmentSize)
	}
	if e.control.Source == "" {
		return e.findings(), nil
	}
	if e.ask(ctx, m); e.source != nil {
		if err := m.readSettings(ctx, e.settings); err != nil {
			return nil, fmt.Errorf("keep the settings of the source: %w", err)
		}
	}
	return e.findings(), nil
}

// ask takes the source's own word.
func (e *evidence) ask(ctx context.Context, m *Member) {
	src, settings, err := replication.Probe(ctx, m.replicationConfig(e.control.Source))
	if err != nil {
		e.err = err
		return
	}
	e.source, e.settings = &src, settings
}

// findings judges. It is pure.
func (e *evidence) findings() []Finding {
	all := []Finding{e.reach(), e.stream()}
	if e.source != nil {
		all = append(all, e.slot(), e.waits(), e.commitLevel())
	}
	return append(all, e.sealed(), e.restorable())
}

func (e *evidence) reach() Finding {
	f := Finding{Name: "source", Verdict: CheckFail}
	switch {
	case e.control.Source == "":
		f.Text = fmt.Sprintf("no source is set: sluice timeline set %s --source 'host=… user=…'", e.timeline)
	case e.err != nil:
		f.Text = e.err.Error()
	default:
		f.Verdict = CheckOK
		f.Text = fmt.Sprintf("PostgreSQL %s at %s, TLI %d, at %s", e.source.Version(), e.source.Address, e.source.TLI, e.source.Flush)
	}
	return f
}

func (e *evidence) stream() Finding {
	f := Finding{Name: "stream", Verdict: CheckFail}
	switch {
	case e.receiver.Name == replication.StateConnected && e.flush.TLI == e.receiver.TLI:
		f.Verdict = CheckOK
		f.Text = fmt.Sprintf("connected; durable up to %s of TLI %d, %d bytes behind the source", e.flush.LSN, e.flush.TLI,
			max(0, int64(e.receiver.SourceEnd-e.flush.LSN)))
	case e.receiver.Name == replication.StateConnected:
		f.Verdict = CheckOK
		f.Text = fmt.Sprintf("connected, on TLI %d; durable up to %s of TLI %d", e.receiver.TLI, e.flush.LSN, e.flush.TLI)
	case e.receiver.Error != "":
		f.Text = e.receiver.Error
	default:
		f.Text = "not connected: the state is " + e.state
	}
	return f
}

func (e *evidence) slot() Finding {
	s := e.source.Slot
	f := Finding{Name: "slot", Verdict: CheckFail}
	switch {
	case e.source.ServerVersion < 150000:
		f.Verdict = CheckOK
		f.Text = fmt.Sprintf("PostgreSQL %s cannot be asked for the slot %s, which is made when the stream begins", e.source.Version(), s.Name)
	case !s.Exists:
		f.Text = fmt.Sprintf("there is no slot %s on the source: WAL may go before this node has it; it is made when the stream begins", s.Name)
	case s.RestartLSN == 0:
		f.Text = fmt.Sprintf("the slot %s keeps no WAL: it was invalidated (max_slot_wal_keep_size on the source is too small); it is made anew when the stream begins", s.Name)
	default:
		f.Verdict = CheckOK
		f.Text = fmt.Sprintf("%s keeps the WAL that this node does not have yet, from %s on", s.Name, s.RestartLSN)
	}
	return f
}

func (e *evidence) waits() Finding {
	f := Finding{Name: "synchronous", Verdict: CheckFail}
	q, err := timeline.ReadQuorum(e.flush.TLI, e.settings.SyncStandbyNames, e.nodeID, e.settings.ReadAt)
	switch {
	case err != nil:
		f.Text = err.Error()
	case !q.Synchronous:
		f.Text = notSynchronous(q, e.nodeID)
	case q.SealableAlone(e.nodeID) != nil:
		f.Verdict = CheckWarn
		f.Text = fmt.Sprintf("commits may be acknowledged by others without this node (%d of %d, %q): a seal of this node alone will be refused", q.K, q.N, q.Raw)
	case e.control.QuorumOf(e.flush.TLI).SealableAlone(e.nodeID) != nil:
		f.Verdict = CheckWarn
		f.Text = fmt.Sprintf("commits wait for this node now (%q), but some were made on this TLI under %q: a seal of this node alone will be refused",
			q.Raw, e.control.QuorumOf(e.flush.TLI).RequiredBy)
	case e.receiver.Name != replication.StateConnected:
		f.Text = fmt.Sprintf("commits wait for this node (synchronous_standby_names = %q), and it does not stream: they hang until it does, see stream", q.Raw)
	default:
		f.Verdict, f.Text = CheckOK, fmt.Sprintf("commits wait for this node (synchronous_standby_names = %q)", q.Raw)
	}
	return f
}

// commitLevel judges synchronous_commit as our role sees it: the server's value,
// which a database, a role or a session may override.
func (e *evidence) commitLevel() Finding {
	level := e.settings.SynchronousCommit
	if trouble := levelTrouble(level); trouble != "" {
		return Finding{Name: "synchronous_commit", Verdict: CheckFail, Text: trouble}
	}
	return Finding{Name: "synchronous_commit", Verdict: CheckOK, Text: level + ": a commit returns once its WAL is durable here"}
}

// levelTrouble says what is wrong with a value of synchronous_commit, and what to
// do; "" if nothing is.
func levelTrouble(level string) string {
	switch {
	case level == "remote_apply":
		return "remote_apply: commits wait until a standby has applied them, and Sluice applies nothing, so they wait for ever if no other standby does; set synchronous_commit = on"
	case !waitsAt(level):
		return level + ": commits do not wait for any standby; set synchronous_commit = on"
	}
	return ""
}

// waitsAt reports whether commits wait for standbys with a value of
// synchronous_commit.
func waitsAt(level string) bool {
	return level == "on" || level == "remote_write" || level == "remote_apply"
}

func (e *evidence) sealed() Finding {
	f := Finding{Name: "seal", Verdict: CheckOK, Text: "not sealed"}
	if s := e.held.Seal; s != nil {
		f.Verdict = CheckWarn
		f.Text = fmt.Sprintf("TLI %d is sealed with the end %s: commits on it are never acknowledged again, until a source has left it; "+
			"set the source to the server that took over, or unseal", s.TLI, s.End)
	}
	return f
}

func (e *evidence) restorable() Finding {
	f := Finding{Name: "restore", Verdict: CheckOK}
	switch {
	case e.commit == 0:
		f.Verdict, f.Text = CheckWarn, "nothing can be restored yet: no record was received"
	case e.control.Start.TLI != 0 && !e.control.QualifiedAt(e.flush):
		f.Verdict = CheckWarn
		f.Text = fmt.Sprintf("still joining: at %s, and the source was at %s when this node came", e.flush.LSN, e.control.JoinLSN)
	default:
		f.Text = fmt.Sprintf("from base backups that began at %s or later, up to %s of TLI %d", max(e.control.Start.LSN, e.oldest), e.commit, e.flush.TLI)
	}
	return f
}

// Failed reports whether a finding failed.
func Failed(all []Finding) error {
	var errs []error
	for _, f := range all {
		if f.Verdict == CheckFail {
			errs = append(errs, fmt.Errorf("%s: %s", f.Name, f.Text))
		}
	}
	return errors.Join(errs...)
}
