package boards

func peers() *Board {
	return &Board{
		File: "peers", Title: "Peers and broker",
		Text: "What nodes know of each other, whether a failover could be decided, and who uploads.",
		Rows: []Row{
			{"Do nodes hear of each other?", []*Panel{
				timelineOf("Which nodes are connected to the broker?", "Without it a node receives and acknowledges as before, and uploads up to the last commit that it knew of.",
					q(`sluice_broker_connected{n}`, "{{instance}}")).word("0", "cut off", red).word("1", "connected", green).alert("SluiceBrokerDown").traces("broker.round"),
				lines("How long has each peer been silent?", "s", "Since its last message, as each node heard.",
					q(`time() - sluice_broker_last_message_timestamp_seconds{n}`, "{{instance}} hears {{peer}}")).from(30, red).alert("SluicePeerSilent").wide(12),
				lines("How many messages are exchanged?", "ops", "By direction and kind.", q(`sum by (direction, kind) (rate(sluice_broker_messages_total{n}[i]))`, "{{direction}} {{kind}}")).wide(6),
				lines("What goes wrong with messages?", "none", "Within fifteen minutes: messages that were not used, or could not be sent, by reason.",
					q(`sum by (reason) (increase(sluice_broker_errors_total{n}[15m]))`, "{{reason}}")).stack().wide(6),
				lines("How long does a round take?", "s", "Telling the others about all active timelines.", quantiles("sluice_broker_round_duration_seconds", "{n}")...).latency().traces("broker.round").wide(6),
				lines("How many timelines does each node tell of?", "none", "Active timelines, by node.", q(`sluice_timelines_active{n}`, "{{instance}}")).wide(6),
			}},
			{"Could a failover be decided now?", []*Panel{
				table("Which timelines have too few nodes to seal?", "none", "Nodes that vouch for them, where that is fewer than have to seal.",
					now(`max by (tenant, timeline) (sluice_timeline_quorum_ready{t}) < on (tenant, timeline) max by (tenant, timeline) (sluice_timeline_quorum_required{t})`, ""), "tenant", "timeline").values("nodes").
					from(0, red).alert("SluiceQuorumAtRisk").timelines().empty("all have enough", SilentSource).wide(8),
				lines("How many nodes could be lost?", "none", "Nodes that vouch for a timeline beyond those that have to seal: the ten timelines with fewest.",
					q(`bottomk(10, max by (tenant, timeline) (sluice_timeline_quorum_ready{t}) - on (tenant, timeline) max by (tenant, timeline) (sluice_timeline_quorum_required{t}))`, "{{tenant}}/{{timeline}}")).belowZero().timelines().alert("SluiceQuorumAtRisk").wide(8),
				lines("How far apart are the nodes of a timeline?", "bytes", "Between the first and the last node's durable position, of those that hold WAL: the ten timelines that are furthest apart.",
					q(`topk(10, max by (tenant, timeline) (sluice_timeline_flush_lsn_bytes{t} > 0) - on (tenant, timeline) min by (tenant, timeline) (sluice_timeline_flush_lsn_bytes{t} > 0))`, "{{tenant}}/{{timeline}}")).timelines().alert("SluiceNodeWithoutSource").wide(8),
			}},
			{"Who uploads?", []*Panel{
				lines("How many timelines does each node upload?", "none", "Timelines that a node uploads, by node.", q(`sum by (instance) (sluice_timeline_offloader{t})`, "{{instance}}")).stack().wide(6),
				lines("How long has WAL waited that nobody uploads?", "s", "Age of the oldest whole segment that waits, of timelines that no node takes for its own to upload; 0 where one does. The worst ten.",
					q(`topk(10, min by (tenant, timeline) (sluice_timeline_backup_lag_seconds{t}) * (1 - max by (tenant, timeline) (sluice_timeline_offloader{t})))`, "{{tenant}}/{{timeline}}")).
					from(60, red).alert("SluiceNoOffloader").timelines().wide(6),
				table("Which timelines do most nodes upload?", "none", "Nodes that upload the same timeline, the ten with most. One is as it should be. Two are harmless, and twice the work; for a moment that is normal.",
					now(`topk(10, sum by (tenant, timeline) (sluice_timeline_offloader{t}))`, ""), "tenant", "timeline").values("nodes").from(0, green).from(2, orange).timelines().wide(6),
				lines("How many nodes keep each timeline?", "none", "Timelines by the number of nodes that run them.",
					q(`count_values("nodes", sum by (tenant, timeline) (sluice_timeline_state{t,state="running"}))`, "kept by {{nodes}}")).stack().wide(6),
			}},
		},
	}
}
