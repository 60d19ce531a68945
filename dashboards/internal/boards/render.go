package boards

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// tag finds the dashboards of Sluice.
const tag = "sluice"

// runbooks is where the runbooks are, with a slash at the end.
const runbooks = "https://github.com/sluicewal/sluice/blob/main/dashboards/runbooks/"

var prometheus = sourceJSON{"prometheus", "${datasource}"}

// FullTitle is the dashboard's title among those of others.
func (b *Board) FullTitle() string { return "Sluice / " + b.Title }

// JSON is the dashboard as Grafana reads it.
func (b *Board) JSON() ([]byte, error) {
	d := dashboardJSON{
		UID: "sluice-" + b.File, Title: b.FullTitle(), Description: b.Text, Tags: []string{tag}, SchemaVersion: 39,
		Editable: true, GraphTooltip: 1, Refresh: "10s", Time: timeJSON{"now-1h", "now"}, Timezone: "browser",
		Templating: listJSON{b.variables()}, Annotations: listJSON{annotations()},
		Links:  b.links(),
		Panels: b.layout(),
	}
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(d); err != nil {
		return nil, fmt.Errorf("dashboard %s: %w", b.File, err)
	}
	return buf.Bytes(), nil
}

// links lead to the other dashboards; of one timeline also to its traces and its log records.
func (b *Board) links() []linkJSON {
	list := []linkJSON{{Title: "Sluice", Type: "dashboards", Tags: []string{tag}, AsDropdown: true, IncludeVars: true, KeepTime: true}}
	if !b.OneTimeline {
		return list
	}
	return append(list,
		linkJSON{Title: "Its traces", Type: "link", TargetBlank: true, URL: tracesURL("", map[string]string{"tenant": "${tenant}", "timeline": "${timeline}"})},
		linkJSON{Title: "Its log", Type: "link", TargetBlank: true, URL: exploreURL("${loki}", map[string]any{
			"refId": "A", "datasource": map[string]string{"type": "loki", "uid": "${loki}"},
			"expr": "{service_name=\"sluice\"} | json | tenant=`${tenant}` | timeline=`${timeline}`",
		})})
}

// variables: no data source's id is in a dashboard, each is chosen by its type.
func (b *Board) variables() []any {
	list := []any{
		variableJSON{Name: "datasource", Label: "Prometheus", Type: "datasource", Query: "prometheus", Current: map[string]any{}},
		variableJSON{Name: "jaeger", Label: "Jaeger", Type: "datasource", Query: "jaeger", Current: map[string]any{}},
		b.variable("node", "Node", "label_values(sluice_build_info, instance)", true),
		b.variable("tenant", "Tenant", `label_values(sluice_timeline_state{instance=~"$node"}, tenant)`, !b.OneTimeline),
		b.variable("timeline", "Timeline", `label_values(sluice_timeline_state{instance=~"$node",tenant=~"$tenant"}, timeline)`, !b.OneTimeline),
	}
	if b.OneTimeline {
		list = append(list, variableJSON{Name: "loki", Label: "Logs", Type: "datasource", Query: "loki", Current: map[string]any{}})
	}
	return list
}

func (b *Board) variable(name, label, query string, all bool) variableJSON {
	v := variableJSON{
		Name: name, Label: label, Type: "query", Query: map[string]any{"query": query, "refId": "variable-" + name}, Definition: query,
		Datasource: &prometheus, Current: map[string]any{}, Refresh: 2, Sort: 1,
	}
	if all {
		v.Multi, v.IncludeAll, v.AllValue = true, true, ".*"
		v.Current = map[string]any{"text": []string{"All"}, "value": []string{"$__all"}}
	}
	return v
}

// annotated are what else happened: restarts, shutdowns, alerts.
func annotated() []annotationJSON {
	return []annotationJSON{
		{
			Name: "Restarts", Enable: true, IconColor: blue, Datasource: prometheus, Step: "30s", UseValueForTime: true,
			Expr:        `process_start_time_seconds{instance=~"$node"} * 1000 and on (instance) sluice_build_info`,
			TitleFormat: "{{instance}} started",
		},
		{
			Name: "Shutdowns", Enable: true, IconColor: orange, Datasource: prometheus, Step: "5s",
			Expr: `sluice_node_stage{instance=~"$node",stage=~"stopping: .*"}`, TitleFormat: "{{instance}} stops", TextFormat: "{{stage}}",
		},
		{
			Name: "Alerts", Enable: true, IconColor: red, Datasource: prometheus, Step: "30s",
			Expr:        `ALERTS{alertname=~"Sluice.*",alertstate="firing"}`,
			TitleFormat: "{{alertname}}", TextFormat: "{{severity}} {{tenant}}/{{timeline}} {{instance}}",
		},
	}
}

// Annotations are the expressions of the annotations; they are the same on all dashboards.
func Annotations() []string {
	var list []string
	for _, a := range annotated() {
		list = append(list, a.Expr)
	}
	return list
}

func annotations() []any {
	var list []any
	for _, a := range annotated() {
		list = append(list, a)
	}
	return list
}

// layout places the panels in rows of 24 columns.
func (b *Board) layout() []*panelJSON {
	var list []*panelJSON
	id, y := 0, 0
	add := func(p *panelJSON) { id++; p.ID = id; list = append(list, p) }
	for _, row := range b.Rows {
		open := false
		add(&panelJSON{Type: "row", Title: row.Title, GridPos: gridJSON{0, y, 24, 1}, Collapsed: &open, Panels: &[]panelJSON{}})
		y++
		x, height := 0, 0
		for _, p := range row.Panels {
			if x+p.w > 24 {
				x, y, height = 0, y+height, 0
			}
			j := p.render()
			j.GridPos = gridJSON{x, y, p.w, p.h}
			add(j)
			x, height = x+p.w, max(height, p.h)
		}
		y += height
	}
	return list
}

func (p *Panel) render() *panelJSON {
	j := &panelJSON{
		Type: p.Kind, Title: p.Title, Description: p.Description(), Datasource: &prometheus,
		FieldConfig: &fieldConfigJSON{Defaults: p.field(), Overrides: p.overrides()}, Options: p.options(),
	}
	for i, query := range p.Queries {
		t := targetJSON{
			RefID: string(rune('A' + i)), Datasource: prometheus, Expr: query.Expr, LegendFormat: query.Legend,
			Instant: query.Instant, Range: !query.Instant, Exemplar: p.exemplars && !query.Instant, EditorMode: "code",
		}
		if p.Kind == "table" {
			t.Format = "table"
		}
		j.Targets = append(j.Targets, t)
	}
	if p.Kind == "table" {
		j.Transformations = p.tableColumns()
	}
	if p.Alert != "" {
		j.Links = append(j.Links, linkJSON{Title: "Runbook: " + p.Alert, URL: runbooks + p.Alert + ".md", TargetBlank: true})
	}
	return j
}

func (p *Panel) field() fieldJSON {
	f := fieldJSON{
		Unit: p.Unit, Color: map[string]any{"mode": "palette-classic"}, Links: p.links(), Mappings: p.mappings(),
		Thresholds: thresholdsJSON{Mode: "absolute", Steps: p.thresholdSteps()},
	}
	if !p.signed {
		f.Min = new(float64)
	}
	switch p.Kind {
	case "timeseries":
		f.Custom = map[string]any{"fillOpacity": 0, "lineWidth": 1, "showPoints": "never", "spanNulls": false}
		if p.stacked {
			f.Custom["stacking"] = map[string]any{"mode": "normal", "group": "A"}
			f.Custom["fillOpacity"] = 40
		}
		if p.Unit == "percentunit" || p.Unit == "none" || p.Unit == "ops" || p.Unit == "reqps" {
			f.Custom["axisSoftMax"] = 1 // where all is 0, Grafana would show an axis up to 100, of shares up to 10000%
		}
		if len(p.steps) > 0 {
			f.Custom["thresholdsStyle"] = map[string]any{"mode": "dashed"}
		}
	case "table":
		f.Custom = map[string]any{"minWidth": 80} // Grafana's 150 would push the last of six columns out of sight
		f.Color = map[string]any{"mode": "thresholds"}
	case "stat":
		if p.Unit == "none" {
			f.Decimals = new(int) // counts: what increase() makes up between two scrapes is no event
		}
		f.Color = map[string]any{"mode": "thresholds"}
	default:
		f.Color = map[string]any{"mode": "thresholds"}
	}
	if p.Empty != "" {
		f.NoValue = "none"
	}
	return f
}

func (p *Panel) thresholdSteps() []stepJSON {
	base := green
	if p.Kind == "table" || len(p.steps) == 0 {
		base = "text"
	}
	steps := []stepJSON{{Color: base}}
	for _, s := range p.steps {
		steps = append(steps, stepJSON{s.color, &s.value})
	}
	return steps
}

func (p *Panel) mappings() []any {
	list := []any{}
	for i, s := range p.states {
		list = append(list, map[string]any{"type": "value", "options": map[string]any{
			s.value: map[string]any{"text": s.word, "color": s.color, "index": i},
		}})
	}
	return list
}

func (p *Panel) options() map[string]any {
	reduce := map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false}
	switch p.Kind {
	case "timeseries":
		return map[string]any{
			"legend":  map[string]any{"displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": []string{"lastNotNull", "max"}, "sortBy": "Last *", "sortDesc": true},
			"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
		}
	case "stat":
		return map[string]any{"reduceOptions": reduce, "colorMode": "value", "graphMode": "none", "textMode": p.textMode(), "justifyMode": "auto", "orientation": "auto"}
	case "state-timeline":
		return map[string]any{
			"mergeValues": true, "showValue": "auto", "alignValue": "left", "rowHeight": 0.8,
			"legend": map[string]any{"displayMode": "list", "placement": "bottom", "showLegend": true}, "tooltip": map[string]any{"mode": "single", "sort": "none"},
		}
	}
	return map[string]any{"showHeader": true, "cellHeight": "sm"}
}

// tableColumns leaves the columns that are named, and the value under its header, if that says something.
func (p *Panel) tableColumns() []transformationJSON {
	names, headers := p.columns, map[string]any{}
	if p.value != "" {
		names, headers = append(slices.Clone(names), "Value"), map[string]any{"Value": p.value}
	}
	order := map[string]any{}
	for i, name := range names {
		order[name] = i
	}
	return []transformationJSON{
		{"filterFieldsByName", map[string]any{"include": map[string]any{"names": names}}},
		{"organize", map[string]any{"indexByName": order, "renameByName": headers, "excludeByName": map[string]any{}}},
	}
}

// textMode is what a number shows.
func (p *Panel) textMode() string {
	if p.named {
		return "name"
	}
	return "auto"
}

// overrides let a table's values have the colour of their threshold, and a limit be told from what it limits.
func (p *Panel) overrides() []any {
	switch {
	case p.Kind == "table" && p.value != "" && len(p.steps) > 0:
		return []any{override("byName", p.value, property{"custom.cellOptions", map[string]any{"type": "color-text"}})}
	case p.Kind == "timeseries" && slices.ContainsFunc(p.Queries, func(q Query) bool { return strings.HasSuffix(q.Legend, limitSuffix) }):
		return []any{override("byRegexp", "/"+limitSuffix+"$/", property{"custom.lineStyle", map[string]any{"fill": "dash", "dash": []int{10, 10}}})}
	}
	return []any{}
}

// limitSuffix ends the legend of what is a limit.
const limitSuffix = " limit"

// A property is what an override sets.
type property struct {
	ID    string `json:"id"`
	Value any    `json:"value"`
}

func override(matcher, of string, properties ...property) any {
	return map[string]any{"matcher": map[string]any{"id": matcher, "options": of}, "properties": properties}
}

// links lead from a series to what there is to know about it.
func (p *Panel) links() []linkJSON {
	var list []linkJSON
	if p.perTimeline {
		list = append(list,
			linkJSON{Title: "This timeline", URL: "/d/sluice-timeline?${datasource:queryparam}&${jaeger:queryparam}&var-tenant=" + p.label("tenant") + "&var-timeline=" + p.label("timeline") + "&${__url_time_range}"},
			linkJSON{Title: "Its traces", URL: tracesURL(p.Operation, map[string]string{"tenant": p.label("tenant"), "timeline": p.label("timeline")}), TargetBlank: true})
	} else if p.Operation != "" {
		list = append(list, linkJSON{Title: "Traces: " + p.Operation, URL: tracesURL(p.Operation, nil), TargetBlank: true})
	}
	if p.Alert != "" {
		list = append(list, linkJSON{Title: "Runbook: " + p.Alert, URL: runbooks + p.Alert + ".md", TargetBlank: true})
	}
	return list
}

// label is how a link refers to a label of what was clicked: in a table the labels are columns.
func (p *Panel) label(name string) string {
	if p.Kind == "table" {
		return "${__data.fields." + name + "}"
	}
	return "${__field.labels." + name + "}"
}

// tracesURL opens a search in Jaeger, in the dashboard's time range.
func tracesURL(operation string, tags map[string]string) string {
	query := map[string]any{"refId": "A", "queryType": "search", "service": "sluice", "datasource": map[string]string{"type": "jaeger", "uid": "${jaeger}"}}
	if operation != "" {
		query["operation"] = operation
	}
	if len(tags) > 0 {
		query["tags"] = "tenant=" + tags["tenant"] + " timeline=" + tags["timeline"]
	}
	return exploreURL("${jaeger}", query)
}

func exploreURL(source string, query map[string]any) string {
	pane := map[string]any{"t": map[string]any{
		"datasource": source, "queries": []any{query}, "range": map[string]string{"from": "${__from}", "to": "${__to}"},
	}}
	text, err := json.Marshal(pane)
	if err != nil {
		panic(err) // strings and maps of them
	}
	// Grafana puts the variables in; it knows them unescaped only.
	escaped := strings.NewReplacer("%24%7B", "${", "%7D", "}").Replace(url.QueryEscape(string(text)))
	return "/explore?schemaVersion=1&orgId=1&panes=" + closeBraces(escaped)
}

// closeBraces escapes the closing braces again that end no variable.
func closeBraces(s string) string {
	var b strings.Builder
	inside := false
	for i := range len(s) {
		switch {
		case strings.HasPrefix(s[i:], "${"):
			inside = true
		case s[i] == '}' && !inside:
			b.WriteString("%7D")
			continue
		case s[i] == '}':
			inside = false
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
