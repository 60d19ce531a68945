package telemetry

import (
	"strconv"

	"github.com/sluicewal/sluice/internal/pg"
)

// A timelineMetric is a metric that each timeline has for itself.
type timelineMetric struct {
	name string
	// add adds the series of one timeline. What is not known is left out: a lag of 0 would mean that all is
	// well.
	add func(f *family, s *TimelineStats)
}

// vitalMetrics are those of every timeline.
var vitalMetrics = []timelineMetric{
	{"timeline_state", func(f *family, s *TimelineStats) { f.add(1, string(s.State)) }},
	{"timeline_source_connected", func(f *family, s *TimelineStats) { f.add(number(s.SourceConnected)) }},
	{"timeline_source_state", func(f *family, s *TimelineStats) { f.add(1, s.SourceState) }},
	{"timeline_source_lag_bytes", func(f *family, s *TimelineStats) {
		if s.LagKnown {
			f.add(float64(s.LagBytes))
		}
	}},
	{"timeline_backup_lag_bytes", func(f *family, s *TimelineStats) {
		if s.BackupLagBytes != nil {
			f.add(float64(*s.BackupLagBytes))
		}
	}},
	{"timeline_backup_lag_seconds", func(f *family, s *TimelineStats) {
		if s.BackupLagBytes != nil || !s.OldestUnbackedSince.IsZero() {
			f.add(f.look.since(s.OldestUnbackedSince))
		}
	}},
	{"timeline_flush_lsn_bytes", func(f *family, s *TimelineStats) { f.add(float64(s.FlushLSN)) }},
	{"timeline_synchronous", func(f *family, s *TimelineStats) {
		if s.QuorumKnown {
			f.add(number(s.Synchronous))
		}
	}},
	{"timeline_was_synchronous", func(f *family, s *TimelineStats) {
		if s.QuorumKnown && !s.Synchronous {
			f.add(number(s.WasSynchronous))
		}
	}},
	{"timeline_quorum_required", func(f *family, s *TimelineStats) {
		if s.QuorumKnown {
			f.add(float64(s.QuorumRequired))
		}
	}},
	{"timeline_quorum_ready", func(f *family, s *TimelineStats) { f.add(float64(s.QuorumReady)) }},
	{"timeline_diverged_bytes", func(f *family, s *TimelineStats) { f.add(float64(s.DivergedBytes)) }},
	{"timeline_iterations_total", func(f *family, s *TimelineStats) {
		f.add(float64(s.Manager.Iterations-s.Manager.Noops), "acted")
		f.add(float64(s.Manager.Noops), "noop")
	}},
	{"timeline_offloader", func(f *family, s *TimelineStats) {
		if s.Offloader != nil {
			f.add(number(*s.Offloader))
		}
	}},
	{"timeline_task_restarts_total", func(f *family, s *TimelineStats) { f.add(float64(s.restarts())) }},
}

// detailMetrics are those of a limited number of timelines.
var detailMetrics = []timelineMetric{
	{"timeline_info", func(f *family, s *TimelineStats) {
		f.add(1, string(s.Incarnation), s.Mode, strconv.FormatUint(uint64(s.TLI), 10))
	}},
	{"timeline_active", func(f *family, s *TimelineStats) { f.add(number(s.Manager.Active)) }},
	{"timeline_lsn_bytes", func(f *family, s *TimelineStats) {
		for _, p := range [...]struct {
			name string
			lsn  pg.LSN
		}{{"start", s.StartLSN}, {"write", s.WriteLSN}, {"flush", s.FlushLSN}, {"commit", s.CommitLSN}, {"backup", s.BackupLSN}, {"horizon", s.HorizonLSN}} {
			if p.lsn != 0 {
				f.add(float64(p.lsn), p.name)
			}
		}
	}},
	{"timeline_tasks_running", func(f *family, s *TimelineStats) {
		for _, t := range s.Manager.Tasks {
			f.add(number(t.Status.Running), string(t.Decision.Task))
		}
	}},
	{"timeline_gate_holders", func(f *family, s *TimelineStats) { f.add(float64(s.Gate.Inside)) }},
	{"timeline_received_bytes_total", func(f *family, s *TimelineStats) { f.add(float64(s.ReceivedBytes)) }},
	{"timeline_local_bytes", func(f *family, s *TimelineStats) { f.add(float64(s.LocalBytes)) }},
}
