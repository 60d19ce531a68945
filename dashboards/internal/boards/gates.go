package boards

func gates() *Board {
	return &Board{
		File: "gates", Title: "Gates and shutdowns",
		Text: "What does this shutdown, deletion or change of mode wait for, while it waits?",
		Rows: []Row{
			{"What is being waited for now?", []*Panel{
				table("Which gates are closing?", "s", "Gates that wait for those inside, the oldest first.",
					now(`sort_desc(sluice_gate_closing_seconds{t})`, ""), "instance", "tenant", "timeline", "gate").values("closes for").from(5, red).alert("SluiceGateCloseStuck").timelines().traces("gate.close.wait").empty("no gate closes", StuckStop),
				table("Who is inside the gates that are closing?", "none", "Holders by kind. The spans gate.close.wait name each of them, and link to its trace.",
					now(`sluice_gate_close_holders{t}`, ""), "instance", "tenant", "timeline", "gate", "holder").values("holders").alert("SluiceGateCloseStuck").timelines().traces("gate.close.wait").empty("no gate closes", StuckStop),
				timelineOf("In which stage is each node?", "Starting, running, or a stage of its shutdown: readiness, broker, drain, tenants, broker_connection, http, telemetry.",
					q(`max by (instance, stage) (sluice_node_stage{n})`, "{{instance}} {{stage}}")).word("1", "here", blue).traces("node.shutdown"),
				lines("How long does each stage of the shutdown take?", "s", "While a node stops, and its limit. Once half of it is over, the stage is late.",
					q(`sluice_shutdown_stage_seconds{n}`, "{{instance}} {{stage}}"),
					q(`sluice_shutdown_stage_limit_seconds{n}`, "{{instance}} {{stage}} limit")).alert("SluiceShutdownStageLate").traces("shutdown.stage.wait").empty("no node stops", StuckStop).wide(12),
				table("Which operations are under way?", "s", "Lifecycle operations with the step they are at, and the age of the oldest.",
					now(`sort_desc(max by (instance, operation, step) (sluice_lifecycle_operation_age_seconds{n}))`, ""), "instance", "operation", "step").values("age").from(900, red).alert("SluiceLifecycleStuck").traces("lifecycle.step").empty("there is none", Deletion),
				lines("How old do operations become?", "s", "Age of the oldest operation under way.",
					q(`max by (instance, operation) (sluice_lifecycle_operation_age_seconds{n})`, "{{instance}} {{operation}}")).from(900, red).alert("SluiceLifecycleStuck").empty("there is none", Deletion).wide(12),
			}},
			{"Gates", []*Panel{
				lines("How many are inside?", "none", "Passes that are held now, by kind of gate.", q(`sum by (gate) (sluice_gate_holders{n})`, "{{gate}}")),
				lines("How old is the oldest pass?", "s", "Age of the oldest pass that is held. A manager holds one for as long as its timeline runs; of the http gate it is the oldest request.",
					q(`max by (instance, gate) (sluice_gate_oldest_holder_seconds{n})`, "{{instance}} {{gate}}")).traces("gate.hold"),
				lines("How often are gates entered?", "ops", "Entries a second, by kind of gate.", q(`sum by (gate) (rate(sluice_gate_entries_total{n,result="entered"}[i]))`, "{{gate}}")),
				lines("Who is refused because a gate closes?", "ops", "Refused entries a second, by kind of gate. Some are normal while something stops.",
					q(`sum by (gate) (rate(sluice_gate_entries_total{n,result="refused"}[i]))`, "{{gate}}")),
				lines("How long do closes wait?", "s", "95th percentile of closes that ended, by kind of gate.",
					quantile(0.95, "sluice_gate_close_duration_seconds", "{n}", "gate", "{{gate}}")).latency().traces("gate.close").empty("no close ended", Deletion),
				lines("How do closes end?", "none", "Closes within an hour that ended: complete, or given up while somebody was inside.",
					q(`sum by (gate, outcome) (increase(sluice_gate_closes_total{n}[1h]))`, "{{gate}} {{outcome}}")).alert("SluiceGateCloseStuck").traces("gate.close"),
				number("Misuses", "none", "Passes that were used wrongly, in the last day. Each one is a bug.",
					now(`sum(increase(sluice_gate_misuse_total{n}[1d]))`, "")).from(0, green).from(0.5, red).alert("SluiceGateMisuse"),
			}},
			{"Operations", []*Panel{
				lines("Which operations end?", "none", "Lifecycle operations within an hour, by name.", q(`sum by (operation) (increase(sluice_lifecycle_operations_total{n}[1h])) > 0`, "{{operation}}")).empty("there was none", Deletion).traces("lifecycle.step"),
				lines("Do operations fail?", "none", "Lifecycle operations within an hour that failed, or that the node's stop cut off; the latter go on at its next start.",
					q(`sum by (operation, outcome) (increase(sluice_lifecycle_operations_total{n,outcome=~"error|cancelled"}[1h])) > 0`, "{{operation}} {{outcome}}")).empty("none failed", FailedOperation).traces("lifecycle.step"),
			}},
		},
	}
}
