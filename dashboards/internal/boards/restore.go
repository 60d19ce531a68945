package boards

// httpTime is the histogram of the HTTP requests.
const httpTime = "sluice_http_request_duration_seconds"

func restore() *Board {
	return &Board{
		File: "restore", Title: "Serving and restore",
		Text: "WAL that is handed back to recoveries and standbys, and the HTTP interface that it goes through.",
		Rows: []Row{
			{"Do restores get what they ask for?", []*Panel{
				number("Answers unknown", "none", "Requests for WAL within an hour of which it could not be found out whether the file exists.",
					now(`sum(increase(sluice_restore_answers_total{n,answer="unknown"}[1h]))`, "")).from(0, green).from(0.5, red).alert("SluiceRestoreUnknown").wide(12),
				number("Files handed back", "none", "WAL files handed back within an hour.", now(`sum(increase(sluice_restore_answers_total{n,answer="file"}[1h]))`, "")).wide(12),
				lines("What is answered to requests for WAL?", "ops", "file, absent (it does not exist), unknown (could not find out: a recovery stops there).",
					q(`sum by (answer) (rate(sluice_restore_answers_total{n}[i]))`, "{{answer}}")).stack(),
				lines("Which node cannot find out?", "none", "Answers unknown within five minutes, by node.",
					q(`sum by (instance) (increase(sluice_restore_answers_total{n,answer="unknown"}[5m]))`, "{{instance}}")).from(0.5, red).alert("SluiceRestoreUnknown"),
				lines("How long does a WAL file take?", "s", "Requests for WAL files, whole.",
					quantiles(httpTime, `{n,route=~".*/wal/.*"}`)...).latency().empty("nobody asks for WAL", HandBack),
				lines("How long do reads of object storage take?", "s", "95th percentile of get and head: what a restore of old WAL waits for.",
					quantile(0.95, storeOps, `{n,operation=~"get|head"}`, "operation", "{{operation}}")).latency().empty("nothing is read", HandBack),
				lines("Who reads local WAL for long?", "bytes", "Local WAL that stays because somebody reads it.", q(`sluice_wal_retained_bytes{n,reason="reader"}`, "{{instance}}")).
					from(1073741824, red).alert("SluiceReaderHoldsWAL"),
			}},
			{"Does the HTTP interface answer?", []*Panel{
				lines("Which requests come?", "reqps", "Requests a second, by route.", q(countRate(httpTime, "{n}", "route"), "{{route}}")).stack(),
				lines("How are requests answered?", "reqps", "Answers a second, by status. 404 to a request for WAL means: it does not exist.", q(countRate(httpTime, "{n}", "code"), "{{code}}")).stack(),
				lines("Which requests fail?", "reqps", "Answers with a status of 500 or more, by route. 503 to a request for WAL means: could not find out. /readyz is left out: it fails while a node starts.",
					q(countRate(httpTime, `{n,code=~"5..",route!="/readyz"}`, "route, method, code"), "{{method}} {{route}} {{code}}")).empty("none does", Deletion),
				lines("How long do requests take?", "s", "99th percentile, by route and method. A deletion that is waited for takes as long as it takes.",
					quantile(0.99, httpTime, "{n}", "route, method", "{{method}} {{route}}")).latency(),
				lines("Which requests are being answered?", "none", "Requests that hold the http gate now, and the age of the oldest is on Gates and shutdowns.",
					q(`sum by (instance) (sluice_gate_holders{n,gate="http"})`, "{{instance}}")),
				lines("Are requests refused because a node stops?", "reqps", "Requests a second that came after the node stopped to answer.",
					q(`sum by (instance) (rate(sluice_gate_entries_total{n,gate="http",result="refused"}[i]))`, "{{instance}}")),
			}},
		},
	}
}
