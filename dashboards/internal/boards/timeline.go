package boards

func oneTimeline() *Board {
	return &Board{
		File: "timeline", Title: "Timeline", OneTimeline: true,
		Text: "One timeline on every node that keeps it: where it is, what it does, and what it waits for.",
		Rows: []Row{
			{"Is all well with it?", []*Panel{
				timelineOf("In which state is it?", "Its state on each node.", q(`max by (instance, state) (sluice_timeline_state{t})`, "{{instance}} {{state}}")).
					word("1", "here", blue).alert("SluiceTimelineBroken").wide(7),
				timelineOf("What is its source to it?", "The state of the connection to the source: connected, connecting, refused, missing_wal, stopped, sealed, poisoned; ended where it was deleted on another node, none where no source is set.",
					q(`max by (instance, state) (sluice_timeline_source_state{t})`, "{{instance}} {{state}}")).word("1", "here", blue).alert("SluiceSourceDisconnected").wide(7),
				table("Which life, which TLI?", "none", "Incarnation, mode and TLI on each node.", now(`sluice_timeline_info{t}`, ""), "instance", "incarnation", "mode", "tli").wide(10),
				number("Do commits wait for it?", "none", "Whether synchronous_standby_names names a node that keeps it.",
					now(`max(sluice_timeline_synchronous{t})`, "")).word("0", "no", red).word("1", "yes", green).alert("SluiceNotSynchronous"),
				number("Nodes that stream it", "none", "Nodes that are connected to the source.", now(`sum(sluice_timeline_source_connected{t})`, "")).from(0, red).from(1, green).alert("SluiceSourceDisconnected"),
				number("Nodes that vouch for it", "none", "Qualified nodes, as the best-informed node knows. Below the number that has to seal, a failover cannot be decided for sure.",
					now(`max(sluice_timeline_quorum_ready{t})`, "ready"), now(`max(sluice_timeline_quorum_required{t})`, "needed")).alert("SluiceQuorumAtRisk"),
				number("WAL that diverged", "bytes", "WAL that a promotion left out. It is kept aside, and never served.",
					now(`max(sluice_timeline_diverged_bytes{t})`, "")).from(0, green).from(1, red).alert("SluiceDiverged"),
				number("Who uploads it?", "none", "The node whose turn it is, as it thinks.", now(`max by (instance) (sluice_timeline_offloader{t}) == 1`, "{{instance}}")).names().alert("SluiceNoOffloader").empty("nobody does", UnderLoad),
				number("Is it active?", "none", "Whether it has something to tell the other nodes.",
					now(`max(sluice_timeline_active{t})`, "")).word("0", "idle", blue).word("1", "active", green),
			}},
			{"Where is it?", []*Panel{
				lines("Which position is where?", "decbytes", "Positions as numbers, on each node: horizon (below, local WAL may go), backup, commit, flush, write.",
					q(`sluice_timeline_lsn_bytes{t}`, "{{instance}} {{position}}")).wide(12),
				lines("How quickly does it move?", "Bps", "Growth of the durable position, on each node.",
					q(`clamp_min(deriv(sluice_timeline_flush_lsn_bytes{t}[1m]), 0)`, "{{instance}}")).wide(12),
				lines("How far is it behind its source?", "bytes", "WAL that the source has and the node has not made durable.",
					q(`sluice_timeline_source_lag_bytes{t}`, "{{instance}}")).from(268435456, red).alert("SluiceSourceLag").empty("no node is connected to the source", UnderLoad),
				lines("How much is not in object storage?", "bytes", "From the backup LSN to the commit LSN, the open segment included.",
					q(`sluice_timeline_backup_lag_bytes{t}`, "{{instance}}")).from(1073741824, red).alert("SluiceBackupLagBytes").traces("backup.segment"),
				lines("How long has a whole segment waited for its upload?", "s", "Age of the oldest whole segment that is not in object storage.",
					q(`sluice_timeline_backup_lag_seconds{t}`, "{{instance}}")).from(900, red).alert("SluiceBackupLagAge").traces("backup.segment"),
				lines("How much WAL comes in?", "Bps", "WAL received, on each node.", q(`rate(sluice_timeline_received_bytes_total{t}[i])`, "{{instance}}")).traces("receive.session"),
				lines("How much local disk does it take?", "bytes", "WAL on the disk of each node.", q(`sluice_timeline_local_bytes{t}`, "{{instance}}")),
			}},
			{"What does it do?", []*Panel{
				timelineOf("Which tasks run?", "Tasks of the timeline, on each node.",
					q(`max by (instance, task) (sluice_timeline_tasks_running{t})`, "{{instance}} {{task}}")).word("0", "no", "transparent").word("1", "runs", green).traces("task.spawn").tall(12),
				lines("How often does its manager iterate?", "ops", "Iterations by what they did. One that is woken again and again for nothing storms.",
					q(`sum by (instance, outcome) (rate(sluice_timeline_iterations_total{t}[i]))`, "{{instance}} {{outcome}}")).from(5, red).alert("SluiceIterationStorm").traces("manager.iteration").wide(12),
				lines("How often are its tasks started again?", "none", "Starts after a failure, within five minutes.",
					q(`increase(sluice_timeline_task_restarts_total{t}[5m])`, "{{instance}}")).alert("SluiceTaskRestarts").traces("task.end").wide(12),
				lines("Who is inside its gate?", "none", "Passes that are held now. A shutdown waits until all are given back.",
					q(`sluice_timeline_gate_holders{t}`, "{{instance}}")).traces("gate.hold").wide(12),
				lines("What does a close wait for?", "s", "How long its gate has been closing.", q(`sluice_gate_closing_seconds{t}`, "{{instance}}")).
					from(5, red).alert("SluiceGateCloseStuck").traces("gate.close.wait").empty("its gate does not close", StuckStop).wide(12),
				table("Who keeps its gate from closing?", "none", "Holders by kind, on each node.", now(`sluice_gate_close_holders{t}`, ""), "instance", "holder").values("holders").
					alert("SluiceGateCloseStuck").traces("gate.close.wait").empty("its gate does not close", StuckStop),
			}},
		},
	}
}
