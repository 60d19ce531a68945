package boards

func receive() *Board {
	return &Board{
		File: "receive", Title: "Receive and sync",
		Text: "WAL on its way from the sources to the disk: how much, how quickly it is durable, and which sources do not stream.",
		Rows: []Row{
			{"How quickly is WAL durable?", []*Panel{
				lines("What does Sluice add to a commit?", "s", "From reading WAL off the socket to reporting it as durable. An exemplar leads to the trace of its sync.",
					quantiles("sluice_wal_ack_duration_seconds", "{n}")...).from(0.25, red).alert("SluiceAckSlow").latency().traces("wal.ack"),
				lines("On which node do commits wait longest?", "s", "99th percentile of acknowledgements, by node.",
					quantile(0.99, "sluice_wal_ack_duration_seconds", "{n}", "instance", "{{instance}}")).from(0.25, red).alert("SluiceAckSlow").latency().traces("wal.ack"),
				lines("How many acknowledgements a second?", "ops", "Each covers all commits that came during the sync before.",
					q(countRate("sluice_wal_ack_duration_seconds", "{n}", "instance"), "{{instance}}")),
				lines("How long does a sync take?", "s", "fdatasync of WAL, over all nodes that are chosen. One sync covers all commits that came during the one before.", quantiles("sluice_wal_fsync_duration_seconds", "{n}")...).from(0.1, red).alert("SluiceFsyncSlow").latency().traces("wal.fsync"),
				lines("Which disk is slow?", "s", "99th percentile of syncs, by node.",
					quantile(0.99, "sluice_wal_fsync_duration_seconds", "{n}", "instance", "{{instance}}")).from(0.1, red).alert("SluiceFsyncSlow").latency().traces("wal.fsync"),
				lines("Does a sync hang?", "s", "Age of the oldest sync that is running now. One that hangs is in no histogram.",
					q(`sluice_wal_fsync_pending_seconds{n}`, "{{instance}}")).from(10, red).alert("SluiceFsyncHangs"),
				lines("How busy is the disk with syncs?", "percentunit", "Seconds of syncs in each second. Above 1, syncs of several timelines run side by side.",
					q(sumRate("sluice_wal_fsync_duration_seconds", "{n}", "instance"), "{{instance}}")),
				lines("How much does one sync make durable?", "bytes", "WAL of one sync: the busier the source, the more commits share one.", quantiles("sluice_wal_fsync_batch_bytes", "{n}")...),
				lines("Do syncs fail?", "none", "Syncs that failed, within fifteen minutes. Each one poisons a log.",
					q(`increase(sluice_wal_fsync_failures_total{n}[15m])`, "{{instance}}")).from(0.5, red).traces("wal.fsync"),
			}},
			{"How much comes in?", []*Panel{
				lines("How much WAL do nodes receive?", "Bps", "Received and made durable, by node.", q(`rate(sluice_wal_received_bytes_total{n}[i])`, "{{instance}}")).stack(),
				lines("Which timelines receive most?", "Bps", "The ten timelines with most WAL, of those that have details.",
					q(`topk(10, sum by (tenant, timeline) (rate(sluice_timeline_received_bytes_total{t}[i])))`, "{{tenant}}/{{timeline}}")).timelines().traces("receive.session"),
				lines("Which timelines are behind their source?", "bytes", "WAL that the source has and the best node has not made durable: the worst ten.",
					q(`topk(10, min by (tenant, timeline) (sluice_timeline_source_lag_bytes{t}))`, "{{tenant}}/{{timeline}}")).from(268435456, red).alert("SluiceSourceLag").timelines().traces("receive.session"),
			}},
			{"Do sources stream?", []*Panel{
				lines("In which states are the connections?", "none", "Timelines by the state of their connection, over all nodes.",
					q(`count by (state) (sluice_timeline_source_state{t} == 1)`, "{{state}}")).stack().alert("SluiceNodeWithoutSource"),
				lines("How do attempts to connect end?", "none", "Attempts within five minutes: connected, refused, missing_wal, error.",
					q(`sum by (outcome) (increase(sluice_source_connects_total{n}[5m]))`, "{{outcome}}")).alert("SluiceSourceDisconnected").traces("receive.session"),
				lines("Why are sources refused?", "none", "Refusals within an hour, by reason. A refused source could damage what is kept.",
					q(`sum by (reason) (increase(sluice_source_refused_total{n}[1h]))`, "{{reason}}")).alert("SluiceSourceRefused"),
				table("Which timelines do not stream?", "none", "Timelines whose connection is in another state than connected, by node.",
					now(`sluice_timeline_source_state{t,state=~"connecting|refused|missing_wal|sealed|ended|poisoned|stopped"} == 1`, ""), "instance", "tenant", "timeline", "state").
					alert("SluiceNodeWithoutSource").timelines().traces("task.end").empty("all do", SilentSource),
				table("For which timelines does no commit wait?", "none", "synchronous_standby_names of their source names none of the nodes that keep them.",
					now(`max by (tenant, timeline) (sluice_timeline_synchronous{t}) == 0`, ""), "tenant", "timeline").alert("SluiceNotSynchronous").timelines().empty("commits wait in all of them", Deletion),
			}},
		},
	}
}
