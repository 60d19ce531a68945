package rig

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Allowed is a log line above info that a test's fault explains.
type Allowed struct {
	Message *regexp.Regexp // matched against the line's message and its error
	Because string         // the fault, and why the line is right
}

// SourceGone explains what a node says when its source is killed, restarted or
// away. Every failover begins with that.
var SourceGone = []Allowed{{
	regexp.MustCompile(`^task failed, will be tried again: ` +
		`(the source (closed|was|is) |(read from|write to|ask|connect to) the source: |(SHOW|IDENTIFY_SYSTEM|START_REPLICATION)\b.*: (conn closed|FATAL: terminating connection due to administrator command))`),
	"the test killed or stopped the primary, or cut its connections",
}}

// Refused explains what a node says of a source that it has to refuse.
var Refused = Allowed{
	regexp.MustCompile(`^task failed, will be tried again: .*source refused: `),
	"the test points the node at a server that could damage what is kept",
}

// Unexpected scans a node's log and returns each line that no fault explains:
// warnings and errors, and whatever is no JSON (a panic, a data race).
func Unexpected(logFile string, allowed []Allowed) ([]string, error) {
	f, err := os.Open(logFile)
	if os.IsNotExist(err) {
		return nil, nil // it was never started
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if !expected(lines.Text(), allowed) {
			found = append(found, lines.Text())
		}
	}
	return found, lines.Err()
}

func expected(line string, allowed []Allowed) bool {
	var l struct {
		Level string `json:"level"`
		Msg   string `json:"msg"`
		Error string `json:"error"`
	}
	if err := json.Unmarshal([]byte(line), &l); err != nil {
		return false
	}
	if level := strings.ToLower(l.Level); level == "info" || level == "debug" {
		return true
	}
	text := fmt.Sprintf("%s: %s", l.Msg, l.Error)
	return slices.ContainsFunc(allowed, func(a Allowed) bool { return a.Message.MatchString(text) })
}

// Tail returns the last n lines of a file, for an error's text. Those of a node
// that are for debugging are left out: they are many.
func Tail(file string, n int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, `"level":"DEBUG"`) })
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
