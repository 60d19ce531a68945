package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// printJSON prints an answer for programs.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// print prints v as JSON, or as a table if that is wanted.
func (s shown) print(w io.Writer, v any, table func(*rows)) error {
	if s.Output == "json" {
		return printJSON(w, v)
	}
	r := &rows{tw: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	table(r)
	return r.tw.Flush()
}

// rows are the rows of a table.
type rows struct{ tw *tabwriter.Writer }

// add adds a row. Its cells hold no line breaks: an error's text may.
func (r *rows) add(cells ...any) {
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = strings.Join(strings.Fields(fmt.Sprint(c)), " ")
	}
	fmt.Fprintln(r.tw, strings.TrimRight(strings.Join(texts, "\t"), "\t"))
}

// field adds a row of a list of names and values; an empty value is left out.
func (r *rows) field(name string, value any) {
	if text := fmt.Sprint(value); text != "" {
		r.add(name, text)
	}
}

// since says how long ago something began, as people say it.
func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	switch d := time.Since(t); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d d", int(d.Hours()/24))
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
