package boards

// What follows is the part of Grafana's dashboard model (schema 39, Grafana 10.4 and later) that is used.

type dashboardJSON struct {
	UID           string       `json:"uid"`
	Title         string       `json:"title"`
	Description   string       `json:"description"`
	Tags          []string     `json:"tags"`
	SchemaVersion int          `json:"schemaVersion"`
	Editable      bool         `json:"editable"`
	GraphTooltip  int          `json:"graphTooltip"` // 1: the crosshair is shared
	Refresh       string       `json:"refresh"`
	Time          timeJSON     `json:"time"`
	Timezone      string       `json:"timezone"`
	Templating    listJSON     `json:"templating"`
	Annotations   listJSON     `json:"annotations"`
	Links         []linkJSON   `json:"links"`
	Panels        []*panelJSON `json:"panels"`
}

type timeJSON struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type listJSON struct {
	List []any `json:"list"`
}

type sourceJSON struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type variableJSON struct {
	Name       string      `json:"name"`
	Label      string      `json:"label"`
	Type       string      `json:"type"`
	Query      any         `json:"query"`
	Datasource *sourceJSON `json:"datasource,omitempty"`
	Definition string      `json:"definition,omitempty"`
	Multi      bool        `json:"multi"`
	IncludeAll bool        `json:"includeAll"`
	AllValue   string      `json:"allValue,omitempty"`
	Current    any         `json:"current"`
	Refresh    int         `json:"refresh,omitempty"` // 2: when the time range changes
	Sort       int         `json:"sort,omitempty"`
}

type annotationJSON struct {
	Name            string     `json:"name"`
	Enable          bool       `json:"enable"`
	IconColor       string     `json:"iconColor"`
	Datasource      sourceJSON `json:"datasource"`
	Expr            string     `json:"expr"`
	Step            string     `json:"step,omitempty"`
	TitleFormat     string     `json:"titleFormat"`
	TextFormat      string     `json:"textFormat,omitempty"`
	UseValueForTime bool       `json:"useValueForTime,omitempty"`
}

type linkJSON struct {
	Title       string   `json:"title"`
	URL         string   `json:"url,omitempty"`
	Type        string   `json:"type,omitempty"`
	Tags        []string `json:"tags,omitempty"`
	AsDropdown  bool     `json:"asDropdown,omitempty"`
	IncludeVars bool     `json:"includeVars,omitempty"`
	KeepTime    bool     `json:"keepTime,omitempty"`
	TargetBlank bool     `json:"targetBlank,omitempty"`
}

type gridJSON struct {
	X int `json:"x"`
	Y int `json:"y"`
	W int `json:"w"`
	H int `json:"h"`
}

type panelJSON struct {
	ID              int                  `json:"id"`
	Type            string               `json:"type"`
	Title           string               `json:"title"`
	Description     string               `json:"description,omitempty"`
	GridPos         gridJSON             `json:"gridPos"`
	Datasource      *sourceJSON          `json:"datasource,omitempty"`
	Targets         []targetJSON         `json:"targets,omitempty"`
	FieldConfig     *fieldConfigJSON     `json:"fieldConfig,omitempty"`
	Options         map[string]any       `json:"options,omitempty"`
	Transformations []transformationJSON `json:"transformations,omitempty"`
	Links           []linkJSON           `json:"links,omitempty"`
	Collapsed       *bool                `json:"collapsed,omitempty"`
	Panels          *[]panelJSON         `json:"panels,omitempty"` // of a row: none while it is open, but there
}

type targetJSON struct {
	RefID        string     `json:"refId"`
	Datasource   sourceJSON `json:"datasource"`
	Expr         string     `json:"expr"`
	LegendFormat string     `json:"legendFormat"`
	Instant      bool       `json:"instant,omitempty"`
	Range        bool       `json:"range,omitempty"`
	Format       string     `json:"format,omitempty"`
	Exemplar     bool       `json:"exemplar,omitempty"`
	EditorMode   string     `json:"editorMode"`
}

type fieldConfigJSON struct {
	Defaults  fieldJSON `json:"defaults"`
	Overrides []any     `json:"overrides"`
}

type fieldJSON struct {
	Unit       string         `json:"unit"`
	Decimals   *int           `json:"decimals,omitempty"`
	Min        *float64       `json:"min,omitempty"`
	Color      map[string]any `json:"color,omitempty"`
	Thresholds thresholdsJSON `json:"thresholds"`
	Mappings   []any          `json:"mappings"`
	Links      []linkJSON     `json:"links,omitempty"`
	Custom     map[string]any `json:"custom,omitempty"`
	NoValue    string         `json:"noValue,omitempty"`
}

type thresholdsJSON struct {
	Mode  string     `json:"mode"`
	Steps []stepJSON `json:"steps"`
}

type stepJSON struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"`
}

type transformationJSON struct {
	ID      string         `json:"id"`
	Options map[string]any `json:"options"`
}
