package telemetry

import (
	"strconv"

	dto "github.com/prometheus/client_model/go"

	"github.com/sluicewal/sluice/internal/pg"
)

// emit emits a metric of a timeline.
func (e *emission) emit(name string, labels []*dto.LabelPair, v float64) {
	d := e.descs[name]
	e.ch <- &sample{desc: d.desc, kind: d.Kind, labels: labels, value: v}
}

// vital emits the series that every timeline has. What is not known is left out: a lag of 0 would mean
// that all is well.
func (e *emission) vital(s *TimelineStats) {
	l := e.labelsOf(s.ID)
	e.emit("timeline_state", l.with("state", string(s.State)), 1)
	e.emit("timeline_source_connected", l.base, number(s.SourceConnected))
	e.emit("timeline_source_state", l.with("state", s.SourceState), 1)
	if s.LagKnown {
		e.emit("timeline_source_lag_bytes", l.base, float64(s.LagBytes))
	}
	if s.BackupLagBytes != nil {
		e.emit("timeline_backup_lag_bytes", l.base, float64(*s.BackupLagBytes))
	}
	if s.BackupLagBytes != nil || !s.OldestUnbackedSince.IsZero() {
		e.emit("timeline_backup_lag_seconds", l.base, e.since(s.OldestUnbackedSince))
	}
	e.emit("timeline_flush_lsn_bytes", l.base, float64(s.FlushLSN))
	if s.QuorumKnown {
		e.emit("timeline_synchronous", l.base, number(s.Synchronous))
		e.emit("timeline_quorum_required", l.base, float64(s.QuorumRequired))
	}
	e.emit("timeline_quorum_ready", l.base, float64(s.QuorumReady))
	e.emit("timeline_diverged_bytes", l.base, float64(s.DivergedBytes))
	e.emit("timeline_iterations_total", l.with("outcome", "acted"), float64(s.Manager.Iterations-s.Manager.Noops))
	e.emit("timeline_iterations_total", l.with("outcome", "noop"), float64(s.Manager.Noops))
	if s.Offloader != nil {
		e.emit("timeline_offloader", l.base, number(*s.Offloader))
	}
	e.emit("timeline_task_restarts_total", l.base, float64(s.restarts()))
}

// detail emits the rest.
func (e *emission) detail(s *TimelineStats) {
	l := e.labelsOf(s.ID)
	e.value("timeline_info", 1, string(s.ID.Tenant), s.ID.Name, string(s.Incarnation), s.Mode, strconv.FormatUint(uint64(s.TLI), 10))
	e.emit("timeline_active", l.base, number(s.Manager.Active))
	for _, p := range []struct {
		name string
		lsn  pg.LSN
	}{{"start", s.StartLSN}, {"write", s.WriteLSN}, {"flush", s.FlushLSN}, {"commit", s.CommitLSN}, {"backup", s.BackupLSN}, {"horizon", s.HorizonLSN}} {
		if p.lsn != 0 {
			e.emit("timeline_lsn_bytes", l.with("position", p.name), float64(p.lsn))
		}
	}
	for _, t := range s.Manager.Tasks {
		e.emit("timeline_tasks_running", l.with("task", string(t.Decision.Task)), number(t.Status.Running))
	}
	e.emit("timeline_gate_holders", l.base, float64(s.Gate.Inside))
	e.emit("timeline_received_bytes_total", l.base, float64(s.ReceivedBytes))
	e.emit("timeline_local_bytes", l.base, float64(s.LocalBytes))
}
