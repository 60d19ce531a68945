package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/timeline"
)

func timelineRows(r *rows, all ...timeline.Status) {
	r.add("TIMELINE", "STATE", "SOURCE", "SYNCHRONOUS", "TLI", "DURABLE UP TO", "BEHIND", "SEALED", "REMARK")
	for _, s := range all {
		sealed := "no"
		if s.Seal != nil {
			sealed = "at " + s.Seal.End.String()
		}
		r.add(s.Tenant+"/"+s.Timeline, s.State, s.Source.State, yesNo(s.Quorum.Synchronous), s.TLI, s.FlushLSN, lag(s), sealed, remark(s))
	}
}

// remark is what is wrong first of all.
func remark(s timeline.Status) string {
	switch {
	case s.Reason != "":
		return s.Reason
	case s.Source.Error != "":
		return s.Source.Error
	case s.Backup != nil && !s.Backup.Available:
		return withReason("object storage is not available", s.Backup.Error)
	case len(s.Diverged) > 0:
		return "WAL has diverged, see `show`"
	}
	return s.Quorum.Why
}

func lag(s timeline.Status) string { return bytesOrUnknown(s.Source.LagBytes) }

func bytesOrUnknown(n *int64) string {
	if n == nil {
		return "unknown"
	}
	return fmt.Sprintf("%d bytes", *n)
}

// timelineFields prints one timeline, and the line that makes commits wait for the node.
func timelineFields(r *rows, s timeline.Status, nodeID string) {
	r.field("Timeline", s.Tenant+"/"+s.Timeline)
	r.field("State", withReason(s.State, s.Reason))
	r.field("Source", s.Source.Conninfo)
	r.field("Connection", withReason(sourceText(s.Source), s.Source.Error))
	r.field("Behind", lag(s))
	r.field("Synchronous", withReason(yesNo(s.Quorum.Synchronous), quorumText(s.Quorum)))
	r.field("TLI", s.TLI)
	r.field("Sealed", sealText(s.Seal))
	r.field("Starts at", s.StartLSN)
	r.field("Durable up to", s.FlushLSN)
	r.field("Commits up to", s.CommitLSN)
	r.field("On disk", fmt.Sprintf("%d bytes", s.LocalBytes))
	if s.Backup != nil {
		backupFields(r, s, *s.Backup)
	}
	if o := s.Offloader; o != nil && len(s.Peers) > 0 {
		r.field("Backed up by", fmt.Sprintf("node %s for %s (%s)", o.Node, since(o.Since), o.Reason))
	}
	for _, p := range s.Peers {
		r.field("Node "+p.Node, peerText(p))
	}
	for _, d := range s.Diverged {
		r.field("Diverged", fmt.Sprintf("TLI %d from %s to %s, kept in %s", d.TLI, d.From, d.To, d.Path))
	}
	if s.Operation != nil {
		r.field("Operation", fmt.Sprintf("%s, at %s for %s", s.Operation.Name, s.Operation.Step, since(s.Operation.Since)))
	}
	r.field("Gate", gateText(s.Gate))
	r.field("Manager", managerText(s.Manager))
	for _, t := range s.Tasks {
		r.field("Task "+t.Name, taskText(t))
	}
	r.field("System identifier", s.SystemIdentifier)
	r.field("Incarnation", s.Incarnation)
	r.add("")
	r.add("In the source's postgresql.conf, for commits that wait for this node:")
	r.add(standbyNamesLine(nodeID, s.Peers...))
}

// backupFields prints what object storage has of a timeline.
func backupFields(r *rows, s timeline.Status, b timeline.BackupStatus) {
	store := b.Store
	if !b.Available {
		store += ", not available"
	}
	r.field("Object storage", withReason(store, b.Error))
	r.field("Backed up to", s.BackupLSN)
	r.field("Not backed up", bytesOrUnknown(b.LagBytes)+queueText(b.QueueSegments))
	if b.HeldBack != "" {
		r.field("Held back", b.HeldBack)
	}
	r.field("Open segment", partialText(b))
	r.field("Removable below", s.HorizonLSN)
}

// peerText says how far another node is, as it said itself.
func peerText(p timeline.PeerStatus) string {
	text := fmt.Sprintf("durable up to %s of TLI %d", p.FlushLSN, p.TLI)
	if !p.SourceConnected {
		text += ", not connected to the source"
	}
	if !p.Qualified {
		text += ", still joining"
	}
	if p.Silent {
		text += ", silent for " + since(p.Seen)
	}
	return text
}

// managerText lets a storm be seen by asking twice: many iterations, nearly all to no effect, and what wakes it.
func managerText(m timeline.ManagerStatus) string {
	if m.Iterations == 0 {
		return ""
	}
	return fmt.Sprintf("%d iterations, %d of them without effect, the last one because of %s", m.Iterations, m.NoopIterations, m.LastReason)
}

func queueText(segments *int64) string {
	if segments == nil {
		return ""
	}
	return fmt.Sprintf(", %d whole segments to upload", *segments)
}

func partialText(b timeline.BackupStatus) string {
	p := b.Partial
	switch {
	case p == nil && !b.Available:
		return "unknown"
	case p == nil:
		return "not backed up"
	}
	return fmt.Sprintf("backed up to %s of TLI %d, %s ago", p.End, p.TLI, since(p.At))
}

// standbyNamesLine is quoted twice: as a name in the list, and as a string in the file. Of several nodes it wants the most.
func standbyNamesLine(nodeID string, others ...timeline.PeerStatus) string {
	names := []string{nodeID}
	for _, p := range others {
		names = append(names, p.Node)
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = strings.ReplaceAll(pg.QuoteSyncName(name), "'", "''")
	}
	if len(names) == 1 {
		return "synchronous_standby_names = '" + names[0] + "'"
	}
	return fmt.Sprintf("synchronous_standby_names = 'ANY %d (%s)'", len(names)/2+1, strings.Join(names, ", "))
}

// sourceText says what the source is, and since when, if that is known.
func sourceText(s timeline.SourceStatus) string {
	text := s.State
	if !s.Since.IsZero() {
		text += " for " + since(s.Since)
	}
	switch replication.WaitsFor(s.WaitsFor) {
	case replication.WaitsForTurn:
		text += ", waits until fewer timelines of the node connect at the same time"
	case replication.WaitsForDecisions:
		text += ", waits for object storage to tell what was decided"
	}
	return text
}

func quorumText(q timeline.QuorumStatus) string {
	if !q.Synchronous {
		return q.Why
	}
	text := fmt.Sprintf("commits wait for %d of %d (%s)", q.K, q.N, q.Text)
	if q.N == 0 {
		text = fmt.Sprintf("commits wait for %d of any (%s)", q.K, q.Text)
	}
	if q.Joining {
		text += "; this node is still joining"
	}
	if q.Why != "" { // they wait, and for ever
		text += "; " + q.Why
	}
	return text
}

func sealText(s *timeline.SealStatus) string {
	if s == nil {
		return "no"
	}
	return fmt.Sprintf("TLI %d at %s", s.TLI, s.End)
}

func taskText(t timeline.TaskStatus) string {
	text := t.State + ": " + t.Reason
	if t.Restarts > 0 {
		text += fmt.Sprintf(", %d restarts", t.Restarts)
	}
	if t.LastError != "" && t.State != "running" {
		text += ", last error: " + t.LastError
	}
	return text
}

func withReason(text, reason string) string {
	if reason == "" {
		return text
	}
	return text + ": " + reason
}
