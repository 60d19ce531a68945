package boards

func fleet() *Board {
	return &Board{
		File: "fleet", Title: "Fleet", Text: "Is anything wrong, on any node? The first row is all green while every acknowledged commit is where it should be.",
		Rows: []Row{
			{"Is any acknowledged commit at risk?", []*Panel{
				number("Alerts that fire", "none", "Alerts of Sluice that fire now. Each has a runbook.",
					now(`count(ALERTS{alertname=~"Sluice.*",alertstate="firing"}) or vector(0)`, "")).from(0, green).from(1, red),
				number("Nodes that answer", "percentunit", "Share of the nodes that Prometheus could scrape. Commits that wait for a node that is down hang.",
					now(`avg(up{n} and on (job) group by (job) (last_over_time(sluice_build_info[1d])))`, "")).from(0, red).from(1, green).alert("SluiceDown"),
				number("Timelines no commit waits for", "none", "Timelines whose source's synchronous_standby_names names no node that keeps them: the last commits are lost with the source.",
					now(`count(max by (tenant, timeline) (sluice_timeline_synchronous{t}) == 0) or vector(0)`, "")).from(0, green).from(1, red).alert("SluiceNotSynchronous"),
				number("Timelines no node streams", "none", "Timelines that no node is connected to the source of; those that were deleted on one node, and are still kept on others, too. Their commits hang, or their source is down.",
					now(`count(max by (tenant, timeline) (sluice_timeline_source_connected{t}) == 0 unless on (tenant, timeline) sluice_timeline_source_state{t,state="none"}) or vector(0)`, "")).
					from(0, green).from(1, red).alert("SluiceSourceDisconnected"),
				number("Too few nodes to seal", "none", "Timelines for which fewer nodes vouch than have to seal: should the source fail, its end cannot be decided for sure.",
					now(`count(max by (tenant, timeline) (sluice_timeline_quorum_ready{t}) < on (tenant, timeline) max by (tenant, timeline) (sluice_timeline_quorum_required{t})) or vector(0)`, "")).
					from(0, green).from(1, red).alert("SluiceQuorumAtRisk"),
				number("Broken timelines", "none", "Their control file or WAL could not be used when the node opened them.",
					now(`sum(sluice_timelines{n,state="broken"})`, "")).from(0, green).from(1, red).alert("SluiceTimelineBroken"),
			}},
			{"How much, and how quickly?", []*Panel{
				lines("How much WAL comes in?", "Bps", "WAL that was received and made durable, by node.",
					q(`sum by (instance) (rate(sluice_wal_received_bytes_total{n}[i]))`, "{{instance}}")).stack(),
				lines("What does Sluice add to a commit?", "s", "99th percentile of the time from reading WAL off the socket to reporting it as durable, by node. An exemplar leads to the trace of a sync.",
					quantile(0.99, "sluice_wal_ack_duration_seconds", "{n}", "instance", "{{instance}}")).from(0.25, red).alert("SluiceAckSlow").latency().traces("wal.ack"),
				lines("How far is the best node behind each source?", "bytes", "WAL that the source has and no node has made durable: the worst ten timelines.",
					q(`topk(10, min by (tenant, timeline) (sluice_timeline_source_lag_bytes{t}))`, "{{tenant}}/{{timeline}}")).from(268435456, red).alert("SluiceSourceLag").timelines(),
				lines("How much exists on nodes' disks only?", "bytes", "Committed WAL that object storage does not have, as the best node knows: the worst ten timelines. With the disks it would be lost.",
					q(`topk(10, min by (tenant, timeline) (sluice_timeline_backup_lag_bytes{t}))`, "{{tenant}}/{{timeline}}")).from(1073741824, red).alert("SluiceBackupLagBytes").timelines(),
				lines("How full are the disks?", "percentunit", "Used share of the file system of data_dir. A full disk acknowledges nothing.",
					q(`1 - sluice_data_dir_free_bytes{n} / sluice_data_dir_capacity_bytes{n}`, "{{instance}}")).from(0.9, red).alert("SluiceDiskNearlyFull"),
				lines("Does object storage answer?", "percentunit", "Share of its operations that fail: denied, without an answer in time, or with an error.",
					q(`sum by (instance) (`+countRate("sluice_objectstore_operation_duration_seconds", `{n,outcome=~"denied|cut|error"}`, "instance, outcome")+`)
/ sum by (instance) (`+countRate("sluice_objectstore_operation_duration_seconds", "{n}", "instance, outcome")+`)`, "{{instance}}")).
					from(0.1, red).alert("SluiceObjectStoreErrors").empty("no operation is under way", UnderLoad),
			}},
			{"Which are the worst?", []*Panel{
				table("Which alerts fire?", "none", "Alerts of Sluice, with what they are about.",
					now(`ALERTS{alertname=~"Sluice.*",alertstate="firing"}`, ""), "alertname", "severity", "tenant", "timeline", "instance").empty("all is well", StuckStop),
				table("Which ten timelines wait longest for their upload?", "s", "Age of the oldest whole segment that is not in object storage, as the best node knows.",
					now(`topk(10, min by (tenant, timeline) (sluice_timeline_backup_lag_seconds{t}))`, ""), "tenant", "timeline").values("waits for").from(900, red).alert("SluiceBackupLagAge").timelines(),
				table("Which ten timelines keep their manager busiest?", "ops", "Iterations a second. An idle timeline makes none, WAL at full speed a few for each segment.",
					now(`topk(10, sum by (instance, tenant, timeline) (rate(sluice_timeline_iterations_total{t}[5m])))`, ""), "instance", "tenant", "timeline").values("iterations").alert("SluiceIterationStorm").timelines().traces("manager.iteration"),
				table("Which ten timelines restart their tasks most?", "none", "Starts of tasks after a failure, in the last hour.",
					now(`topk(10, sum by (instance, tenant, timeline) (increase(sluice_timeline_task_restarts_total{t}[1h])))`, ""), "instance", "tenant", "timeline").values("restarts").alert("SluiceTaskRestarts").timelines().traces("task.end"),
			}},
			{"What is there?", []*Panel{
				table("What runs where?", "none", "Nodes with their versions.", now(`sluice_build_info{n}`, ""), "instance", "version", "revision", "go_version"),
				timelineOf("In which stage is each node?", "Starting, running, or a stage of its shutdown.",
					q(`max by (instance, stage) (sluice_node_stage{n})`, "{{instance}} {{stage}}")).word("1", "here", blue),
				lines("In which states are the timelines?", "none", "Timelines of all nodes by their state; one that is kept by three nodes counts three times.",
					q(`sum by (state) (sluice_timelines{n})`, "{{state}}")).stack(),
				lines("What do nodes do with tenants?", "none", "Tenants by mode: attached (streams), secondary (keeps a warm copy), detached (does nothing).",
					q(`sum by (mode) (sluice_tenants{n})`, "{{mode}}")).stack(),
				lines("How many timelines are active?", "none", "Timelines that have something to tell the others, and how many there are.",
					q(`sum(sluice_timelines_active{n})`, "active"), q(`sum(sluice_timelines{n})`, "all")),
			}},
		},
	}
}
