package main

import (
	"golang.org/x/sys/unix"

	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/keeper"
	"github.com/sluicewal/sluice/internal/timeline"
	"github.com/sluicewal/sluice/telemetry"
)

// numbers is what the collector asks at each scrape: the keeper in words of
// telemetry.
type numbers struct {
	node    *node
	dataDir string
	stages  *stages
}

var _ telemetry.Source = numbers{}

// Node implements telemetry.Source.
func (n numbers) Node() telemetry.NodeStats {
	s := telemetry.NodeStats{Stage: *n.node.stage.Load(), Shutdown: n.stages.stats(), Tenants: map[string]int{}}
	s.DataDirFree, s.DataDirCapacity = diskSpace(n.dataDir)
	s.Gates = append(s.Gates, gateStats(gateHTTP, timeline.ID{}, n.node.requests))
	k := n.node.keeper.Load()
	if k == nil {
		return s
	}
	for id, g := range k.TenantGates() {
		if info, err := k.Tenant(id); err == nil {
			s.Tenants[string(info.Mode)]++
		}
		s.Gates = append(s.Gates, gateStats("tenant", timeline.ID{Tenant: id}, g))
	}
	if configured, _ := k.StoreError(); configured {
		s.Store = storeStats(k)
	}
	if b, ok := k.BrokerStats(); ok {
		s.Broker = &telemetry.BrokerStats{Stats: b, Nodes: k.Nodes()}
	}
	return s
}

// storeStats are those of object storage that is configured, and perhaps not open.
func storeStats(k *keeper.Keeper) *telemetry.StoreStats {
	store := k.Store()
	if store == nil {
		return &telemetry.StoreStats{}
	}
	return &telemetry.StoreStats{Stats: store.Stats()}
}

// diskSpace returns the bytes that are free for us and the size of the file
// system that holds dir; zeros if that cannot be found out.
func diskSpace(dir string) (free, capacity int64) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize
}

// NameHolders implements telemetry.Source.
func (n numbers) NameHolders(id timeline.ID, holders []gate.HolderInfo) []timeline.GateHolder {
	return n.node.nameHolders(id, holders)
}

// Timelines implements telemetry.Source.
func (n numbers) Timelines() []telemetry.TimelineStats {
	k := n.node.keeper.Load()
	if k == nil {
		return nil
	}
	members := k.Members()
	all := make([]telemetry.TimelineStats, 0, len(members))
	for _, m := range members {
		all = append(all, timelineStats(m))
	}
	return all
}

func timelineStats(m *keeper.Member) telemetry.TimelineStats {
	c := m.Control()
	s := telemetry.TimelineStats{
		ID: m.ID(), Incarnation: c.Incarnation, Mode: string(m.Mode()), StartLSN: c.Start.LSN,
		Manager: m.Manager().Status(), Wake: m.Wake(), Gate: gateStats("timeline", m.ID(), m.Gate()),
	}
	s.State, _ = m.State()
	if l := m.Log(); l != nil {
		w := l.Stats()
		s.TLI, s.WriteLSN, s.FlushLSN, s.CommitLSN = w.Flush.TLI, w.Write.LSN, w.Flush.LSN, m.CommitEnd()
		s.ReceivedBytes, s.LocalBytes, s.DivergedBytes, s.SyncSince = w.AppendedBytes, w.LocalBytes, w.DivergedBytes, w.SyncSince
	}
	fillSource(&s, m)
	fillBackup(&s, m)
	if op := m.Operation(); op.Name != "" {
		s.Operation, s.OperationStep, s.OperationSince = op.Name, op.Step, op.Since
	}
	return s
}

func fillSource(s *telemetry.TimelineStats, m *keeper.Member) {
	s.SourceState, _, _ = m.SourceState()
	s.SourceConnected = m.Connected()
	s.LagBytes, s.LagKnown = m.Lag()
	s.Synchronous, s.QuorumKnown = m.Synchronous()
	s.QuorumRequired = m.Quorum().Required
	s.QuorumReady = m.QuorumReady()
}

func fillBackup(s *telemetry.TimelineStats, m *keeper.Member) {
	s.BackupLSN, s.HorizonLSN = m.Backup().LSN, m.Horizon()
	if turn := m.Manager().Turn(); turn.Node != "" || turn.Why != "" {
		s.Offloader = &turn.Mine
	}
	if q, known := m.Queue(); known {
		s.BackupLagBytes, s.QueueSegments, s.OldestUnbackedSince = &q.LagBytes, &q.Segments, q.Since
	}
	if r, known := m.Retained(); known {
		s.Retained = &telemetry.RetainedBytes{NotBackedUp: r.NotBackedUp, Reader: r.Reader, Configured: r.Configured}
	}
}

func gateStats(kind string, id timeline.ID, g *gate.Gate) telemetry.GateStats {
	return telemetry.GateStats{
		Kind: kind, Tenant: string(id.Tenant), Timeline: id.Name, Stats: g.Stats(), Holders: g.Holders,
	}
}

// keeperEvents joins what happens below the keeper with telemetry.
func keeperEvents(t *telemetry.Telemetry) keeper.Events {
	return keeper.Events{
		Gate: t.GateEvents(), Trace: t.GateTrace(),
		Manager: t.ManagerEvents, Tasks: t.TaskEvents, WAL: t.WALEvents, Replication: t.ReplicationEvents,
		Operation: t.OperationStarted, Step: t.OperationStep, Shutdown: t.ShutdownStarted,
		Fetch: t.WALFetch, Life: t.Life,
	}
}
