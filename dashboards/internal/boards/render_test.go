package boards

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

// Grafana puts variables into a link before it reads it: they have to be there as they are, and all else as in a URL.
func TestLinksAreURLsAroundVariables(t *testing.T) {
	link := tracesURL("gate.close.wait", map[string]string{"tenant": "${__field.labels.tenant}", "timeline": "${__field.labels.timeline}"})
	for _, variable := range []string{"${jaeger}", "${__from}", "${__to}", "${__field.labels.tenant}", "${__field.labels.timeline}"} {
		if !strings.Contains(link, variable) {
			t.Errorf("%s is not in %s", variable, link)
		}
	}
	filled := strings.NewReplacer("${jaeger}", "j", "${__from}", "1", "${__to}", "2", "${__field.labels.tenant}", "acme", "${__field.labels.timeline}", "main").Replace(link)
	u, err := url.Parse(filled)
	if err != nil {
		t.Fatal(err)
	}
	var panes map[string]struct {
		Datasource string
		Queries    []struct{ Service, Operation, Tags string }
		Range      struct{ From, To string }
	}
	if err := json.Unmarshal([]byte(u.Query().Get("panes")), &panes); err != nil {
		t.Fatalf("%v in %s", err, filled)
	}
	pane := panes["t"]
	if len(pane.Queries) != 1 || pane.Queries[0].Tags != "tenant=acme timeline=main" || pane.Queries[0].Operation != "gate.close.wait" ||
		pane.Datasource != "j" || pane.Range.From != "1" {
		t.Errorf("the link asks for %+v", pane)
	}
}

func TestPanelsDoNotOverlap(t *testing.T) {
	for _, b := range All() {
		taken := map[[2]int]string{}
		for _, p := range b.layout() {
			g := p.GridPos
			if g.X+g.W > 24 {
				t.Errorf("%s: %s does not fit", b.File, p.Title)
			}
			for x := g.X; x < g.X+g.W; x++ {
				for y := g.Y; y < g.Y+g.H; y++ {
					if other, ok := taken[[2]int{x, y}]; ok {
						t.Fatalf("%s: %s lies over %s", b.File, p.Title, other)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
		}
	}
}
