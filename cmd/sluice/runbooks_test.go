package main

import (
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sluicewal/sluice/dashboards"
	"github.com/sluicewal/sluice/internal/keeper"
	"github.com/sluicewal/sluice/telemetry"
)

// sluiceCommand is a command with at least one word behind it, as runbooks have them: in a block, or between backticks.
var sluiceCommand = regexp.MustCompile("(?m)(?:^\\$ |`)sluice ([^`\n]+)")

// Whoever follows a runbook at night does not find out then that a flag has another name.
func TestRunbooksCommandsAreVerbs(t *testing.T) {
	files, err := fs.Glob(dashboards.Files, "runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range files {
		text, err := fs.ReadFile(dashboards.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range sluiceCommand.FindAllStringSubmatch(string(text), -1) {
			found++
			checkCommand(t, name, m[1])
		}
	}
	if found < 60 {
		t.Errorf("only %d commands were found", found)
	}
}

// checkCommand parses a command; a verb that is only named needs no arguments.
func checkCommand(t *testing.T, file, command string) {
	t.Helper()
	parser, err := newParser(io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(words(command)); err != nil && !strings.HasPrefix(err.Error(), "missing flags") && !strings.HasPrefix(err.Error(), "expected ") {
		t.Errorf("%s: sluice %s: %v", file, command, err)
	}
}

// words splits a command as a shell would, as far as runbooks go.
func words(command string) []string {
	var list []string
	for _, m := range regexp.MustCompile(`'([^']*)'|(\S+)`).FindAllStringSubmatch(command, -1) {
		list = append(list, m[1]+m[2])
	}
	return list
}

// The catalogue's closed lists are what the parts that emit the values have.
func TestClosedListsOfTheCatalogue(t *testing.T) {
	values := telemetry.Catalog().Values
	var stages []string
	for _, s := range (&process{}).shutdown() {
		stages = append(stages, s.name)
	}
	if got := values["sluice_shutdown_stage_seconds"]["stage"]; !slices.Equal(got, stages) {
		t.Errorf("the catalogue has the stages %v, a shutdown %v", got, stages)
	}
	got := slices.Sorted(slices.Values(values["sluice_timeline_source_state"]["state"]))
	if want := slices.Sorted(slices.Values(keeper.SourceStates())); !slices.Equal(got, want) {
		t.Errorf("the catalogue has the states of a source %v, the keeper %v", got, want)
	}
}
