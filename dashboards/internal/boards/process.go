package boards

// runsSluice leaves only processes that are nodes.
const runsSluice = ` and on (instance) sluice_build_info`

func process() *Board {
	return &Board{
		File: "process", Title: "Process",
		Text: "The process of each node, and whether what you see of it is complete.",
		Rows: []Row{
			{"Is telemetry itself healthy?", []*Panel{
				lines("Do spans arrive?", "ops", "Spans a second: exported, failed (the collector refused them), dropped.",
					q(`sum by (result) (rate(sluice_telemetry_spans_total{n}[i]))`, "{{result}}")).stack(),
				lines("Which nodes lose spans?", "ops", "Spans a second that failed or were dropped.",
					q(`sum by (instance) (rate(sluice_telemetry_spans_total{n,result=~"failed|dropped"}[i]))`, "{{instance}}")).from(0.001, red).alert("SluiceTelemetryLost"),
				lines("Where does telemetry fail?", "none", "Errors of telemetry within an hour: traces, scrape, profiles.",
					q(`sum by (component) (increase(sluice_telemetry_errors_total{n}[1h]))`, "{{component}}")).alert("SluiceTelemetryLost"),
				lines("How long does a scrape take?", "s", "The walk over the timelines, as the node measures it, and the whole scrape, as Prometheus does.",
					q(`sluice_telemetry_scrape_duration_seconds{n}`, "{{instance}} walk"),
					q(`scrape_duration_seconds{n}`+runsSluice, "{{instance}} scrape")),
				lines("How many series does each node have?", "none", "Samples of each scrape.", q(`scrape_samples_scraped{n}`+runsSluice, "{{instance}}")),
				lines("How many timelines have no details?", "none", "Active timelines beyond telemetry.timeline_metrics_limit. /metrics/timelines has all.",
					q(`sluice_telemetry_timelines_omitted{n}`, "{{instance}}")).from(1, yellow).alert("SluiceSeriesOmitted"),
				lines("How much is logged?", "ops", "Log records a second, by level.", q(`sum by (level) (rate(sluice_log_records_total{n}[i]))`, "{{level}}")).stack(),
				lines("Are there errors in the log?", "none", "Records of errors within fifteen minutes. Each is something to act upon.",
					q(`increase(sluice_log_records_total{n,level="error"}[15m])`, "{{instance}}")).from(0.5, red).alert("SluiceErrorsLogged"),
			}},
			{"What does the process take?", []*Panel{
				lines("How much CPU?", "none", "Cores in use, by node. An idle timeline takes none.", q(`rate(process_cpu_seconds_total{n}[i])`+runsSluice, "{{instance}}")),
				lines("How much memory?", "bytes", "Resident memory, by node. It grows with timelines that stream, not with WAL.", q(`process_resident_memory_bytes{n}`+runsSluice, "{{instance}}")),
				lines("How much of it is Go's heap?", "bytes", "Bytes of objects in use.", q(`go_memstats_heap_alloc_bytes{n}`+runsSluice, "{{instance}}")),
				lines("How many goroutines?", "none", "They grow with timelines, not with WAL. A number that only grows is a leak.", q(`go_goroutines{n}`+runsSluice, "{{instance}}")).alert("SluiceTaskLeak"),
				lines("How many files are open?", "percentunit", "Open file descriptors as a share of how many may be.", q(`process_open_fds{n} / process_max_fds{n}`+runsSluice, "{{instance}}")).from(0.8, red),
				lines("How long do pauses of the collector take?", "s", "The longest pause of Go's garbage collector that it remembers.", q(`go_gc_duration_seconds{n,quantile=~"1|1.0"}`+runsSluice, "{{instance}}")),
				lines("How much traffic has the network?", "Bps", "Bytes that the process's network takes in and gives out.",
					q(`rate(process_network_receive_bytes_total{n}[i])`+runsSluice, "{{instance}} in"),
					q(`rate(process_network_transmit_bytes_total{n}[i])`+runsSluice, "{{instance}} out")),
				lines("How long has each node been up?", "s", "Since its start. It falls to nothing with each restart.", q(`time() - process_start_time_seconds{n}`+runsSluice, "{{instance}}")),
				number("Restarts", "none", "Restarts within a day, of all nodes.", now(`sum(changes(process_start_time_seconds{n}[1d])`+runsSluice+`)`, "")),
			}},
		},
	}
}
