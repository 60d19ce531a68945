package keeper

import (
	"fmt"
	"strconv"
	"time"

	"github.com/sluicewal/sluice/internal/conninfo"
	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/pg"
	"github.com/sluicewal/sluice/internal/replication"
	"github.com/sluicewal/sluice/internal/timeline"
)

// Members returns all timelines by name, those that are shutting down included.
func (k *Keeper) Members() []*Member {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []*Member
	for _, t := range sorted(k.tenants) {
		all = append(all, sorted(t.members)...)
	}
	return all
}

// Member returns one timeline; ErrNoTenant, ErrNoTimeline.
func (k *Keeper) Member(id timeline.ID) (*Member, error) { return k.member(id) }

// TenantGates returns the tenants' gates by the tenants' names.
func (k *Keeper) TenantGates() map[timeline.TenantID]*gate.Gate {
	k.mu.Lock()
	defer k.mu.Unlock()
	gates := make(map[timeline.TenantID]*gate.Gate, len(k.tenants))
	for id, t := range k.tenants {
		gates[id] = t.Gate()
	}
	return gates
}

// ClosingGates returns the gates of tenants and timelines that are closing, in no order.
func (k *Keeper) ClosingGates() []*gate.Gate { return k.gates.Closings.All() }

// Mode is that of the timeline's tenant.
func (m *Member) Mode() timeline.Mode { return m.tenant.Mode }

// Manager returns the timeline's manager.
func (m *Member) Manager() *manager.Manager { return m.manager }

// Settings returns what the source's settings were when they were last read;
// nil if they never were.
func (m *Member) Settings() *replication.Settings { return m.lastSettings.Load() }

// The states of a source that the receiver does not know of.
const (
	sourceNone     = "none"     // none is set
	sourcePoisoned = "poisoned" // a sync failed, and the log has not recovered
	sourceSealed   = "sealed"   // the newest TLI is sealed, and no source has left it
	sourceEnded    = "ended"    // the timeline was deleted elsewhere, and receives nothing
)

// SourceState is what the source is to this timeline: the receiver's state, and
// above it what only the timeline knows.
func (m *Member) SourceState() (state string, since time.Time, receiver replication.State) {
	receiver = replication.State{Name: replication.StateConnecting}
	if r := m.current(); r != nil {
		receiver = r.State()
	}
	h := m.Held()
	l := m.Log()
	switch e := m.Control().Ended; {
	case e != nil:
		return sourceEnded, e.At, replication.State{Name: replication.StateStopped}
	case l != nil && l.Stats().Poisoned != nil:
		return sourcePoisoned, l.Stats().Poisoned.At, receiver
	case h.Seal != nil && (receiver.Name != replication.StateRefused || receiver.Reason == replication.Sealed):
		return sourceSealed, h.Seal.At, receiver
	case m.Control().Source == "" || m.tenant.Mode != timeline.ModeAttached:
		return sourceNone, receiver.Since, receiver
	}
	return string(receiver.Name), receiver.Since, receiver
}

// current returns the receiver of the present source; nil if none was made yet.
func (m *Member) current() *receiver {
	r := m.receiver.Load()
	if r == nil || r.conninfo != m.Control().Source {
		return nil // what is known of an earlier source says nothing about this one
	}
	return r
}

// SourceStates lists all of them.
func SourceStates() []string {
	return []string{
		sourceNone, sourcePoisoned, sourceSealed, sourceEnded, string(replication.StateStopped), string(replication.StateConnecting),
		string(replication.StateConnected), string(replication.StateRefused), string(replication.StateMissingWAL),
	}
}

// Lag returns by how many bytes this node is behind the source; false while that
// is not known.
func (m *Member) Lag() (int64, bool) {
	r := m.current()
	if r == nil || m.Log() == nil {
		return 0, false
	}
	s, flush := r.State(), m.Log().Stats().Flush
	if s.Name != replication.StateConnected || s.TLI != flush.TLI {
		return 0, false
	}
	return max(0, int64(s.SourceEnd-flush.LSN)), true
}

// Status returns everything that may be told about a timeline.
func (m *Member) Status() timeline.Status {
	c := m.Control()
	state, why := m.State()
	s := timeline.Status{
		Tenant: string(m.ID().Tenant), Timeline: m.ID().Name, Incarnation: string(c.Incarnation),
		State: string(state), SegmentSize: int64(c.SegmentSize),
		Diverged: []timeline.DivergedStatus{}, Peers: m.peerStatus(),
		Quorum: m.quorumStatus(), Source: m.sourceStatus(), Gate: m.gateStatus(),
	}
	if why != nil {
		s.Reason = why.Error()
	}
	if c.SystemID != 0 {
		s.SystemIdentifier = strconv.FormatUint(c.SystemID, 10)
	}
	if op := m.Operation(); op.Name != "" {
		s.Operation = &timeline.OperationStatus{Name: op.Name, Step: op.Step, Since: op.Since}
	}
	m.fillPositions(&s)
	s.Backup = m.backupStatus()
	m.fillManager(&s)
	return s
}

func (m *Member) fillPositions(s *timeline.Status) {
	if seal := m.Held().Seal; seal != nil { // known from object storage, perhaps, where nothing is held
		s.Seal = &timeline.SealStatus{TLI: seal.TLI, End: seal.End}
	}
	l := m.Log()
	if l == nil {
		m.fillEnded(s)
		return
	}
	w := l.Stats()
	s.TLI, s.WriteLSN, s.FlushLSN, s.CommitLSN = w.Flush.TLI, w.Write.LSN, w.Flush.LSN, m.CommitEnd()
	s.StartLSN, s.LocalBytes = m.Control().Start.LSN, w.LocalBytes
	s.BackupLSN, s.HorizonLSN = m.Backup().LSN, m.Horizon()
	for _, d := range w.Diverged {
		s.Diverged = append(s.Diverged, timeline.DivergedStatus{TLI: d.TLI, From: d.From, To: d.To, Path: d.Path})
	}
}

// fillEnded tells what is on the disk of a life that has ended: its WAL is not opened.
func (m *Member) fillEnded(s *timeline.Status) {
	c := m.Control()
	if c.Ended == nil {
		return
	}
	s.TLI, s.StartLSN, s.FlushLSN, s.BackupLSN = c.Flush.TLI, c.Start.LSN, c.Flush.LSN, m.Backup().LSN
}

func (m *Member) fillManager(s *timeline.Status) {
	ms := m.manager.Status()
	s.Active = ms.Active
	if ms.Turn.Node != "" {
		s.Offloader = &timeline.OffloaderStatus{Node: ms.Turn.Node, Since: ms.Turn.Since, Reason: string(ms.Turn.Why)}
	}
	s.Manager = timeline.ManagerStatus{
		Phase: m.phaseOf(ms).String(), PhaseSince: ms.PhaseSince,
		Iterations: int64(ms.Iterations), NoopIterations: int64(ms.Noops), LastReason: ms.LastReasons.String(),
	}
	s.Tasks = []timeline.TaskStatus{}
	for _, t := range ms.Tasks {
		s.Tasks = append(s.Tasks, taskStatus(t))
	}
}

// phaseOf is the manager's phase; that of a broken timeline never runs.
func (m *Member) phaseOf(ms manager.Status) manager.Phase {
	if state, _ := m.State(); state == timeline.StateBroken || state == timeline.StateStopped {
		return manager.PhaseStopped
	}
	return ms.Phase
}

func taskStatus(t manager.TaskStatus) timeline.TaskStatus {
	s := timeline.TaskStatus{
		Name: string(t.Decision.Task), State: "stopped", Reason: string(t.Decision.Why),
		Since: t.Status.Since, Restarts: int64(t.Status.Restarts),
	}
	switch {
	case t.Status.Running:
		s.State = "running"
	case t.Decision.Action == manager.Waiting:
		s.State = "waiting"
	}
	if t.Status.LastErr != nil {
		s.LastError = t.Status.LastErr.Error()
	}
	return s
}

func (m *Member) quorumStatus() timeline.QuorumStatus {
	q := m.Quorum()
	s := timeline.QuorumStatus{
		K: q.K, N: q.N, Names: q.Names, ReadAt: q.ReadAt, Text: q.Raw,
		Why: notSynchronous(q, m.keeper.cfg.NodeID),
	}
	s.Synchronous, _ = m.Synchronous()
	if level, known := m.commitLevel(q); known && s.Why == "" {
		s.Why = levelTrouble(level)
	}
	if s.Names == nil {
		s.Names = []string{}
	}
	if m.Log() != nil {
		s.Qualified = m.Qualified()
		s.Joining = !s.Qualified
	}
	return s
}

// fresh reports whether a reading of the source's setting still says something:
// a reload, or another server at that address, is not announced.
func fresh(q timeline.Quorum) bool { return time.Since(q.ReadAt) < 3*settingsInterval }

// Synchronous reports whether commits wait for this node; known is false where
// the source's setting was not read for a while.
func (m *Member) Synchronous() (synchronous, known bool) {
	q := m.Quorum()
	level, known := m.commitLevel(q)
	return q.Synchronous && fresh(q) && (!known || waitsAt(level)), fresh(q)
}

// commitLevel is the source's synchronous_commit, if it was read together with q:
// a source that was refused has settings, too.
func (m *Member) commitLevel(q timeline.Quorum) (level string, known bool) {
	set := m.lastSettings.Load()
	if set == nil || set.TLI != q.TLI || set.SyncStandbyNames != q.Raw {
		return "", false
	}
	return set.SynchronousCommit, true
}

// notSynchronous says why commits do not wait for this node, and what to do; ""
// when they do.
func notSynchronous(q timeline.Quorum, name string) string {
	switch {
	case q.ReadAt.IsZero():
		return "the source's synchronous_standby_names was not read yet"
	case !fresh(q):
		return fmt.Sprintf("not known: the source's synchronous_standby_names was last read %s ago (%q), because the source cannot be asked",
			time.Since(q.ReadAt).Round(time.Second), q.Raw)
	case q.Synchronous:
		return ""
	case q.Raw == "":
		return fmt.Sprintf("synchronous_standby_names of the source is empty: no commit waits for this node; name %s in it ('sluice timeline show' prints the line), and reload", pg.QuoteSyncName(name))
	}
	return fmt.Sprintf("synchronous_standby_names of the source is %q and does not have %s: no commit waits for this node; add it and reload", q.Raw, pg.QuoteSyncName(name))
}

func (m *Member) sourceStatus() timeline.SourceStatus {
	state, since, r := m.SourceState()
	s := timeline.SourceStatus{
		Conninfo: conninfo.Mask(m.Control().Source), State: state, Since: since,
		Connected: r.Name == replication.StateConnected, Error: r.Error, WaitsFor: string(r.WaitsFor),
	}
	if l := m.Log(); state == sourcePoisoned && l.Stats().Poisoned != nil {
		s.Error = l.Stats().Poisoned.Error()
	}
	if lag, known := m.Lag(); known {
		s.LagBytes = &lag
	}
	return s
}

func (m *Member) gateStatus() timeline.GateStatus {
	g := m.Gate()
	st := g.Stats()
	s := timeline.GateStatus{State: "open", Holders: m.NameHolders(g.Holders())}
	switch {
	case st.Closed:
		s.State = "closed"
	case !st.ClosingSince.IsZero():
		s.State = "closing"
	}
	return s
}

// NameHolders tells what is known of those inside a gate: a timeline's, or, where the id has no name, a tenant's. Of one that is
// not here any more there is nothing but what the gate itself has.
func (k *Keeper) NameHolders(id timeline.ID, holders []gate.HolderInfo) []timeline.GateHolder {
	if m, err := k.member(id); err == nil {
		return m.NameHolders(holders)
	}
	if t := k.tenant(id.Tenant); t != nil && id.Name == "" {
		return t.NameHolders(holders)
	}
	return timeline.NameHolders(holders)
}

// Connected reports whether WAL is streaming.
func (m *Member) Connected() bool {
	r := m.current()
	return r != nil && r.State().Name == replication.StateConnected
}
