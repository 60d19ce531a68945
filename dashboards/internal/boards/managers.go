package boards

func managers() *Board {
	return &Board{
		File: "managers", Title: "Managers and tasks",
		Text: "Which manager iterates too much, woken by what, and did it achieve anything? Which tasks run, how many, and which fail?",
		Rows: []Row{
			{"Managers", []*Panel{
				lines("What makes managers iterate?", "ops", "Iterations a second by what woke them.",
					q(`sum by (reason) (rate(sluice_manager_iterations_total{n}[i]))`, "{{reason}}")).stack().alert("SluiceIterationStorm").traces("manager.iteration"),
				lines("Do iterations achieve anything?", "percentunit", "Share of the iterations that did nothing, by node.",
					q(`sum by (instance) (rate(sluice_manager_iterations_total{n,outcome="noop"}[i])) / sum by (instance) (rate(sluice_manager_iterations_total{n}[i]))`, "{{instance}}")).
					from(0.8, yellow).alert("SluiceIterationsNoEffect").traces("manager.iteration").empty("no manager iterates", UnderLoad),
				lines("Is it more than timelines and WAL explain?", "percentunit", "Iterations of each node as a share of what is allowed: half of one a second for each timeline, and four for each MiB of WAL. Above 1 it is a storm.",
					q(`sum by (instance) (rate(sluice_manager_iterations_total{n}[i]))
/ (0.5 * clamp_min(sum by (instance) (sluice_timelines{n,state="running"}), 20) + 4 * sum by (instance) (rate(sluice_wal_received_bytes_total{n}[i])) / 1048576)`, "{{instance}}")).
					from(1, red).alert("SluiceIterationStorm"),
				lines("Which timelines iterate most?", "ops", "Iterations a second: the ten busiest timelines.",
					q(`topk(10, sum by (instance, tenant, timeline) (rate(sluice_timeline_iterations_total{t}[i])))`, "{{instance}} {{tenant}}/{{timeline}}")).
					from(5, red).alert("SluiceIterationStorm").timelines().traces("manager.iteration"),
				lines("How long does an iteration take?", "s", "99th percentile, by what it did.",
					quantile(0.99, "sluice_manager_iteration_duration_seconds", "{n}", "outcome", "{{outcome}}")).latency().traces("manager.iteration"),
				lines("Is a manager stuck, and in which phase?", "s", "How long the manager that is longest in a phase has been in it. save waits for the disk, ending for tasks.",
					q(`max by (instance, phase) (sluice_manager_phase_age_seconds{n})`, "{{instance}} {{phase}}")).from(60, red).alert("SluiceManagerStuck").traces("manager.iteration"),
				lines("What became of wake-ups?", "ops", "A wake-up woke a manager, was coalesced with another, or was irrelevant to what the manager waits for.",
					q(`sum by (result) (rate(sluice_manager_wakeups_total{n}[i]))`, "{{result}}")).stack(),
				lines("Who wakes managers?", "ops", "Wake-ups a second by reason, whatever became of them.",
					q(`sum by (reason) (rate(sluice_manager_wakeups_total{n}[i]))`, "{{reason}}")).stack(),
				lines("Do timelines flap between active and idle?", "ops", "Changes a second, by node.",
					q(`sum by (instance) (rate(sluice_active_changes_total{n}[i]))`, "{{instance}}")),
			}},
			{"Tasks", []*Panel{
				lines("Which tasks run?", "none", "Tasks that run now, of all timelines.", q(`sum by (task) (sluice_tasks_running{n})`, "{{task}}")).stack().traces("task.spawn"),
				lines("Which tasks failed and wait for their next try?", "none", "Tasks that should run and pause after a failure.",
					q(`sum by (task) (sluice_tasks_waiting{n})`, "{{task}}")).stack().alert("SluiceTaskRestarts").traces("task.end"),
				lines("Which tasks are started?", "ops", "Starts a second, by task. A task that fails is started again, with growing pauses.", q(`sum by (task) (rate(sluice_task_spawns_total{n}[i]))`, "{{task}}")).traces("task.spawn"),
				lines("How do tasks end?", "ops", "Ends a second: done, cancelled, error, panic.", q(`sum by (outcome) (rate(sluice_task_ends_total{n}[i]))`, "{{outcome}}")).stack().traces("task.end"),
				lines("Which tasks fail?", "ops", "Ends a second with an error or a panic.",
					q(`sum by (task, outcome) (rate(sluice_task_ends_total{n,outcome=~"error|panic"}[i]))`, "{{task}} {{outcome}}")).alert("SluiceTaskRestarts").traces("task.end"),
				lines("Which timelines' tasks fail?", "none", "Starts after a failure within three minutes: the ten worst timelines.",
					q(`topk(10, increase(sluice_timeline_task_restarts_total{t}[3m]))`, "{{instance}} {{tenant}}/{{timeline}}")).from(1.01, yellow).timelines().traces("task.end"),
				lines("How often is a failed task started again?", "ops", "Starts after a failure, by task.", q(`sum by (task) (rate(sluice_task_restarts_total{n}[i]))`, "{{task}}")).alert("SluiceTaskRestarts"),
				lines("How long do tasks run?", "s", "Median of the ends, by task. A receiver that runs for milliseconds does not run.",
					quantile(0.5, "sluice_task_duration_seconds", "{n}", "task", "{{task}}")).empty("no task ends", UnderLoad),
				number("Panics", "none", "Tasks that panicked in the last day. Each one is a bug.",
					now(`sum(increase(sluice_task_ends_total{n,outcome="panic"}[1d]))`, "")).from(0, green).from(0.5, red).alert("SluiceTaskPanicked").traces("task.end"),
				number("Leaked tasks", "none", "Tasks that were started, did not end, and belong to no timeline.",
					now(`sum(sum by (instance, task) (sluice_task_spawns_total{n}) - on (instance, task) sum by (instance, task) (sluice_task_ends_total{n}) - on (instance, task) sum by (instance, task) (sluice_tasks_running{n}))`, "")).
					from(0, green).from(1, red).alert("SluiceTaskLeak"),
			}},
			{"Are there too many backup tasks?", []*Panel{
				lines("How many backup tasks run, and how many may upload?", "none", "Tasks beyond the limit wait for their turn to upload.",
					q(`sum by (instance, task) (sluice_tasks_running{n,task=~"backup|backup_partial"})`, "{{instance}} {{task}}"),
					q(`sum by (instance) (sluice_backup_concurrency_limit{n})`, "{{instance}} limit")).alert("SluiceTooManyBackupTasks").traces("backup.segment"),
				lines("Do backup tasks pile up?", "none", "Backup tasks that failed and wait for their next try.",
					q(`sum by (instance) (sluice_tasks_waiting{n,task=~"backup|backup_partial"})`, "{{instance}}")).from(10, red).alert("SluiceBackupTasksPileUp").traces("backup.segment"),
				lines("How many segments are being uploaded?", "none", "Uploads under way, beside the limit.",
					q(`sum by (instance) (sluice_backup_uploads_running{n})`, "{{instance}}"),
					q(`sum by (instance) (sluice_backup_concurrency_limit{n})`, "{{instance}} limit")).alert("SluiceTooManyBackupTasks"),
			}},
		},
	}
}
