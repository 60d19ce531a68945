package telemetry

import (
	"github.com/sluicewal/sluice/internal/backup"
	"github.com/sluicewal/sluice/internal/broker"
	"github.com/sluicewal/sluice/internal/gate"
	"github.com/sluicewal/sluice/internal/manager"
	"github.com/sluicewal/sluice/internal/tasks"
	"github.com/sluicewal/sluice/internal/timeline"
)

// labelValues has the values of the labels whose lists are closed, by metric (without the namespace) and label. A rule or a
// panel that asks for another value never has an answer, and nobody is told.
func labelValues() map[string]map[string][]string {
	names, gates, outcomes := texts(taskNames), gateKinds, []string{"acted", "noop"}
	states := texts(timeline.States())
	return map[string]map[string][]string{
		"tenants":                      {"mode": tenantModes},
		"timelines":                    {"state": states},
		"node_stage":                   {"stage": append([]string{"starting", "running"}, stopping()...)},
		"shutdown_stage_seconds":       {"stage": shutdownStages},
		"shutdown_stage_limit_seconds": {"stage": shutdownStages},

		"manager_iterations_total":           {"reason": named(timeline.Reasons()), "outcome": outcomes},
		"manager_iteration_duration_seconds": {"outcome": outcomes},
		"manager_phase_age_seconds":          {"phase": workPhases()},
		"manager_wakeups_total":              {"reason": named(timeline.Reasons()), "result": named(timeline.WakeResults())},

		"task_spawns_total":     {"task": names},
		"task_ends_total":       {"task": names, "outcome": texts(tasks.Outcomes())},
		"task_restarts_total":   {"task": names},
		"tasks_running":         {"task": names},
		"tasks_waiting":         {"task": names},
		"task_duration_seconds": {"task": names},

		"gate_entries_total":          {"gate": gates, "result": {"entered", "refused"}},
		"gate_holders":                {"gate": gates},
		"gate_oldest_holder_seconds":  {"gate": gates},
		"gate_closes_total":           {"gate": gates, "outcome": {"complete", "given_up"}},
		"gate_close_duration_seconds": {"gate": gates},
		"gate_misuse_total":           {"kind": texts(gate.MisuseKinds())},
		"gate_closing_seconds":        {"gate": gates},
		"gate_close_holders":          {"gate": gates},

		"lifecycle_operations_total":      {"operation": operationLabels(), "outcome": {"ok", "error", "cancelled"}},
		"lifecycle_operation_age_seconds": {"operation": operationLabels()},

		"source_connects_total": {"outcome": {"connected", "refused", "missing_wal", "error"}},
		"source_refused_total":  {"reason": texts(refusals)},

		"backup_segments_total": {"outcome": uploadOutcomes},
		"backup_partials_total": {"outcome": uploadOutcomes},
		"backup_bytes_total":    {"form": {"raw", "stored"}},
		"objectstore_operation_duration_seconds": {
			"operation": backup.OperationNames(), "outcome": texts(backup.Outcomes()),
		},

		"wal_retained_bytes":    {"reason": {"not_backed_up", "reader", "configured"}},
		"restore_answers_total": {"answer": {"file", "absent", "unknown"}},

		"broker_messages_total": {"direction": {"sent", "received"}, "kind": texts(broker.Kinds())},
		"broker_errors_total":   {"reason": texts(broker.Reasons())},

		"telemetry_spans_total":  {"result": {"exported", "failed", "dropped"}},
		"telemetry_errors_total": {"component": {"traces", "scrape", "profiles"}},
		"log_records_total":      {"level": {"debug", "info", "warn", "error"}},

		"timeline_state":            {"state": states},
		"timeline_source_state":     {"state": sourceStates},
		"timeline_iterations_total": {"outcome": outcomes},
		"timeline_info":             {"mode": tenantModes},
		"timeline_lsn_bytes":        {"position": {"start", "write", "flush", "commit", "backup", "horizon"}},
		"timeline_tasks_running":    {"task": names},
	}
}

// Lists of those who hand the values to this package; tests of theirs hold them against these.
var (
	shutdownStages = []string{"readiness", "broker", "drain", "tenants", "broker_connection", "http", "telemetry"}
	sourceStates   = []string{"none", "poisoned", "sealed", "ended", "stopped", "connecting", "connected", "refused", "missing_wal"}
)

func stopping() []string {
	list := make([]string, len(shutdownStages))
	for i, stage := range shutdownStages {
		list[i] = "stopping: " + stage
	}
	return list
}

func workPhases() []string {
	var list []string
	for _, p := range manager.Phases() {
		if p.IsWork() {
			list = append(list, p.String())
		}
	}
	return list
}

func operationLabels() []string {
	var list []string
	for _, of := range operationNames {
		for _, name := range of.names {
			list = append(list, operationLabel(of.id, name))
		}
	}
	return list
}

func texts[T ~string](values []T) []string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = string(v)
	}
	return list
}

func named[T interface{ String() string }](values []T) []string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = v.String()
	}
	return list
}
