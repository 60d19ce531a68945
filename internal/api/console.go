package api

import (
	"bytes"
	_ "embed" // the console's page
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"time"

	"github.com/sluicewal/sluice/internal/timeline"
)

//go:embed console.html
var consolePage string

// A console is the page at /, for people: one page without scripts, which loads nothing from anywhere.
type console struct{ page *template.Template }

func newConsole() *console {
	funcs := template.FuncMap{"ago": ago, "size": size, "tone": tone}
	return &console{template.Must(template.New("console").Funcs(funcs).Parse(consolePage))}
}

// consoleView is what the page shows.
type consoleView struct {
	Node    NodeInfo
	NotNow  string // why the node is not ready
	Tenants []consoleTenant
	Gates   []ClosingGate
}

type consoleTenant struct {
	Tenant
	Timelines []timeline.Status
}

func (s *Server) serveConsole(w http.ResponseWriter, r *http.Request) {
	var page bytes.Buffer
	if err := s.console.page.Execute(&page, s.consoleView()); err != nil {
		s.log.LogAttrs(r.Context(), slog.LevelError, "console not rendered", slog.Any("error", err))
		writeProblem(w, Errorf(KindInternal, "the console could not be rendered: %w", err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("Cache-Control", "no-store")
	_, _ = page.WriteTo(w) // the client's loss
}

func (s *Server) consoleView() consoleView {
	v := consoleView{Node: s.node.Info(), Gates: s.node.Gates()}
	if err := s.node.Ready(); err != nil {
		v.NotNow = err.Error()
	}
	for _, t := range s.node.Tenants() {
		// A tenant that went away just now has no timelines.
		timelines, _ := s.node.Timelines(timeline.TenantID(t.Name))
		for i := range timelines {
			timelines[i] = presentable(timelines[i])
		}
		v.Tenants = append(v.Tenants, consoleTenant{t, timelines})
	}
	return v
}

// ago says how long something has lasted, as people say it.
func ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	switch d := time.Since(t); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d d", int(d.Hours()/24))
	}
}

// size writes bytes in a unit that fits.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	x, names := float64(n)/unit, "KMGT"
	for x >= unit && len(names) > 1 {
		x, names = x/unit, names[1:]
	}
	return fmt.Sprintf("%.1f %ciB", x, names[0])
}

// tone is how a timeline looks at a glance: ok, warn or bad.
func tone(t timeline.Status) string {
	switch {
	case t.State == string(timeline.StateBroken), t.Source.State == "refused", t.Source.State == "missing_wal", t.Source.State == "poisoned", t.Source.State == "ended":
		return "bad"
	case t.State != string(timeline.StateRunning), !t.Source.Connected, !t.Quorum.Synchronous, t.Seal != nil, len(t.Diverged) > 0:
		return "warn"
	}
	return "ok"
}
