package boards

// storeOps is the histogram of the operations on object storage.
const storeOps = "sluice_objectstore_operation_duration_seconds"

func backup() *Board {
	return &Board{
		File: "backup", Title: "Backup and object storage",
		Text: "What is on nodes' disks alone, how quickly it goes to object storage, whether that answers, and what keeps local WAL.",
		Rows: []Row{
			{"What does object storage lack?", []*Panel{
				lines("Which timelines lag most?", "bytes", "Committed WAL that object storage does not have, as the best node knows: the worst ten.",
					q(`topk(10, min by (tenant, timeline) (sluice_timeline_backup_lag_bytes{t}))`, "{{tenant}}/{{timeline}}")).from(1073741824, red).alert("SluiceBackupLagBytes").timelines().traces("backup.segment"),
				lines("How long have whole segments waited?", "s", "Age of the oldest whole segment that is not in object storage, as the best node knows: the worst ten.",
					q(`topk(10, min by (tenant, timeline) (sluice_timeline_backup_lag_seconds{t}))`, "{{tenant}}/{{timeline}}")).from(900, red).alert("SluiceBackupLagAge").timelines().traces("backup.segment"),
				lines("How many segments wait for their upload?", "none", "Whole segments that may be uploaded and are not in object storage, by node.",
					q(`sluice_backup_queue_segments{n}`, "{{instance}}")).alert("SluiceBackupLagAge"),
				lines("How do uploads of whole segments end?", "ops", "created, present (it was there already), cancelled, or the class of the failure.",
					q(`sum by (outcome) (rate(sluice_backup_segments_total{n}[i]))`, "{{outcome}}")).stack().traces("backup.segment"),
				lines("How do uploads of open segments end?", "ops", "Copies of segments that are not whole yet.",
					q(`sum by (outcome) (rate(sluice_backup_partials_total{n}[i]))`, "{{outcome}}")).stack().traces("backup.segment"),
				lines("Why do uploads fail?", "none", "Uploads within fifteen minutes that failed, whole and open segments.",
					q(`sum by (outcome) (increase(sluice_backup_segments_total{n,outcome=~"conflict|damaged|denied|no_bucket|not_stored|cut|error"}[15m]))
+ sum by (outcome) (increase(sluice_backup_partials_total{n,outcome=~"conflict|damaged|denied|no_bucket|not_stored|cut|error"}[15m]))`, "{{outcome}}")).alert("SluiceObjectStoreErrors").traces("backup.segment"),
				lines("How much WAL is uploaded?", "Bps", "raw is WAL, stored is what it was compressed to.", q(`sum by (form) (rate(sluice_backup_bytes_total{n}[i]))`, "{{form}}")),
				lines("How well does WAL compress?", "percentunit", "Stored bytes as a share of the WAL they hold.",
					q(`sum by (instance) (rate(sluice_backup_bytes_total{n,form="stored"}[i])) / sum by (instance) (rate(sluice_backup_bytes_total{n,form="raw"}[i]))`, "{{instance}}")).empty("nothing is uploaded", UnderLoad),
				lines("How many uploads run?", "none", "Uploads under way, beside the limit (object_store.concurrency).",
					q(`sluice_backup_uploads_running{n}`, "{{instance}}"), q(`sluice_backup_concurrency_limit{n}`, "{{instance}} limit")).alert("SluiceTooManyBackupTasks"),
			}},
			{"Does object storage answer?", []*Panel{
				number("Object storage answers", "percentunit", "Share of the nodes that it answered when they last asked.", now(`avg(sluice_objectstore_available{n})`, "")).from(0, red).from(1, green).alert("SluiceObjectStoreUnavailable").wide(6),
				number("Conflicts", "none", "Objects with other content than ours, in the last day. Nothing was overwritten.", now(`sum(increase(sluice_backup_conflicts_total{n}[1d]))`, "")).from(0, green).from(0.5, red).alert("SluiceBackupConflict").wide(6),
				number("Damaged objects", "none", "Objects that are not what was written, found in the last day.", now(`sum(increase(sluice_objectstore_damaged_objects_total{n}[1d]))`, "")).from(0, green).from(0.5, red).alert("SluiceObjectDamaged").wide(6),
				number("Operations under way", "none", "Operations on object storage that have not ended.", now(`sum(sluice_objectstore_pending_operations{n})`, "")).wide(6),
				lines("How long do operations take?", "s", "95th percentile, by operation.", quantile(0.95, storeOps, "{n}", "operation", "{{operation}}")).latency().traces("backup.segment").empty("there is none", UnderLoad),
				lines("How long does a write take?", "s", "Durations of writes, of all nodes.", quantiles(storeOps, `{n,operation="put"}`)...).latency().traces("backup.segment").empty("nothing is written", UnderLoad),
				lines("Does an operation hang?", "s", "Age of the oldest operation under way. One that hangs is in no histogram before it is cut, after 30 s and what its bytes may take.",
					q(`sluice_objectstore_pending_seconds{n}`, "{{instance}}")).from(20, red).alert("SluiceObjectStoreHangs").empty("no operation is under way", UnderLoad),
				lines("Which operations are there?", "ops", "Operations a second, by name.", q(countRate(storeOps, "{n}", "operation"), "{{operation}}")).stack(),
				lines("How do operations end?", "ops", "Operations a second, by outcome. exists and not_found are answers, no failures.", q(countRate(storeOps, "{n}", "outcome"), "{{outcome}}")).stack(),
				lines("Which share fails?", "percentunit", "denied, cut and error, of all operations.",
					q(`sum by (instance) (`+countRate(storeOps, `{n,outcome=~"denied|cut|error"}`, "instance, outcome")+`) / sum by (instance) (`+countRate(storeOps, "{n}", "instance, outcome")+`)`, "{{instance}}")).
					from(0.1, red).alert("SluiceObjectStoreErrors").empty("there is no operation", UnderLoad),
			}},
			{"What is on the local disks?", []*Panel{
				lines("How much is free?", "bytes", "Free space on the file system of data_dir.", q(`sluice_data_dir_free_bytes{n}`, "{{instance}}")).alert("SluiceDiskNearlyFull"),
				lines("When will the disks be full?", "s", "At the rate of the last hour. A week is the most that is shown.",
					q(`clamp(sluice_data_dir_free_bytes{n} / clamp_min(-deriv(sluice_data_dir_free_bytes{n}[1h]), 1), 0, 604800)`, "{{instance}}")).from(0, red).from(14400, green).alert("SluiceDiskNearlyFull"),
				lines("What keeps local WAL?", "bytes", "not_backed_up, a reader, or retain.local_bytes. Each byte counts once.",
					q(`sum by (reason) (sluice_wal_retained_bytes{n})`, "{{reason}}")).stack().alert("SluiceReaderHoldsWAL"),
				lines("How much WAL do readers keep?", "bytes", "WAL that would be removed if nobody read it, by node.",
					q(`sluice_wal_retained_bytes{n,reason="reader"}`, "{{instance}}")).from(1073741824, red).alert("SluiceReaderHoldsWAL"),
				lines("How much WAL is on each disk?", "bytes", "WAL on the local disk, by node.", q(`sluice_wal_local_bytes{n}`, "{{instance}}")),
				lines("How much local WAL is removed?", "ops", "Segments a second. Only what object storage has, and nobody reads, is removed.", q(`rate(sluice_wal_removed_segments_total{n}[i])`, "{{instance}}")),
				lines("Which timelines take most disk?", "bytes", "The ten largest, of those that have details.",
					q(`topk(10, sluice_timeline_local_bytes{t})`, "{{instance}} {{tenant}}/{{timeline}}")).timelines(),
			}},
		},
	}
}
